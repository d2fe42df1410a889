"""From reranked chunks to passages: the irrelevant left out, overlaps and duplicates merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ragstack.adapters.base import Payload
from ragstack.reranking.base import RerankScore
from ragstack.retrieval.candidates import chunk_of
from ragstack.types import Chunk


@dataclass(frozen=True)
class Passage:
    """One passage: the chunks it was made from (best first), its range in the document, its score.

    ``best`` is the chunk that gave the score; ``parser`` (``name/version media-type``) made its document, and
    ``record`` is the document's place inside a container, or empty.
    """

    best: Chunk
    chunk_ids: tuple[str, ...]
    byte_start: int
    byte_end: int
    score: RerankScore
    parser: str
    record: str

    @property
    def container(self) -> str:
        """The ``source_id`` of the file: the document's own, less the record."""
        return self.best.source_id[: -len(self.record) - 1] if self.record else self.best.source_id


def build_passages(ranked: Sequence[RerankScore], payloads: Mapping[str, Payload], top_n: int) -> list[Passage]:
    """The best ``top_n`` passages of the ranking.

    A chunk that overlaps a better one of the same document widens that passage; a chunk whose words
    are those of a better one (white space aside) is left out.
    """
    passages: list[Passage] = []
    seen: set[str] = set()
    for score in ranked:
        payload = payloads[score.chunk_id]
        chunk = chunk_of(score.chunk_id, payload)
        words = " ".join(chunk.text.split())
        at = next((i for i, passage in enumerate(passages) if _overlaps(passage, chunk)), None)
        if at is not None:
            passage = passages[at]
            passages[at] = replace(
                passage,
                chunk_ids=(*passage.chunk_ids, chunk.chunk_id),
                byte_start=min(passage.byte_start, chunk.byte_start),
                byte_end=max(passage.byte_end, chunk.byte_end),
            )
        elif words not in seen and len(passages) < top_n:
            ids, parser, record = (chunk.chunk_id,), payload["parser"], payload["record"]
            passages.append(Passage(chunk, ids, chunk.byte_start, chunk.byte_end, score, parser, record))
        seen.add(words)
    return passages


def _overlaps(passage: Passage, chunk: Chunk) -> bool:
    return (
        (passage.best.source_id, passage.best.source_version) == (chunk.source_id, chunk.source_version)
        and passage.byte_start < chunk.byte_end
        and chunk.byte_start < passage.byte_end
    )
