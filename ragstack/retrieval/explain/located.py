"""The chunks that hold a place of a source: what locating an expected passage comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragstack.citations.chain import Place
from ragstack.citations.places import OpenDocument
from ragstack.ledger.snapshot import IndexedSource
from ragstack.ledger.spans import StoredSpan, span_chunk_ids
from ragstack.retrieval.explain.explanation import ExpectedLink, Outcome
from ragstack.retrieval.explain.session import Session


@dataclass(frozen=True)
class Located:
    """The chunks that hold the expected passage, in the order of their source. ``detail`` says how they were found."""

    link: ExpectedLink
    chunk_ids: tuple[str, ...]
    detail: str
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lost:
    """There is no chunk with the expected passage. ``advice`` says what to do, or is empty."""

    link: ExpectedLink
    outcome: Outcome
    detail: str
    advice: str = ""
    limits: tuple[str, ...] = ()


def holding(
    link: ExpectedLink,
    source: IndexedSource,
    spans: Sequence[StoredSpan],
    document: OpenDocument,
    detail: str,
    session: Session,
) -> Located | Lost:
    """The chunks that share a byte with the range of ``link``."""
    start, end = link.byte_start or 0, link.byte_end or 0
    held = [span for span in spans if span.record == link.record and span.byte_start < end and start < span.byte_end]
    if not held:
        reason = "what is there is blank" if end <= start else "it is a separator or front matter, which no chunk holds"
        nearest = min(spans, key=lambda span: max(span.byte_start - start, start - span.byte_end))
        lines = f"{document.line_of(nearest.byte_start)}-{document.line_of(nearest.byte_end - 1)}"
        advice = f"The nearest chunk is in lines {lines}: ask for {source.source_id}:{lines}"
        return Lost(link, "no_chunk", f"{detail} No chunk holds the place: {reason}.", advice)
    ids = span_chunk_ids(source.source_id, source.source_version, held, session.fingerprint)
    first, last = document.line_of(held[0].byte_start), document.line_of(held[-1].byte_end - 1)
    detail += (
        f" {chunk_count(len(held)).capitalize()} (lines {first}-{last}) {'hold' if len(held) > 1 else 'holds'} it."
    )
    return Located(link.model_copy(update={"chunk_count": len(ids)}), tuple(ids), detail)


def named(place: Place) -> str:
    lines = (
        f"line {place.line_start}"
        if place.line_start == place.line_end
        else (f"lines {place.line_start}-{place.line_end}")
    )
    return f"in {place.source_id}, {lines}"


def chunk_count(count: int) -> str:
    return "one chunk" if count == 1 else f"{count} chunks"
