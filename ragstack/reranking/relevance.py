"""Whether a passage is about the question: a figure in [0, 1] that means the same for every query.

Three things tell: the cosine of the two texts, how well the passage's tokens match the question's (MaxSim), and how
much of the question's BM25 weight the passage holds. None of them does alone: a vague question is close to many
passages, and a passage may say the same in other words. A logistic function joins them. Its constants were fitted on
one half of the questions of SciFact, XQuAD, single articles of XQuAD and three long documents, asked of their own
corpora and of the others, and measured on the other halves; ``benchmarks/fit_relevance.py`` does
both, and ``docs/ranking.md`` has the figures.

* **The size of the corpus** counts: among 10,000 chunks the best one is closer to a question that none of
  them answers than among 10.
* **The embedding model** counts: some models give unrelated texts a cosine of 0.05, some of 0.75. What unrelated texts
  have with a model is measured (:class:`Background`) and brought to what they have with the model of the constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

MIN_RELEVANCE = 0.5
"""Where the logistic functions decide: below, a passage is not about the question."""

_LARGEST_LOG_COUNT = 4.0  # of 10: corpora of up to 12,000 chunks were measured


@dataclass(frozen=True, slots=True)
class Background:
    """What texts that have nothing to do with each other have in common in an embedding model's space.

    ``cosine`` is the mean over pairs of a question and a passage; ``maxsim`` the mean over the question's tokens of
    the best cosine with a token of the passage, in the space of the stored token vectors.
    """

    cosine: float
    maxsim: float


REFERENCE_MODEL = "all-MiniLM-L6-v2"
REFERENCE = Background(cosine=0.05, maxsim=0.17)
"""That of the model, with its compressed token vectors, with which the constants were fitted."""


@dataclass(frozen=True, slots=True)
class RelevanceScale:
    """What a query's scores are measured against.

    ``chunk_count`` is the size of the corpus; ``sparse_ceiling`` the BM25 score of a passage that is all about every
    term of the query, 0 for a query without terms.
    """

    chunk_count: int = 1
    sparse_ceiling: float = 0.0
    background: Background = REFERENCE


@dataclass(frozen=True, slots=True)
class _Constants:
    """Of one logistic function. ``log_count`` is for each power of ten of the corpus's size."""

    cosine: float
    maxsim: float
    share: float
    log_count: float
    intercept: float


_WITH_TOKENS = _Constants(cosine=8.2, maxsim=3.6, share=5.3, log_count=-0.5, intercept=-4.54)
_WITHOUT_TOKENS = _Constants(cosine=8.9, maxsim=0.0, share=7.3, log_count=-0.5, intercept=-3.21)


def relevance(
    scale: RelevanceScale, cosine: Float64Array, sparse_score: Float64Array, maxsim: Float64Array | None = None
) -> Float64Array:
    """The relevance of ``n`` passages, ``(n,) float64`` in [0, 1].

    ``cosine``, ``sparse_score`` (BM25, 0 for no common term) and ``maxsim`` are ``(n,)``. Without ``maxsim`` the other
    two decide, by constants of their own.
    """
    used = _WITHOUT_TOKENS if maxsim is None else _WITH_TOKENS
    share = np.zeros(len(cosine))
    if scale.sparse_ceiling > 0:
        share = np.clip(sparse_score, 0, scale.sparse_ceiling) / scale.sparse_ceiling
    logit = used.cosine * _rescaled(cosine, scale.background.cosine, REFERENCE.cosine) + used.share * share
    if maxsim is not None:
        logit = logit + used.maxsim * _rescaled(maxsim, scale.background.maxsim, REFERENCE.maxsim)
    log_count = min(math.log10(max(scale.chunk_count, 1)), _LARGEST_LOG_COUNT)
    # A model without any background would push the logit beyond what exp() can hold.
    total = np.clip(logit + used.log_count * log_count + used.intercept, -50, 50)
    result: Float64Array = 1 / (1 + np.exp(-total))
    return result


def _rescaled(values: Float64Array, background: float, reference: float) -> Float64Array:
    """Similarities of a model brought to the reference's scale: unrelated texts to unrelated ones, 1 to 1."""
    rescaled: Float64Array = 1 - (1 - values) * (1 - reference) / max(1 - background, 1e-6)
    return rescaled
