"""Maximal marginal relevance (Carbonell and Goldstein 1998): candidates that add something before those that repeat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragstack.types import Float32Array


def mmr_order(scores: Sequence[float], vectors: Float32Array, mmr_lambda: float) -> list[int]:
    """Indices of the candidates, the one to be shown first first.

    Each next one is that with the largest ``lambda * score - (1 - lambda) * similarity``: ``score`` brought to [0, 1]
    among the candidates, ``similarity`` the largest cosine with one chosen before, cut to [0, 1]. ``vectors`` is
    ``(n, dim) float32`` of length 1. A ``mmr_lambda`` of 1 gives the order of the scores; ties keep the order given.
    """
    if not scores:
        return []
    values = np.asarray(scores, dtype=np.float64)
    spread = values.max() - values.min()
    worth = (values - values.min()) / spread if spread > 0 else np.ones(len(values))
    nearest = np.zeros(len(values))
    left = np.ones(len(values), dtype=bool)
    order: list[int] = []
    for _ in range(len(values)):
        gain = np.where(left, mmr_lambda * worth - (1 - mmr_lambda) * nearest, -np.inf)
        chosen = int(gain.argmax())
        order.append(chosen)
        left[chosen] = False
        nearest = np.maximum(nearest, np.clip(vectors @ vectors[chosen], 0, 1))
    return order
