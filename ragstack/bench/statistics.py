"""Percentiles of latencies, and rates. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

PERCENTILES = (50, 90, 95, 99)
METHOD = "linear interpolation between the two nearest ranks (Hyndman and Fan's type 7, numpy's default)"


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` (0 to 100) of the ``ordered`` values lie, interpolated (:data:`METHOD`).

    Raises ValueError for no values, or a share outside 0 to 100.
    """
    if not ordered or not 0 <= percent <= 100:
        raise ValueError(f"no percentile {percent} of {len(ordered)} values")
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    share = place - below
    # Weights that sum to 1 can leave the two values' range by a rounding; this form cannot.
    return min(ordered[below] + (ordered[above] - ordered[below]) * share, ordered[above])


def summary_ms(latencies_s: Iterable[float]) -> dict[str, float]:
    """Milliseconds: ``p50``, ``p90``, ``p95``, ``p99``, ``mean``, ``min``, ``max``; empty for no values."""
    ordered = sorted(value * 1e3 for value in latencies_s)
    if not ordered:
        return {}
    return {
        **{f"p{percent}": percentile(ordered, percent) for percent in PERCENTILES},
        "mean": sum(ordered) / len(ordered),
        "min": ordered[0],
        "max": ordered[-1],
    }


def rate(count: float, seconds: float) -> float:
    """``count`` a second; 0 where no time passed."""
    return count / seconds if seconds > 0 else 0.0
