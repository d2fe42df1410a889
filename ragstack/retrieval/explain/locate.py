"""Finds the chunks that hold an expected passage, or says why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from ragstack.archive.base import DocumentKey
from ragstack.citations.chain import Place
from ragstack.citations.places import line_starts
from ragstack.errors import InputError
from ragstack.ledger.snapshot import IndexedSource
from ragstack.ledger.spans import StoredSpan, record_source_id, span_chunk_ids
from ragstack.retrieval.explain.explanation import ExpectedLink, Outcome
from ragstack.retrieval.explain.located import Located, Lost, chunk_count, holding, named
from ragstack.retrieval.explain.session import Session
from ragstack.retrieval.explain.target import Expected, SourcePlace, find_text
from ragstack.retrieval.explain.text import locate_text

MAX_CHUNKS = 2000
"""Chunks of one source that are looked at; a file with more has its first ones explained."""
# Chunks whose documents are searched for a text. Queries wait meanwhile: who runs the machine may accept that.
_SCANNED_CHUNKS, _SCANNED_FOR_OTHERS = 50_000, 2_000


class FileFinding(Protocol):
    """Why a name is no indexed source. ``outcome`` is ``not_a_source`` or ``not_indexed``."""

    @property
    def outcome(self) -> Outcome: ...

    @property
    def detail(self) -> str: ...

    @property
    def advice(self) -> str: ...


class Files(Protocol):
    """What the file system and the ledger's roots know. Not given to those who may only see the index."""

    def source_ids(self, name: str) -> list[str]:
        """The source ids that a path may have, read from the working directory and below each root."""

    def why_not(self, name: str) -> FileFinding:
        """Why a name that is no indexed source is none."""

    def skipped(self, source: IndexedSource) -> FileFinding:
        """Why a source that is known has no text in the index."""

    def trouble(self, source: IndexedSource) -> str | None:
        """Why the last run could not read the source as it is now, so that an older version is indexed; or None."""

    def documents_now(self, source: IndexedSource) -> dict[str, str] | None:
        """The canonical texts, by record, of the file as it is now.

        None when that is the indexed version, and when the file is gone or cannot be read any more.
        """


def locate(expected: Expected, session: Session, files: Files | None) -> Located | Lost:
    """The chunks that hold ``expected``, as far as the asker may see them.

    Raises InputError for a line or a byte range that the source does not have.
    """
    if expected.chunk_id is not None:
        return _chunk(expected, expected.chunk_id, session)
    for place in expected.places:
        for source_id in _source_ids(place.name, files):
            found = _in_source(expected, place, source_id, session, files)
            if found is not None:
                return found
    if expected.text is not None:
        most = _SCANNED_FOR_OTHERS if files is None else _SCANNED_CHUNKS
        return locate_text(expected, expected.text, session, most, is_certain=not expected.places)
    link = ExpectedLink(given=expected.given, kind="source")
    if files is None:
        advice = "GET /v1/documents lists the documents that there are."
        return Lost(link, "not_indexed", f"{expected.given} is not indexed.", advice)
    # The reading with the shortest name: what a line or a range stood behind.
    finding = files.why_not(expected.places[-1].name)
    return Lost(link, finding.outcome, finding.detail, finding.advice)


def _source_ids(name: str, files: Files | None) -> list[str]:
    try:
        name.encode("utf-8")
        as_id = [name.removeprefix("id:")]
    except UnicodeEncodeError:
        as_id = []  # a file's name, of which the id has another form
    if name.startswith("id:") or files is None:
        return as_id
    return list(dict.fromkeys([*as_id, *files.source_ids(name)]))


def _chunk(expected: Expected, chunk_id: str, session: Session) -> Located | Lost:
    payload = session.payloads([chunk_id]).get(chunk_id)
    link = ExpectedLink(given=expected.given, kind="chunk")
    if payload is None:
        detail = f"No chunk of the index has the id {chunk_id}."
        advice = "A chunk gets another id when its file, the chunker or the model changes: name the file and line."
        return Lost(link, "not_indexed", detail, advice)
    place = session.place(payload)
    link = _at(link, payload["source_id"], place).model_copy(update={"chunk_count": 1})
    return Located(link, (chunk_id,), f"The chunk is {named(place)}.")


def _in_source(
    expected: Expected, place: SourcePlace, source_id: str, session: Session, files: Files | None
) -> Located | Lost | None:
    """What is at ``place`` of the source; None when the asker knows of no such source."""
    container, _, record = source_id.rpartition("#")
    source = session.source(source_id)
    wanted_record = None
    if source is None and container:
        source, wanted_record = session.source(container), record
    if source is None:
        return None
    link = ExpectedLink(
        given=expected.given, kind="source", source_id=source_id, source_version=source.source_version,
        record=wanted_record,
    )  # fmt: skip
    spans = [span for span in source.spans if wanted_record in (None, span.record)]
    if not spans:
        if files is None:
            return None if session.access_filter is not None else _skipped_plainly(link, source)
        finding = files.skipped(source)
        return Lost(link, finding.outcome, finding.detail, finding.advice)
    if not session.payloads(span_chunk_ids(source.source_id, source.source_version, spans[:1], session.fingerprint)):
        return None
    trouble = None if files is None else files.trouble(source)
    told = "" if trouble is None else f" The last run could not read it as it is now ({trouble})."
    if place.lines is None and place.byte_range is None:
        whole = _whole(link, source, spans, session)
        return replace(whole, detail=whole.detail + told)
    records = sorted({span.record for span in spans})
    if len(records) > 1:
        raise InputError(
            f"{source_id} holds {len(records)} records; a line or a byte range belongs to one of them.",
            hint=f"Name the record, as in: {record_source_id(source.source_id, records[0])}:1",
        )
    part = _part(link, place, source, records[0], spans, session, files)
    return replace(part, detail=part.detail + told)


