"""A citation opened: its bytes, read and checked again, with the text around it."""

from __future__ import annotations

import base64
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Path, Query

from ragstack.api.errors import ApiError, errors
from ragstack.api.schemas import CitationBody, Context
from ragstack.api.security import Caller, caller_with
from ragstack.api.state import AppState, State
from ragstack.archive.base import ArchivedDocument, DocumentKey
from ragstack.citations.places import OpenDocument
from ragstack.citations.verify import check_place, source_bytes
from ragstack.filters import And, Condition, all_of
from ragstack.ledger.issued_citations import IssuedCitation
from ragstack.retrieval.evidence import open_evidence

router = APIRouter(prefix="/v1/citations", tags=["citations"])
Asker = Annotated[Caller, Depends(caller_with("query"))]
CitationId = Annotated[
    str, Path(max_length=128, description="As in an answer's chain.", examples=["6f1c8a4e-0b7d-5c36-9a52-0c9f4b1d2e3f"])
]


@router.get("/{citation_id}", responses=errors(401, 403, 404, 410, 422, 429, 500, 503))
async def citation(
    citation_id: CitationId,
    state: State,
    caller: Asker,
    context_bytes: Annotated[int, Query(ge=0, le=65536, description="Bytes of text wanted on either side.")] = 600,
) -> CitationBody:
    """Where a citation leads: its bytes, checked again now, and the text around them.

    Every citation that this server has sent is found by its id, after a restart too, until its document is erased
    (404) or its version has been replaced in the index (410).
    """
    return await anyio.to_thread.run_sync(_open, state, caller, citation_id, context_bytes, limiter=state.threads)


def _visible(state: AppState, caller: Caller, issued: IssuedCitation) -> tuple[str, ...] | None:
    """The headings above a citation's passage; None where the caller may not see the document.

    Headings are text of the document, so they are not kept with the citation but asked of the index.
    """
    engine = state.pipeline.engine
    document = And(
        (
            Condition("source_id", "eq", issued.source_id),
            Condition("source_version", "eq", issued.source_version),
        )
    )
    limits = all_of(state.pipeline.config.retrieval.parsed_filter(), caller.filter)
    with engine.reading() as (store, collection):
        if limits is not None and store.count(collection, And((document, limits))) == 0:
            return None
        found = store.fetch(collection, [issued.chunk_id]).get(issued.chunk_id)
        if found is not None:
            return tuple(found.payload["heading_path"])
        # The index was built anew with other settings since: its chunks have other ids.
        for hit in store.iterate(collection, document):
            if hit.payload["byte_start"] <= issued.byte_start < hit.payload["byte_end"]:
                return tuple(hit.payload["heading_path"])
    return ()


def _context(archived: ArchivedDocument, byte_start: int, byte_end: int, wanted: int) -> Context:
    """The text around a range, cut at bounds of characters."""
    data = archived.canonical_bytes
    start, end = max(byte_start - wanted, 0), min(byte_end + wanted, len(data))
    while start < byte_start and data[start] & 0xC0 == 0x80:
        start += 1
    while end > byte_end and end < len(data) and data[end] & 0xC0 == 0x80:
        end -= 1
    return Context(
        before=archived.text(start, byte_start),
        text=archived.text(byte_start, byte_end),
        after=archived.text(byte_end, end),
        byte_start=start,
        byte_end=end,
    )


def _open(state: AppState, caller: Caller, citation_id: str, context_bytes: int) -> CitationBody:
    replaced = None
    with open_evidence(state.pipeline.state_dir) as evidence:
        for issued in state.issued.find(citation_id):
            headings = _visible(state, caller, issued)
            if headings is None or evidence.archive is None:
                continue
            archived = evidence.archive.get(DocumentKey(issued.source_version, issued.parser, issued.record))
            if archived is None:
                was_indexed = evidence.was_indexed(issued.source_id, issued.source_version)
                replaced = issued if was_indexed else replaced
                continue
            uri = evidence.uri_of(issued.source_id)
            place = OpenDocument(archived).place(issued.source_id, uri, issued.byte_start, issued.byte_end, headings)
            status, detail = check_place(place, evidence)
            raw = source_bytes(place, evidence)
            return CitationBody(
                citation_id=citation_id,
                place=place,
                status=status,
                detail=detail,
                context=_context(archived, issued.byte_start, issued.byte_end, context_bytes),
                source_base64=None if raw is None else base64.b64encode(raw).decode("ascii"),
            )
    if replaced is not None:
        raise ApiError(
            410,
            "VersionGone",
            f"version {replaced.source_version[:12]}… of {replaced.source_id}, which the citation names, was replaced"
            " or removed and is not kept.",
            hint="Ask again: the answer will rest on the version that is indexed now.",
            code="version_gone",
        )
    raise ApiError(
        404,
        "NotFound",
        "no citation has this id.",
        hint="Ids come from the answers of this server. The document may have been erased since.",
        code="citation_not_found",
    )
