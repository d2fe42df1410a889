"""Chooses settings by cross-validation. Pure functions over a table of scores, settings by questions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragstack.evaluation.significance import mean_interval, paired_p_value

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Selection:
    """What was chosen, and how it does on questions that it was not chosen by.

    ``choice`` is a row of the table, ``fold_choices`` those of each fold. ``held_out`` and ``own`` are means over all
    questions, each scored by the choice of the folds that left it out, and by row 0; ``low`` to ``high`` is the 95%
    interval of their difference, ``p_value`` of the paired randomisation test. ``is_better``: the interval is above 0.
    """

    choice: int
    fold_choices: tuple[int, ...]
    own: float
    held_out: float
    low: float
    high: float
    p_value: float

    @property
    def difference(self) -> float:
        """Held-out mean less the own one."""
        return self.held_out - self.own

    @property
    def is_better(self) -> bool:
        """True when noise does not explain the gain."""
        return self.low > 0


def folds_of(groups: Sequence[str], folds: int, seed: int) -> list[int]:
    """A fold for each question; those of one group (about one document) share it, so that nothing is learned of it."""
    order = sorted(set(groups))
    random.Random(seed).shuffle(order)
    fold_of = {group: i % folds for i, group in enumerate(order)}
    return [fold_of[group] for group in groups]


def choose(scores: Scores, changes: Sequence[int]) -> int:
    """The row with the fewest changes whose mean is within one standard error of the best row's.

    ``changes`` counts at how many keys a row differs from row 0. Settings that only luck tells apart are common; the
    one nearest to the config's own carries over best (the one-standard-error rule of Breiman et al. 1984).
    """
    means = scores.mean(axis=1)
    best = int(np.argmax(means))
    gaps = scores[best] - scores
    errors = gaps.std(axis=1, ddof=1) / np.sqrt(scores.shape[1]) if scores.shape[1] > 1 else np.zeros(len(scores))
    near = [row for row in range(len(scores)) if means[best] - means[row] <= errors[row] + 1e-12]
    return min(near, key=lambda row: (changes[row], -means[row], row))


def select(scores: Scores, changes: Sequence[int], groups: Sequence[str], folds: int, seed: int) -> Selection:
    """Choose on all questions, and measure the way of choosing on those that each fold leaves out."""
    fold_of = np.array(folds_of(groups, folds, seed))
    held_out = np.empty(scores.shape[1])
    choices = []
    for fold in range(int(fold_of.max()) + 1):
        outside = fold_of == fold
        choice = choose(scores[:, ~outside], changes)
        held_out[outside] = scores[choice, outside]
        choices.append(choice)
    differences = (held_out - scores[0]).tolist()
    low, high = mean_interval(differences, seed=seed)
    return Selection(
        choice=choose(scores, changes),
        fold_choices=tuple(choices),
        own=float(scores[0].mean()),
        held_out=float(held_out.mean()),
        low=low,
        high=high,
        p_value=paired_p_value(differences, seed=seed),
    )
