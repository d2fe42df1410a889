"""A citation chain's passages as LangChain documents, with everything in the metadata that a citation needs."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from langchain_core.documents import Document

from ragstack.citations.chain import Chain, PassageLink, citation_id

_MERGED_NAMESPACE = uuid.UUID("b1c1ad7c-3c83-5d2c-8d0c-4f6e5a1f7a32")


def passage_documents(chain: Chain, statuses: Sequence[str]) -> list[Document]:
    """One document a passage, best first. ``statuses`` has one for each passage, or is empty."""
    return [
        _document(chain, passage, statuses[index] if statuses else None) for index, passage in enumerate(chain.passages)
    ]


def _document(chain: Chain, passage: PassageLink, status: str | None) -> Document:
    place = passage.place
    return Document(
        id=_document_id((*passage.chunk_ids, *(each.chunk_id for each in passage.added))),
        page_content=place.text,
        metadata={
            **place.model_dump(mode="json", exclude={"text"}),
            "citation_id": citation_id(
                place.source_version, place.parser, place.record, place.byte_start, place.byte_end
            ),
            "citation_status": status,
            "chunk_ids": list(passage.chunk_ids),
            "added_chunk_ids": [each.chunk_id for each in passage.added],
            "duplicates": [
                each.place.model_dump(mode="json", include={"source_id", "source_uri", "byte_start", "byte_end"})
                for each in passage.duplicates
            ],
            "rank": passage.rank,
            "score": passage.score,
            "relevance": passage.relevance,
            "score_parts": dict(passage.score_parts),
            "reranker": chain.query.reranker,
            "generation": chain.index.generation,
        },
    )


def _document_id(chunk_ids: Sequence[str]) -> str:
    """The chunk's id; of a passage made of several chunks a UUID that depends on all of them.

    So one id never stands for two texts.
    """
    return chunk_ids[0] if len(chunk_ids) == 1 else str(uuid.uuid5(_MERGED_NAMESPACE, "\x00".join(chunk_ids)))
