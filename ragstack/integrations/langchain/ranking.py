"""Any texts, ordered by a pipeline's reranker."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.integrations.langchain.backend import Ranked
from ragstack.pipeline import Pipeline


def rank_texts(pipeline: Pipeline, query: str, texts: Sequence[str]) -> list[Ranked]:
    """Every text once, best first."""
    raise NotImplementedError
