"""The settings of the model-server routes: how texts of many clients are batched, and how many may wait."""

from __future__ import annotations

from pydantic import Field

from ragstack.config.block import ConfigBlock


class ModelServerConfig(ConfigBlock):
    """The routes that stand in for OpenAI's, NIM's and TEI's servers: embeddings and ranking."""

    model_names: tuple[str, ...] = Field(
        default=(), description="Further names under which clients may ask for the model, beside its own."
    )
    max_batch_tokens: int | None = Field(
        default=None,
        gt=0,
        description="Tokens handed to the embedder, or to a reranker that scores pairs, at a time, from all clients;"
        " null: 1024 a CPU core; on a GPU 65536, and 32768 reranking.",
    )
    max_concurrent_requests: int = Field(
        default=512, ge=1, le=100_000, description="Embedding requests under way; one more is answered 429."
    )
    max_concurrent_rankings: int = Field(
        default=128, ge=1, le=100_000, description="Ranking requests under way; one more is answered 429."
    )
    max_queued_tokens: int = Field(
        default=1_000_000,
        ge=1,
        description="Tokens that may wait; a request that would exceed it is answered 429, unless nothing waits.",
    )
    max_token_vectors: int = Field(
        default=262_144,
        ge=1,
        description="Tokens whose vectors are held at a time (rankings, /embed_all); 1.5 KB each at 384 dimensions.",
    )
    timeout_s: float = Field(
        default=60.0, gt=0, le=3600, description="Seconds after which a request that is not done is given up."
    )
