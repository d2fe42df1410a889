"""Refusing what is too much, and saying when to come back."""

from __future__ import annotations

import pytest

from ragstack.api.admission import Gate, Throughput, TokenBudget
from ragstack.api.model_errors import ModelRequestError


def test_a_gate_counts_those_inside_also_when_they_fail() -> None:
    gate = Gate("embedding", 2)
    with gate.entered(lambda: 7), gate.entered(lambda: 7):
        with pytest.raises(ModelRequestError) as refused, gate.entered(lambda: 7):
            pytest.fail("a third was let in")
        assert (refused.value.fault, refused.value.retry_after_s) == ("overloaded", 7)
    with pytest.raises(KeyError), gate.entered(lambda: 7):
        raise KeyError
    assert gate.under_way == 0


def test_more_token_vectors_than_fit_are_refused_for_now_or_for_good() -> None:
    budget = TokenBudget(10)
    with budget.held(6, lambda: 3), budget.held(4, lambda: 3), budget.held(0, lambda: 3):
        with pytest.raises(ModelRequestError) as refused, budget.held(1, lambda: 3):
            pytest.fail("it does not fit")
        assert (refused.value.fault, refused.value.retry_after_s) == ("overloaded", 3)
        with pytest.raises(ModelRequestError) as refused, budget.held(11, lambda: 3):
            pytest.fail("it never fits")
        assert (refused.value.fault, refused.value.retry_after_s) == ("batch_too_large", None)
    assert budget.held_tokens == 0


def test_the_time_to_come_back_follows_the_measured_speed() -> None:
    now = [0.0]
    speed = Throughput(half_life_s=10, clock=lambda: now[0])
    assert speed.retry_after_s(10**9) == 1
    speed.add(1000, 1.0)
    assert speed.retry_after_s(500) == 1
    assert speed.retry_after_s(4500) == 5
    assert speed.retry_after_s(10**9) == 60
    now[0] = 1000.0  # long ago: only what is new counts
    speed.add(100, 1.0)
    assert speed.retry_after_s(500) == 5
