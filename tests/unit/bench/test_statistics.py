"""Percentiles against numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.bench.statistics import percentile, rate, summary_ms

SECONDS = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=200)


@given(SECONDS, st.floats(0, 100))
def test_a_percentile_is_numpys(values: list[float], percent: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, percent)
    assert found == pytest.approx(float(np.percentile(values, percent)), rel=1e-9, abs=1e-12)
    assert ordered[0] <= found <= ordered[-1]


@given(SECONDS)
def test_a_summary_is_in_milliseconds_and_in_order(values: list[float]) -> None:
    found = summary_ms(values)
    order = [found[name] for name in ("min", "p50", "p90", "p95", "p99", "max")]
    assert order == sorted(order)
    assert found["max"] == max(values) * 1e3
    assert found["mean"] == pytest.approx(float(np.mean(values)) * 1e3)


def test_by_hand() -> None:
    assert summary_ms([0.004, 0.001, 0.003, 0.002])["p50"] == pytest.approx(2.5)
    assert percentile([1.0, 2.0, 3.0, 4.0], 90) == pytest.approx(3.7)
    assert percentile([7.0], 99) == 7.0


def test_nothing_has_no_percentiles_and_no_rate() -> None:
    assert summary_ms([]) == {}
    assert rate(5, 0.0) == 0.0
    with pytest.raises(ValueError, match="0 values"):
        percentile([], 50)
    with pytest.raises(ValueError, match="101"):
        percentile([1.0], 101)
