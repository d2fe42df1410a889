"""The ``retrieval`` block: which candidates are found, and how they become passages."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ragstack.config.block import ConfigBlock, contradiction
from ragstack.errors import FilterError
from ragstack.filters import Filter, parse_filter


class FusionConfig(ConfigBlock):
    """How the ranks of the dense and the sparse leg become one (reciprocal rank fusion, Cormack et al. 2009)."""

    type: Literal["rrf", "weighted"] = Field(default="rrf", description="Fuse ranks (rrf) or scaled scores (weighted).")
    k: int = Field(default=60, ge=1, description="The constant of rrf: larger counts the first ranks less.")
    dense_weight: float = Field(default=1.0, ge=0, description="Weight of the dense leg.")
    sparse_weight: float = Field(default=1.0, ge=0, description="Weight of the sparse leg.")

    @model_validator(mode="after")
    def _a_leg_counts(self) -> FusionConfig:
        if self.dense_weight == self.sparse_weight == 0:
            raise contradiction(
                ("dense_weight", "sparse_weight"), "dense_weight and sparse_weight are both 0; one must be larger"
            )
        return self


class RetrievalConfig(ConfigBlock):
    """The query path: ``top_k`` candidates a leg, ``rerank_k`` of them reranked, ``top_n`` passages kept."""

    mode: Literal["hybrid", "dense", "sparse"] = Field(
        default="hybrid", description="Legs asked: both, meaning alone (dense), or words alone (sparse)."
    )
    top_k: int = Field(default=100, ge=1, le=10000, description="Candidates asked of each leg.")
    rerank_k: int = Field(default=50, ge=1, le=1000, description="Best fused candidates that the reranker reads.")
    top_n: int = Field(default=8, ge=1, le=1000, description="Passages kept after reranking.")
    fusion: FusionConfig = Field(default=FusionConfig(), description="How the two legs become one ranking.")
    filter: dict[str, Any] | None = Field(default=None, description="A filter put on every query.")
    phrases: Literal["require", "ignore"] = Field(
        default="require",
        description='Passages must hold the "quoted phrases" of a query, where any does; ignore: quotes mean nothing.',
    )
    min_relevance: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="When no candidate is this relevant, the corpus does not answer; null: the reranker's own figure.",
    )

    mmr_lambda: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Choose passages by maximal marginal relevance: 1 counts the score alone, 0 alone how unlike "
        "they are those chosen before; null: by score.",
    )
    expand: Literal["none", "neighbours", "section"] = Field(
        default="none",
        description="Grow passages by the chunks around them (neighbours), or those under the same heading (section).",
    )
    expand_tokens: int = Field(
        default=600, ge=1, le=32768, description="Most tokens, of the embedder's tokenizer, that a passage grows to."
    )

    @model_validator(mode="after")
    def _stages_narrow(self) -> RetrievalConfig:
        if self.rerank_k > self.top_k:
            message = f"rerank_k ({self.rerank_k}) must be at most top_k ({self.top_k})"
            raise contradiction(("rerank_k", "top_k"), message)
        if self.top_n > self.rerank_k:
            message = f"top_n ({self.top_n}) must be at most rerank_k ({self.rerank_k})"
            raise contradiction(("top_n", "rerank_k"), message)
        return self

    @field_validator("filter")
    @classmethod
    def _filter_parses(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            try:
                parse_filter(value)
            except FilterError as error:
                raise ValueError(str(error)) from error
        return value

    def parsed_filter(self) -> Filter | None:
        """The filter as a tree, or None."""
        return None if self.filter is None else parse_filter(self.filter, where="retrieval.filter")
