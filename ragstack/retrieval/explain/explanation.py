"""What ``ragstack query --explain`` tells: the way of an expected passage through one query, and where it was lost.

These models are the JSON of ``ragstack query --explain --json`` and of ``POST /v1/explain``. Ranks count from 1;
offsets are bytes of the canonical text, lines are those of the canonical text, from 1.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import Field

from ragstack.citations.chain import Chain, ChainModel

EXPLANATION_FORMAT: Literal["ragstack.explanation/1"] = "ragstack.explanation/1"

Outcome: TypeAlias = Literal[
    "cited",
    "not_cited",
    "not_a_source",
    "not_indexed",
    "text_not_found",
    "no_chunk",
    "filtered",
    "lacks_phrase",
    "not_retrieved",
    "missed_by_search",
    "not_reranked",
    "not_relevant",
    "duplicate",
    "below_top_n",
]
"""What became of an expected passage.

``cited``: the answer quotes it; ``not_cited``: it is among the passages, and the answer does not. All others say where
it was lost: it is in no file that is a source, in a source that holds no text or is not indexed (yet), in no chunk
of its source, kept out by a filter, without a phrase that the query quotes and other chunks have, beyond ``top_k`` in
every leg, within it but missed by an approximate search, beyond ``rerank_k``, in a query for which nothing was
relevant, a repetition of a better chunk, or beyond ``top_n``.
"""

Stage: TypeAlias = Literal["source", "chunk", "filter", "retrieve", "fuse", "rerank", "relevance", "passages", "answer"]


class Step(ChainModel):
    """One stage, in the order of the query path. ``lost``: the passage went no further."""

    stage: Stage
    outcome: Literal["passed", "lost"]
    detail: str = Field(description="What happened, in sentences.")


class Advice(ChainModel):
    """What would have changed the outcome. ``settings`` are config keys with the value that would do it; may be empty.

    Each was tried on this very query: with these settings the chunk passes the stage that it was lost at.
    """

    settings: dict[str, int | float | str | bool]
    detail: str


class FilterCheck(ChainModel):
    """A condition that keeps a chunk out, whose filter it is part of, and what the chunk has in that field."""

    origin: Literal["query", "config"]
    condition: dict[str, Any]
    found: Any


class LegExplanation(ChainModel):
    """A chunk in one leg.

    ``rank`` is the exact one among all chunks that the filter lets pass; null where the leg cannot find it at all
    (no common word) or stopped looking: then it is larger than ``rank_above``. ``returned``: it was among the ``top_k``
    that the query worked with; ``searched`` is false for a leg that ``retrieval.mode`` leaves out.
    """

    rank: int | None = Field(ge=1)
    rank_above: int | None
    score: float
    returned: bool
    searched: bool


class ExplainedChunk(ChainModel):
    """One chunk and what each stage made of it.

    ``reranked`` is false when the query did not rerank it; ``score`` and ``relevance`` were computed for this
    explanation then, and ``rerank_rank`` is the place it would have had among those that were. They are null where
    the chunk was not looked at that far. ``passage_rank`` is that of the passage it is (part of); ``duplicate_of`` the
    better chunk with the same words; ``sentences`` the numbers, from 1, of the answer's sentences that cite it.
    """

    chunk_id: str
    source_id: str
    source_version: str
    byte_start: int
    byte_end: int
    line_start: int
    line_end: int
    heading_path: tuple[str, ...]
    token_count: int
    excerpt: str = Field(description="How its text begins.")
    expected: bool
    filtered_by: tuple[FilterCheck, ...]
    legs: dict[str, LegExplanation]
    fused_rank: int | None
    reranked: bool
    rerank_rank: int | None
    score: float | None
    relevance: float | None
    score_parts: dict[str, float]
    passage_rank: int | None
    duplicate_of: str | None
    sentences: tuple[int, ...]


class WordInChunk(ChainModel):
    """A word of the query in one chunk.

    ``sparse`` is what it adds to the BM25 score: 0 where none of its terms occurs. ``nearest`` is the chunk's word with
    the token nearest to one of its own, stop words aside, and ``similarity`` the cosine of the two; both are null for
    a word that the model drops.
    """

    sparse: float
    similarity: float | None
    nearest: str | None


class QueryWord(ChainModel):
    """A word of the query. ``terms`` are what the sparse leg searches for: none for a stop word.

    ``chunk_count`` is in how many chunks of the index the commonest of its terms occurs; null for a stop word and for
    askers who may not see the whole index. ``chunks`` are by chunk id.
    """

    text: str
    byte_start: int
    byte_end: int
    terms: tuple[str, ...]
    chunk_count: int | None
    chunks: dict[str, WordInChunk]


class ExpectedLink(ChainModel):
    """What was expected, and where it was found. Null fields are not known, or not asked for.

    ``given`` is what was asked for as it was written. The byte range is that of the indexed version.
    """

    given: str
    kind: Literal["chunk", "source", "text"]
    source_id: str | None = None
    source_version: str | None = None
    record: str | None = None
    byte_start: int | None = None
    byte_end: int | None = None
    line_start: int | None = None
    line_end: int | None = None
    chunk_count: int = Field(default=0, description="How many chunks hold (parts of) it.")


class Explanation(ChainModel):
    """How a query came to its passages, and what became of the expected one.

    ``expected``, ``outcome`` and ``advice`` are null or empty when nothing was expected. ``chunks`` are the expected
    ones first, the best of them at the top, then the query's passages and near misses in their order; ``words``
    compare some of them with the query. ``limits`` say what was not looked at, and why.
    """

    format: Literal["ragstack.explanation/1"]
    chain: Chain
    expected: ExpectedLink | None
    outcome: Outcome | None
    summary: str
    steps: tuple[Step, ...]
    advice: tuple[Advice, ...]
    chunks: tuple[ExplainedChunk, ...]
    words: tuple[QueryWord, ...]
    limits: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON types only."""
        return self.model_dump(mode="json")
