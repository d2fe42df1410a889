"""Measures by hand, and what chance explains."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import MissingExtraError
from ragstack.evaluation.ask import Asked
from ragstack.evaluation.dataset import DocumentSpan, Question
from ragstack.evaluation.measures import citation_measures, ranking_measures, require_library
from ragstack.evaluation.significance import holm, mean_interval, paired_p_value


def test_ranking_measures_by_hand() -> None:
    questions = [
        Question("q1", "?", {"a": 2, "b": 1}),
        Question("q2", "?", {"a": 1}),
        Question("q3", "?", {"a": 1}),
        Question("q4", "?", {}),
    ]
    orders = {"q1": ["b", "x", "a"], "q2": [f"x{i}" for i in range(10)] + ["a"], "q3": []}
    found = ranking_measures(questions, orders)
    gain = (1 + 2 / math.log2(4)) / (2 + 1 / math.log2(3))
    assert found["q1"] == pytest.approx(
        {"nDCG@10": gain, "MRR@10": 1.0, "recall@5": 1, "recall@10": 1, "recall@50": 1, "recall@100": 1}
    )
    assert found["q2"] == pytest.approx(
        {"nDCG@10": 0, "MRR@10": 0, "recall@5": 0, "recall@10": 0, "recall@50": 1, "recall@100": 1}
    )
    assert set(found["q3"].values()) == {0.0}
    assert "q4" not in found


def test_the_order_counts_and_not_the_names() -> None:
    questions = [Question("q", "?", {"b": 1})]
    for order in (["a", "b", "c"], ["c", "b", "a"]):
        assert ranking_measures(questions, {"q": order})["q"]["MRR@10"] == 0.5


def test_citation_measures_by_hand() -> None:
    either = (DocumentSpan("d", 10, 20), DocumentSpan("d", 40, 50))
    question = Question("q", "?", {"d": 1}, pieces=(either, (DocumentSpan("d", 60, 70),)))
    other, touching, whole = DocumentSpan("e", 10, 20), DocumentSpan("d", 5, 15), DocumentSpan("d", 35, 55)
    asked = Asked(
        question, passages=(other, touching, whole), cited=(other, touching, whole, DocumentSpan("d", 70, 80))
    )
    assert citation_measures(asked) == pytest.approx(
        {"passage_recall@5": 0.5, "cited_recall": 0.5, "cited_precision": 0.5, "cited_document_precision": 0.75}
    )
    far = Asked(question, passages=(*[other] * 5, whole), cited=())
    assert citation_measures(far) == {"passage_recall@5": 0.0, "cited_recall": 0.0}
    assert citation_measures(Asked(Question("q", "?", {"d": 1}), cited=(whole,))) == {"cited_document_precision": 1.0}


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(MissingExtraError, match=r"ragstack\[eval\]"):
        require_library()


def test_no_difference_and_a_plain_one() -> None:
    assert paired_p_value([0.0] * 20) == 1.0
    assert paired_p_value([0.1] * 30) == pytest.approx(1 / 10_001)
    assert mean_interval([0.3] * 5) == (0.3, 0.3)


def test_the_randomisation_test_is_fishers() -> None:
    # 4 of the 16 sign patterns give a sum as large: ±(1 + 2 + 3), and with -1 no more.
    assert paired_p_value([1.0, 2.0, 3.0], resamples=20_000) == pytest.approx(2 / 8, abs=0.02)
    assert paired_p_value([-1.0, 2.0, 3.0], resamples=20_000) == pytest.approx(4 / 8, abs=0.02)


def test_under_the_null_small_p_values_are_as_rare_as_they_say() -> None:
    rng = np.random.default_rng(3)
    values = [paired_p_value(rng.normal(size=40).tolist(), resamples=400, seed=i) for i in range(400)]
    assert sum(p < 0.05 for p in values) / 400 == pytest.approx(0.05, abs=0.035)


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for i in range(300):
        low, high = mean_interval(rng.normal(1.0, 2.0, size=60).tolist(), resamples=500, seed=i)
        covered += low <= 1.0 <= high
    assert covered / 300 == pytest.approx(0.95, abs=0.045)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(0, 5))
def test_p_values_and_intervals_hold_together(values: list[float], seed: int) -> None:
    p = paired_p_value(values, resamples=200, seed=seed)
    assert 0 < p <= 1
    assert p == paired_p_value([-v for v in values], resamples=200, seed=seed)
    low, high = mean_interval(values, resamples=200, seed=seed)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12
    assert (low, high) == mean_interval(values, resamples=200, seed=seed)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=10))
def test_holm_only_raises_and_keeps_the_order(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(0 <= p <= a <= 1 for p, a in zip(values, adjusted, strict=True))
    pairs = sorted(zip(values, adjusted, strict=True))
    assert [a for _, a in pairs] == sorted(a for _, a in pairs)
