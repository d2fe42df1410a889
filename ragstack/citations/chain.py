"""The citation chain: query → candidates → reranked passages → answer sentences → citations → source bytes.

These models are the JSON that ``ragstack query --json`` prints and ``ragstack verify`` reads. Unknown
keys are rejected, so that a chain means the same to both.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ragstack.types import canonical_json

CHAIN_FORMAT: Literal["ragstack.chain/1"] = "ragstack.chain/1"
_CITATION_NAMESPACE = uuid.UUID("0e3c3f4a-2f7e-5d0b-8b59-6f8f2f1d7c55")


class ChainModel(BaseModel):
    """Base of the chain's parts: frozen, strict types, unknown keys rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SourceRange(ChainModel):
    """A half-open byte range of the raw source."""

    byte_start: int = Field(ge=0)
    byte_end: int = Field(ge=0)


class Place(ChainModel):
    """A byte range of one version of one source, with what is needed to check it.

    ``byte_start``/``byte_end`` count bytes of the document's canonical text (UTF-8); ``text`` is that
    range. ``source_ranges`` count bytes of the raw source; ``source_verbatim`` says whether the
    ranges, decoded with ``source_encoding`` and joined, equal ``text``. Lines are 1-based.
    """

    source_id: str
    source_uri: str
    source_version: str = Field(pattern=r"^[0-9a-f]{64}$")
    parser: str
    record: str
    media_type: str
    byte_start: int = Field(ge=0)
    byte_end: int = Field(ge=0)
    text: str
    source_ranges: tuple[SourceRange, ...]
    source_encoding: str
    source_verbatim: bool
    source_locator: dict[str, Any] | None
    heading_path: tuple[str, ...]
    line_start: int = Field(ge=1)
    line_end: int = Field(ge=1)

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Place:
        if self.byte_end <= self.byte_start:
            raise ValueError("byte_end must be larger than byte_start")
        return self


class LegScore(ChainModel):
    """Where one leg ranked a candidate (from 1) and with what score."""

    rank: int = Field(ge=1)
    score: float


class CandidateLink(ChainModel):
    """One candidate: which chunk, found by which legs, fused to which rank."""

    chunk_id: str
    source_id: str
    source_version: str
    byte_start: int
    byte_end: int
    legs: dict[str, LegScore]
    fused_rank: int = Field(ge=1)
    fused_score: float


class StageLink(ChainModel):
    """What one stage of a cascade of rerankers said of a passage's best chunk: its rank (from 1) and score there.

    Both are None where the stage failed and, as its config allows, the order before it was kept; ``error`` says why.
    """

    reranker: str
    rank: int | None = Field(ge=1)
    score: float | None
    error: str | None


class AddedChunk(ChainModel):
    """A chunk that was put around a hit for context: of the same version, its range in the canonical text."""

    chunk_id: str
    byte_start: int = Field(ge=0)
    byte_end: int = Field(ge=0)


class DuplicateLink(ChainModel):
    """A candidate elsewhere with the words of one of the passage's chunks; it is not shown a second time."""

    chunk_id: str
    place: Place


class PassageLink(ChainModel):
    """One passage kept after reranking: the chunks it was made from, its rank (from 1), scores and place.

    ``chunk_ids`` are the hits, best first: the first gave the score. ``added`` are the chunks around them that make up
    the rest of the place. ``stages`` are those of a cascade of rerankers that read the first hit, first to last.
    """

    rank: int = Field(ge=1)
    chunk_ids: tuple[str, ...] = Field(min_length=1)
    added: tuple[AddedChunk, ...]
    duplicates: tuple[DuplicateLink, ...]
    score: float
    relevance: float
    score_parts: dict[str, float]
    stages: tuple[StageLink, ...] = ()
    place: Place


class Citation(ChainModel):
    """A quote that an answer sentence rests on. ``passage_rank`` names the passage it lies in."""

    citation_id: str
    marker: int = Field(ge=1)
    passage_rank: int = Field(ge=1)
    place: Place


