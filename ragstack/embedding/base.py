"""The seam between texts and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from ragstack.types import Float32Array, SparseVector, Tokenizer, TokenVectors

InputType: TypeAlias = Literal["query", "passage"]
Output: TypeAlias = Literal["dense", "sparse", "tokens"]


@dataclass(frozen=True)
class Embeddings:
    """What ``embed`` returns: the outputs asked for, in the order of the texts; None for the others.

    ``dense`` ``(n, dim) float32``, each row of length 1.
    """

    dense: Float32Array | None = None
    sparse: tuple[SparseVector, ...] | None = None
    tokens: tuple[TokenVectors, ...] | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the rest of the pipeline must know of an embedding model.

    ``max_tokens`` counts what the model reads of one text, special tokens left out. ``token_dim`` is the length of its
    token vectors, 0 for a model that gives none. ``fingerprint``
    changes whenever the same text would give another vector (weights, pooling, prompts, precision).
    The tokens of the prompt that is put before a query or a passage are part of ``max_tokens``.
    """

    name: str
    dim: int
    max_tokens: int
    token_dim: int
    languages: tuple[str, ...]
    licence: str
    fingerprint: str
    query_prompt_tokens: int = 0
    passage_prompt_tokens: int = 0
    pooling: str = "unknown"

    def text_tokens(self, input_type: InputType) -> int:
        """How many tokens a text may have beside its prompt."""
        return self.max_tokens - (self.query_prompt_tokens if input_type == "query" else self.passage_prompt_tokens)


class Embedder(Protocol):
    """Turns texts into vectors.

    ``embed`` returns results in the order of ``texts``; an empty sequence gives arrays of length 0.
    ``input_type`` is mandatory: models that tell queries from passages need it, the others ignore it.
    Texts are batched by a token budget that counts padding, longest first; a text alone and in any
    batch gives the same vector to within cosine .99999.

    Raises EmbeddingError for a text longer than ``info.max_tokens`` (nothing is cut silently; the
    message gives the index of the text and its length), for NaN or zero vectors, for weights whose
    hash is not the pinned one; CapabilityError for an output that the model does not have.
    Safe to call from several threads.
    """

    @property
    def info(self) -> ModelInfo: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    def embed(
        self, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output] = ("dense",)
    ) -> Embeddings: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TokenPiece:
    """One token. ``byte_start``/``byte_end`` are offsets in the UTF-8 of the text; None for a special token."""

    token_id: int
    text: str
    special: bool
    byte_start: int | None
    byte_end: int | None


@runtime_checkable
class VocabularyTokenizer(Tokenizer, Protocol):
    """A tokenizer whose tokens are entries of a vocabulary, so that ids can be read and given."""

    @property
    def specials(self) -> int:
        """How many special tokens the model adds to one text."""

    def pieces(self, text: str, *, with_specials: bool) -> list[TokenPiece]:
        """The tokens of a text, in order."""

    def decode(self, token_ids: Sequence[int], *, skip_specials: bool) -> str:
        """The text of token ids; spaces are a convention. Raises EmbeddingError for an id outside the vocabulary."""


class PendingEmbeddings(Protocol):
    """Texts that were handed to an embedder and are being worked on."""

    def result(self) -> Embeddings:
        """Wait for the vectors; raises what ``embed`` raises. To be called once."""

    def cancel(self) -> None:
        """Drop what has not begun. Idempotent; nothing after ``result``."""


@runtime_checkable
class PipelinedEmbedder(Protocol):
    """An embedder that can begin with the next texts while the last ones are worked on.

    Like the protocols below it has no more than its own members: whether an object has ``info`` is asked, before Python
    3.12, by taking it, for which a remote embedder asks its server.
    """

    def submit(
        self, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output] = ("dense",)
    ) -> PendingEmbeddings:
        """As ``embed``, without waiting for the vectors."""

    def preload(self) -> None:
        """Load now what ``submit`` would load first. Raises EmbeddingError as ``embed`` does."""


@runtime_checkable
class BudgetedEmbedder(Protocol):
    """An embedder that says by which budget it cuts texts into batches, padding counted.

    ``packs``: it computes no padding, so that none is counted.
    """

    @property
    def max_batch_tokens(self) -> int: ...

    @property
    def packs(self) -> bool: ...


@runtime_checkable
class RequestingEmbedder(Protocol):
    """An embedder that has several requests to a server under way at a time, of so many tokens together at most."""

    @property
    def max_tokens_under_way(self) -> int: ...


@runtime_checkable
class InfoWithoutAsking(Protocol):
    """An embedder whose ``info`` takes a request to a server."""

    def info_without_asking(self) -> ModelInfo | None:
        """What is known of the model without one; None where that is too little to judge a config by."""


@runtime_checkable
class OnDevice(Protocol):
    """An embedder that says where it runs: ``cpu``, ``cuda:0``; several devices with commas between."""

    @property
    def device(self) -> str: ...


def device_count(embedder: Embedder) -> int:
    """On how many devices the embedder runs, 1 where it does not say."""
    return len(embedder.device.split(",")) if isinstance(embedder, OnDevice) else 1


@dataclass(frozen=True)
class _Done:
    """Embeddings that needed no waiting."""

    embeddings: Embeddings

    def result(self) -> Embeddings:
        return self.embeddings

    def cancel(self) -> None:
        """Nothing is left to drop."""


def submit(
    embedder: Embedder, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output] = ("dense",)
) -> PendingEmbeddings:
    """Begin embedding; with an embedder that cannot work on two requests at a time, embed now."""
    if isinstance(embedder, PipelinedEmbedder):
        return embedder.submit(texts, input_type, outputs)
    return _Done(embedder.embed(texts, input_type, outputs))
