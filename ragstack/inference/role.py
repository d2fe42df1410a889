"""The part of a pipeline that a model plays, as messages name it."""

from __future__ import annotations

from dataclasses import dataclass

from ragstack.errors import EmbeddingError, InputError, RagstackError, RerankingError


@dataclass(frozen=True)
class ModelRole:
    """``key`` is the block of the config, ``name`` the model in a sentence, ``task`` what it was exported for.

    ``error`` is the class of its faults.
    """

    key: str
    name: str
    task: str
    error: type[RagstackError]

    def input_error(self, key: str, message: str, hint: str) -> InputError:
        """A setting of the block that cannot be used."""
        return InputError(f"{self.key}.{key}: {message}", hint=hint)


EMBEDDER = ModelRole("embedder", "embedding model", "feature extraction", EmbeddingError)
RERANKER = ModelRole("reranker", "cross-encoder", "sequence classification", RerankingError)
LLM_RERANKER = ModelRole("reranker", "language model", "text generation", RerankingError)
