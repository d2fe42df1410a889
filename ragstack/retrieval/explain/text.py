"""Looks for a quoted text in the index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ragstack.adapters.base import Payload
from ragstack.archive.base import DocumentKey
from ragstack.citations.places import OpenDocument
from ragstack.ledger.snapshot import IndexedSource
from ragstack.ledger.spans import record_source_id
from ragstack.retrieval.explain.explanation import ExpectedLink
from ragstack.retrieval.explain.located import Located, Lost, holding, named
from ragstack.retrieval.explain.session import Session
from ragstack.retrieval.explain.target import Expected, find_text

_MAX_PLACES = 20
_TEXT_CANDIDATES = 50
_QUERY_WORDS = 60


def locate_text(expected: Expected, text: str, session: Session, most: int, *, is_certain: bool) -> Located | Lost:
    """The chunks with a quoted text, looked for where the legs find it, then in every document."""
    found: list[tuple[IndexedSource, OpenDocument, tuple[int, int], str]] = []
    limits: list[str] = []
    near = session.search(" ".join(text.split()[:_QUERY_WORDS]), _TEXT_CANDIDATES)
    looked_at: set[DocumentKey] = set()
    for is_scan in (False, True):
        payloads: Iterator[Payload] | Sequence[Payload] = near if not is_scan else session.scan(most, limits)
        for payload in payloads:
            key = DocumentKey(payload["source_version"], payload["parser"], payload["record"])
            if key in looked_at or len(found) >= _MAX_PLACES:
                continue
            looked_at.add(key)
            document = session.document(key)
            container = payload["source_id"].removesuffix(f"#{key.record}") if key.record else payload["source_id"]
            for place in find_text(document.document.canonical_bytes.decode("utf-8"), text):
                source = session.source(container)
                if source is not None:
                    found.append((source, document, place, key.record))
        if found:
            break
    link = ExpectedLink(given=expected.given, kind="text")
    if not found:
        as_file = "" if is_certain else "It names no source, and as a text it "
        begin = as_file or "The text "
        nearest = f" The nearest passage is {named(session.place(near[0]))}." if near else ""
        detail = f"{begin}occurs in none of {_documents(len(looked_at))} word for word.{nearest}"
        advice = "Copy fewer words, from one paragraph, or name the file that should hold it."
        return Lost(link, "text_not_found", detail, advice, tuple(limits))
    located = [_text_place(link, *place, session) for place in found[:_MAX_PLACES]]
    chunks = [chunk for place in located if isinstance(place, Located) for chunk in place.chunk_ids]
    if not chunks:
        return located[0]
    first = next(place for place in located if isinstance(place, Located))
    ids = tuple(dict.fromkeys(chunks))
    link = first.link.model_copy(update={"chunk_count": len(ids)})
    more = f" It occurs in {len(found)} places." if len(found) > 1 else ""
    if len(found) >= _MAX_PLACES:
        limits.append(f"The text occurs in {_MAX_PLACES} places or more; these were looked at.")
    return replace(first, link=link, chunk_ids=ids, detail=f"{first.detail}{more}", limits=tuple(limits))


def _text_place(
    link: ExpectedLink,
    source: IndexedSource,
    document: OpenDocument,
    place: tuple[int, int],
    record: str,
    session: Session,
) -> Located | Lost:
    start, end = place
    found = link.model_copy(
        update={
            "source_id": record_source_id(source.source_id, record),
            "source_version": source.source_version,
            "record": record,
            "byte_start": start,
            "byte_end": end,
            "line_start": document.line_of(start),
            "line_end": document.line_of(end - 1),
        }
    )
    detail = f"The text is in {found.source_id}, line {found.line_start}."
    return holding(found, source, source.spans, document, detail, session)


def _documents(count: int) -> str:
    return "one document" if count == 1 else f"the {count} documents"
