"""Chooses ``retrieval.min_relevance`` by questions that the corpus answers and does not answer. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragstack.evaluation.report import ReportModel
from ragstack.evaluation.significance import mean_interval
from ragstack.evaluation.tuning.selection import folds_of

_FEWEST = 5
_DIGITS = 3


class RefusalChoice(ReportModel):
    """A threshold with the balanced accuracy of refusing by it, on questions that it was not chosen by.

    Balanced accuracy is the mean of two shares: answerable questions answered, unanswerable ones refused. ``own`` is
    that of the config's threshold. ``low`` to ``high`` is the 95% interval of the difference; ``is_better``: it is
    above 0.
    """

    min_relevance: float
    own: float
    held_out: float
    low: float
    high: float
    is_better: bool


def choose_min_relevance(
    relevance: Sequence[float],
    answerable: Sequence[bool],
    refused: Sequence[bool],
    groups: Sequence[str],
    folds: int,
    seed: int,
) -> RefusalChoice | None:
    """The threshold that tells the two kinds apart best; None with fewer than five questions of either kind.

    ``relevance`` is each question's largest, ``refused`` whether the config's own threshold refuses it.
    """
    values, kinds = np.asarray(relevance), np.asarray(answerable)
    if min(kinds.sum(), (~kinds).sum()) < _FEWEST:
        return None
    fold_of = np.array(folds_of(groups, folds, seed))
    right = np.empty(len(values), dtype=bool)
    for fold in range(int(fold_of.max()) + 1):
        outside = fold_of == fold
        threshold = _best_threshold(values[~outside], kinds[~outside])
        right[outside] = (values[outside] >= threshold) == kinds[outside]
    own_right = ~np.asarray(refused) == kinds
    # Each kind counts half, however many questions it has.
    weights = np.where(kinds, 0.5 / kinds.mean(), 0.5 / (~kinds).mean())
    low, high = mean_interval((weights * (right.astype(float) - own_right)).tolist(), seed=seed)
    return RefusalChoice(
        min_relevance=_best_threshold(values, kinds),
        own=float((weights * own_right).mean()),
        held_out=float((weights * right).mean()),
        low=low,
        high=high,
        is_better=low > 0,
    )


def _best_threshold(values: NDArray[np.float64], kinds: NDArray[np.bool_]) -> float:
    """In the middle of the gap between two neighbouring values at which the balanced accuracy is largest."""
    known = np.unique(values)
    thresholds = np.concatenate([known[:1], (known[1:] + known[:-1]) / 2, [min(known[-1] + 0.01, 1.0)]])
    if not kinds.any() or kinds.all():
        return round(float(thresholds[0] if kinds.all() else thresholds[-1]), _DIGITS)
    answered = np.searchsorted(np.sort(values[kinds]), thresholds, side="left")
    refused = np.searchsorted(np.sort(values[~kinds]), thresholds, side="left")
    accuracy = (1 - answered / kinds.sum() + refused / (~kinds).sum()) / 2
    best = np.flatnonzero(accuracy >= accuracy.max() - 1e-12)
    return round(float(thresholds[best[len(best) // 2]]), _DIGITS)
