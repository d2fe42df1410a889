from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.inference.batching import PACKED_PADDING, padding_share, plan_batches

COUNTS = st.lists(st.integers(0, 600), max_size=200)


@given(COUNTS, st.integers(1, 2000), st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_every_text_is_in_one_batch_within_budget_and_padding(counts: list[int], budget: int, padding: float) -> None:
    batches = plan_batches(counts, budget, max_padding=padding)
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(counts)))
    for batch in batches:
        assert batch.dtype == np.int32
        cost = len(batch) * max(counts[i] for i in batch)
        assert cost <= budget or len(batch) == 1
        assert cost - sum(counts[i] for i in batch) <= padding * cost


@given(COUNTS, st.integers(1, 2000))
def test_longest_first(counts: list[int], budget: int) -> None:
    order = [counts[i] for batch in plan_batches(counts, budget) for i in batch.tolist()]
    assert order == sorted(counts, reverse=True)


@given(COUNTS, st.integers(600, 2000))
def test_batches_are_not_smaller_than_they_must_be(counts: list[int], budget: int) -> None:
    batches = plan_batches(counts, budget, max_padding=1.0)
    for batch, following in itertools.pairwise(batches):
        assert (len(batch) + 1) * max(counts[i] for i in batch) > budget
        assert len(following) > 0


@given(COUNTS)
def test_padding_share_is_what_is_run_beyond_the_texts(counts: list[int]) -> None:
    batches = plan_batches(counts, 512)
    run = sum(len(b) * max(counts[i] for i in b) for b in batches)
    assert padding_share(counts, batches) == pytest.approx(1 - sum(counts) / run if run else 0)
    assert padding_share(counts, batches) <= 0.05 + 1e-9


@pytest.mark.parametrize(
    ("counts", "budget", "padding", "message"),
    [([1], 0, 0.05, "max_batch_tokens"), ([1, -2], 8, 0.05, r"token_counts\[1\]"), ([1], 8, 1.5, "max_padding")],
)
def test_refuses_what_cannot_be_planned(counts: list[int], budget: int, padding: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_batches(counts, budget, max_padding=padding)


@given(COUNTS, st.integers(1, 2000))
def test_packed_texts_cost_their_tokens_alone(counts: list[int], budget: int) -> None:
    batches = plan_batches(counts, budget, packed=True)
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(counts)))
    for batch in batches:
        tokens, area = sum(counts[i] for i in batch), len(batch) * max(counts[i] for i in batch)
        assert tokens <= budget or len(batch) == 1
        # The result is an array with padding, whose size is bounded too.
        assert area - tokens <= PACKED_PADDING * area


def test_packed_texts_of_many_lengths_are_few_batches() -> None:
    counts = list(range(10, 522))
    assert len(plan_batches(counts, 131_072, packed=True)) <= 4 < len(plan_batches(counts, 131_072)) / 8
