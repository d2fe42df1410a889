"""The ``reranker`` block: how candidates are ordered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ragstack.config.block import ConfigBlock, contradiction


class LateInteractionConfig(ConfigBlock):
    """Rerank by the embedder's own token vectors: cosine + idf-weighted MaxSim + BM25 share."""

    type: Literal["late_interaction"] = Field(default="late_interaction", description="MaxSim over token vectors.")
    token_vectors: Literal["stored", "recomputed"] = Field(
        default="stored",
        description="Kept by the index, about 5 kB a chunk; or made by each query, which takes seconds on a CPU.",
    )
    dense_weight: float = Field(default=1.0, ge=0, description="Weight of the cosine of the two texts.")
    maxsim_weight: float = Field(default=1.0, ge=0, description="Weight of the idf-weighted MaxSim of their tokens.")
    sparse_weight: float = Field(default=0.3, ge=0, description="Weight of the BM25 share.")

    @model_validator(mode="after")
    def _a_part_counts(self) -> LateInteractionConfig:
        if self.dense_weight == self.maxsim_weight == self.sparse_weight == 0:
            raise contradiction(
                ("dense_weight", "maxsim_weight", "sparse_weight"), "all three weights are 0; one must be larger"
            )
        return self


class NoRerankerConfig(ConfigBlock):
    """Keep the fused order; no token vectors are kept."""

    type: Literal["none"] = Field(default="none", description="No reranking.")
