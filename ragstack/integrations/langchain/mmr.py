"""Maximal marginal relevance (Carbonell and Goldstein 1998). Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragstack.types import Float32Array


def max_marginal_relevance(
    query: Float32Array, vectors: Sequence[Float32Array], k: int, lambda_mult: float
) -> list[int]:
    """Positions of up to ``k`` vectors, in the order in which they are chosen.

    Each next one has the largest ``lambda_mult * cosine with the query - (1 - lambda_mult) * largest cosine with
    those chosen``; the first is the one most like the query; ties go to the lower position.
    """
    if not vectors or k < 1:
        return []
    units = np.stack([_unit(vector) for vector in vectors])
    relevance = units @ _unit(query)
    chosen = [int(np.argmax(relevance))]
    redundancy = units @ units[chosen[0]]
    while len(chosen) < min(k, len(units)):
        gain = lambda_mult * relevance - (1 - lambda_mult) * redundancy
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
        redundancy = np.maximum(redundancy, units @ units[chosen[-1]])
    return chosen


def _unit(vector: Float32Array) -> Float32Array:
    norm = np.linalg.norm(vector)
    unit: Float32Array = vector / norm if norm > 0 else vector
    return unit
