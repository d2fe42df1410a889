"""How sure a mean or a difference of means over questions is. Pure functions; numpy only; the seed decides all.

Paired randomisation tests and bootstraps over questions are what Smucker, Allan and Carterette (2007) found to agree
for retrieval experiments; Holm (1979) corrects for several measures tested at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

RESAMPLES = 10_000
_CELLS = 2_000_000  # random numbers held at a time


def mean_interval(
    values: Sequence[float], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The bootstrap percentile interval of the mean of at least one value: (low, high)."""
    data = np.asarray(values, dtype=np.float64)
    if (data == data[0]).all():
        return float(data[0]), float(data[0])
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [data[rng.integers(0, data.size, (rows, data.size))].mean(axis=1) for rows in _portions(resamples, data.size)]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_p_value(differences: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """The two-sided p-value of Fisher's paired randomisation test, from random sign flips: in (0, 1].

    ``differences`` are one per question. The p-value is never 0: the smallest is ``1 / (resamples + 1)``.
    """
    data = np.asarray(differences, dtype=np.float64)
    data = data[data != 0]  # a sign does nothing to them
    if not data.size:
        return 1.0
    rng = np.random.default_rng(seed)
    # Sums of the same numbers in another order differ in the last bits.
    observed = abs(data.sum()) * (1 - 1e-12)
    extreme = 0
    for rows in _portions(resamples, data.size):
        signs = rng.integers(0, 2, (rows, data.size), dtype=np.int8).astype(np.float64) * 2 - 1
        extreme += int((np.abs(signs @ data) >= observed).sum())
    return (extreme + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for being tested together (Holm's step-down), in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for step, i in enumerate(order):
        largest = max(largest, min(1.0, p_values[i] * (len(p_values) - step)))
        adjusted[i] = largest
    return adjusted


def _portions(rows: int, width: int) -> Iterator[int]:
    each = max(1, _CELLS // width)
    while rows > 0:
        yield min(each, rows)
        rows -= each