def _skipped_plainly(link: ExpectedLink, source: IndexedSource) -> Lost:
    return Lost(link, "not_a_source", f"{source.source_id} has no text in the index: {source.skipped or 'empty'}.")


def _whole(link: ExpectedLink, source: IndexedSource, spans: Sequence[StoredSpan], session: Session) -> Located:
    ids = span_chunk_ids(source.source_id, source.source_version, spans[:MAX_CHUNKS], session.fingerprint)
    limits: tuple[str, ...] = ()
    if len(spans) > MAX_CHUNKS:
        limits = (f"{source.source_id} has {len(spans)} chunks; the first {MAX_CHUNKS} were looked at.",)
    detail = f"{source.source_id} is indexed (version {source.source_version[:12]}), in {chunk_count(len(spans))}."
    return Located(link.model_copy(update={"chunk_count": len(ids)}), tuple(ids), detail, limits)


def _part(
    link: ExpectedLink,
    place: SourcePlace,
    source: IndexedSource,
    record: str,
    spans: Sequence[StoredSpan],
    session: Session,
    files: Files | None,
) -> Located | Lost:
    document = session.document(DocumentKey(source.source_version, source.parser, record))
    now = None if files is None else files.documents_now(source)
    detail = f"{source.source_id} is indexed (version {source.source_version[:12]})."
    if now is None:
        start, end = _range(link.given, place, document.document.canonical_bytes)
    else:
        # The user reads the file as it is: its text is looked for in the version that is indexed.
        current = now.get(record, "").encode("utf-8")
        start, end = _range(link.given, place, current)
        wanted = current[start:end].decode("utf-8", "ignore")
        detail = f"{source.source_id} has changed since it was indexed (version {source.source_version[:12]})."
        moved = _nearest(find_text(document.document.canonical_bytes.decode("utf-8"), wanted), start)
        if wanted.strip() and moved is None:
            outcome: Outcome = "not_indexed"
            return Lost(
                link, outcome, f"{detail} The text expected here is new: the indexed version does not have it.",
                "Index the file as it is now: ragstack index",
            )  # fmt: skip
        if moved is not None:
            was = document.line_of(start if start < len(document.document.canonical_bytes) else 0)
            start, end = moved
            line = document.line_of(start)
            detail += f" In the indexed version the text is in line {line}." if line != was else ""
    start, end = _trimmed(document.document.canonical_bytes, start, end)
    place_link = {"record": record, "byte_start": start, "byte_end": end}
    if end > start:
        place_link |= {"line_start": document.line_of(start), "line_end": document.line_of(end - 1)}
    link = link.model_copy(update=place_link)
    return holding(link, source, spans, document, detail, session)


def _range(given: str, place: SourcePlace, data: bytes) -> tuple[int, int]:
    """The canonical byte range that ``place`` names. Raises InputError when the text ends before it."""
    if place.byte_range is not None:
        start, end = place.byte_range
        if end > len(data):
            raise InputError(f"{given}: the text of the source ends at byte {len(data)}.", hint="Bytes count from 0.")
        return start, end
    first, last = place.lines or (1, 1)
    starts = line_starts(data)
    if len(starts) > 1 and starts[-1] == len(data):
        starts.pop()  # nothing follows the last line end
    if last > len(starts):
        raise InputError(f"{given}: the source ends with line {len(starts)}.", hint="Lines count from 1.")
    end = starts[last] if last < len(starts) else len(data)
    return starts[first - 1], end


def _trimmed(data: bytes, start: int, end: int) -> tuple[int, int]:
    """The range without white space at its ends; an empty one where there is nothing else."""
    part = data[start:end]
    inner = part.strip()
    if not inner:
        return start, start
    lead = len(part) - len(part.lstrip())
    return start + lead, start + lead + len(inner)


def _nearest(places: Sequence[tuple[int, int]], start: int) -> tuple[int, int] | None:
    return min(places, key=lambda place: abs(place[0] - start), default=None)


def _at(link: ExpectedLink, source_id: str, place: Place) -> ExpectedLink:
    return link.model_copy(
        update={
            "source_id": source_id,
            "source_version": place.source_version,
            "record": place.record,
            "byte_start": place.byte_start,
            "byte_end": place.byte_end,
            "line_start": place.line_start,
            "line_end": place.line_end,
        }
    )