class SentenceLink(ChainModel):
    """One sentence of the answer: its byte range in ``answer.text``, the citations under it, its support.

    ``support`` in [0, 1] says how well the citations bear the sentence out. ``verbatim``: it is the text of one of
    them, word for word (white space aside).
    """

    byte_start: int = Field(ge=0)
    byte_end: int = Field(ge=0)
    text: str
    citation_ids: tuple[str, ...]
    support: float
    verbatim: bool


class AnswerError(ChainModel):
    """Why an answer broke off or was not made."""

    message: str
    hint: str


class AnswerLink(ChainModel):
    """The answer as shown, with its markers. ``text`` is empty when the corpus does not answer.

    ``dropped_markers`` named no passage, ``dropped_quotes`` were not found in theirs: neither is shown. ``left_out``
    are the ranks of passages that did not fit the model's context. Token counts are the model server's, where it
    gives them. ``truncated``: the model stopped at its limit. With an ``error``, the text is what came before it.
    """

    generator: str
    text: str
    sentences: tuple[SentenceLink, ...]
    citations: tuple[Citation, ...]
    dropped_markers: int = Field(ge=0)
    dropped_quotes: int = Field(ge=0)
    left_out: tuple[int, ...]
    prompt_tokens: int | None
    completion_tokens: int | None
    truncated: bool
    error: AnswerError | None


class QueryLink(ChainModel):
    """What was asked, and how it was searched. ``search_text`` stands alone where ``text`` leans on earlier turns.

    ``reranker_errors`` are the faults of stages of the reranker that, as its config allows, did not fail the query.
    """

    text: str
    search_text: str
    filter: dict[str, Any] | None
    mode: str
    top_k: int
    rerank_k: int
    top_n: int
    reranker: str
    reranker_errors: tuple[str, ...] = ()
    min_relevance: float
    mmr_lambda: float | None
    expand: str
    expand_tokens: int


class IndexLink(ChainModel):
    """The snapshot that answered."""

    generation: int
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")
    committed_seq: int
    embedder: str


class Chain(ChainModel):
    """One query's whole chain. ``digest`` is the SHA-256 of everything else, so that an edit shows."""

    format: Literal["ragstack.chain/1"]
    created_at: str
    query: QueryLink
    index: IndexLink
    candidates: tuple[CandidateLink, ...]
    passages: tuple[PassageLink, ...]
    answer: AnswerLink | None
    timings_s: dict[str, float]
    digest: str

    def to_json(self) -> dict[str, Any]:
        """JSON types only. Keys that were added to the format later are left out where they hold nothing."""
        chain: dict[str, Any] = self.model_dump(mode="json")
        for link, key in ((chain["query"], "reranker_errors"), *((p, "stages") for p in chain["passages"])):
            if not link[key]:
                del link[key]
        return chain

    def with_timings(self, timings_s: dict[str, float]) -> Chain:
        """The finished chain: with the seconds each stage took, and sealed by its digest."""
        timed = self.model_copy(update={"timings_s": timings_s})
        return timed.model_copy(update={"digest": timed.computed_digest()})

    def computed_digest(self) -> str:
        """The digest that the content calls for."""
        return chain_digest(self.to_json())


def chain_digest(chain: dict[str, Any]) -> str:
    """SHA-256 over the chain's JSON without its ``digest`` (keys sorted, no spaces)."""
    content = {key: value for key, value in chain.items() if key != "digest"}
    # The numbers and strings of JSON are written as they were read, so a chain from a file gives the same bytes.
    return hashlib.sha256(canonical_json(content).encode("utf-8", "surrogatepass")).hexdigest()


def citation_id(place_version: str, parser: str, record: str, byte_start: int, byte_end: int) -> str:
    """A citation's UUID: a function of the document version and the range alone."""
    name = "\x00".join((place_version, parser, record, str(byte_start), str(byte_end)))
    return str(uuid.uuid5(_CITATION_NAMESPACE, name))
