"""Checking a saved chain against the archive and the sources alone: no store, no model.

Each place (passage or quote) gets one status:

==================  =========================================================================================
``verified``        the bytes the chain names, read from the source version it names, are its text
``source_changed``  the file has other bytes now; the archived version, where it is kept, bears the place out
``source_missing``  the file is gone; the archived version, where it is kept, bears the place out
``wrong``           the named version does not have this text at this place, or the chain contradicts itself
``unverifiable``    neither archive nor file holds the named version, and nothing shows that it ever existed
==================  =========================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import ValidationError

from ragstack.archive.base import ArchivedDocument, DocumentArchive, DocumentKey
from ragstack.citations.answer_text import with_markers
from ragstack.citations.chain import CHAIN_FORMAT, AnswerLink, CandidateLink, Chain, PassageLink, Place, citation_id
from ragstack.citations.places import OpenDocument
from ragstack.errors import InputError
from ragstack.repetition import repetition_key
from ragstack.source_names import path_of_uri
from ragstack.types import chunk_id, sha256_hex

Status: TypeAlias = Literal["verified", "source_changed", "source_missing", "wrong", "unverifiable"]
MAX_CHAIN_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome for one place, or for a link of the chain. ``where`` names it (``citation 2``, ``passage 1``)."""

    where: str
    status: Status
    detail: str


def read_regular(path: Path | None) -> bytes | None:
    """The bytes of a file, or None: a chain may name anything, so devices and pipes are not opened."""
    try:
        return path.read_bytes() if path is not None and path.is_file() else None
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class Evidence:
    """What places are checked against.

    ``archive`` is None without an index. ``path_of`` gives the file of a source by its id where the
    index knows it; ``was_indexed`` says whether a version was ever published. ``read`` gives the bytes of a regular
    file, or None: whoever checks many places of one file at a time may read it once. ``uri_of`` gives where a source
    was read from, empty where the index does not know.
    """

    archive: DocumentArchive | None
    path_of: Callable[[str], Path | None]
    was_indexed: Callable[[str, str], bool]
    read: Callable[[Path | None], bytes | None] = read_regular
    uri_of: Callable[[str], str] = lambda source_id: ""


def load_chain(text: str, where: str) -> Chain:
    """Read a chain from JSON text: the chain itself, or the output of ``ragstack query --json`` that holds it.

    Raises InputError that names the first mistake; it never raises anything else, whatever the text.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: not JSON: {error}.", hint="Save a chain with: ragstack query 'QUESTION' --json > chain.json"
        ) from error
    if not isinstance(value, dict) or value.get("format") != CHAIN_FORMAT:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise InputError(
            f"{where}: not a citation chain: expected an object with format {CHAIN_FORMAT!r}, got {found!r}.",
            hint="Save a chain with: ragstack query 'QUESTION' --json > chain.json",
        )
    try:
        return Chain.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        more = f" ({error.error_count() - 1} more mistakes)" if error.error_count() > 1 else ""
        raise InputError(
            f"{where}: not a whole citation chain: {key}: {first['msg']}{more}.",
            hint="Use a file as `ragstack query --json` wrote it.",
        ) from error


def verify_chain(chain: Chain, evidence: Evidence) -> list[Finding]:
    """Check every link and every place of a chain (see the table above): a finding a place, more where links fail."""
    findings = [Finding(where, "wrong", detail) for where, detail in _broken_links(chain)]
    checked: dict[str, tuple[Status, str]] = {}
    for where, place in _places(chain):
        key = place.model_dump_json()
        if key not in checked:
            checked[key] = check_place(place, evidence)
        findings.append(Finding(where, *checked[key]))
    return findings


def _places(chain: Chain) -> Iterator[tuple[str, Place]]:
    if chain.answer is not None:
        for number, citation in enumerate(chain.answer.citations, 1):
            yield f"citation {number}", citation.place
    for passage in chain.passages:
        yield f"passage {passage.rank}", passage.place
        for number, duplicate in enumerate(passage.duplicates, 1):
            yield f"passage {passage.rank}, duplicate {number}", duplicate.place


def _broken_links(chain: Chain) -> Iterator[tuple[str, str]]:
    """Where the chain contradicts itself: ids, ranks and ranges that do not follow from one another."""
    if chain.computed_digest() != chain.digest:
        yield "chain", "its digest does not match its content: it was edited after it was written"
    if [candidate.fused_rank for candidate in chain.candidates] != list(range(1, len(chain.candidates) + 1)):
        yield "chain", "the ranks of its candidates are not 1, 2, 3, …"
    if [passage.rank for passage in chain.passages] != list(range(1, len(chain.passages) + 1)):
        yield "chain", "the ranks of its passages are not 1, 2, 3, …"
    candidates = {candidate.chunk_id: candidate for candidate in chain.candidates}
    if len(candidates) != len(chain.candidates):
        yield "chain", "a candidate stands in it twice"
    for candidate in chain.candidates:
        expected = chunk_id(
            candidate.source_id, candidate.source_version, candidate.byte_start, candidate.byte_end,
            chain.index.fingerprint,
        )  # fmt: skip
        if expected != candidate.chunk_id:
            yield f"candidate {candidate.fused_rank}", "its chunk id does not belong to its source, version and range"
    passages = {passage.rank: passage for passage in chain.passages}
    for passage in chain.passages:
        members = [candidates.get(identity) for identity in passage.chunk_ids]
        found = [member for member in members if member is not None]
        if len(found) != len(members):
            yield f"passage {passage.rank}", "it is made of a chunk that is not among the candidates"
        else:
            yield from _broken_passage(chain, passage, found, candidates)
    yield from _broken_answer(chain, passages)


def _broken_passage(
    chain: Chain, passage: PassageLink, hits: Sequence[CandidateLink], candidates: Mapping[str, CandidateLink]
) -> Iterator[tuple[str, str]]:
    where, place = f"passage {passage.rank}", passage.place
    for each in passage.added:
        expected = chunk_id(
            place.source_id, place.source_version, each.byte_start, each.byte_end, chain.index.fingerprint
        )
        if expected != each.chunk_id:
            yield where, "the id of a chunk that was added to it does not belong to its source, version and range"
    ranges = [(hit.byte_start, hit.byte_end) for hit in hits]
    ranges += [(each.byte_start, each.byte_end) for each in passage.added]
    if any((hit.source_id, hit.source_version) != (place.source_id, place.source_version) for hit in hits) or (
        min(start for start, _ in ranges),
        max(end for _, end in ranges),
    ) != (place.byte_start, place.byte_end):
        yield where, "its range is not that of the chunks it is made of"
        return
    data = place.text.encode("utf-8", "surrogatepass")
    texts = [data[hit.byte_start - place.byte_start : hit.byte_end - place.byte_start] for hit in hits]
    words = {repetition_key(text.decode("utf-8", "replace")) for text in texts}
    for duplicate in passage.duplicates:
        other, candidate = duplicate.place, candidates.get(duplicate.chunk_id)
        if candidate is None or (
            candidate.source_id, candidate.source_version, candidate.byte_start, candidate.byte_end
        ) != (other.source_id, other.source_version, other.byte_start, other.byte_end):  # fmt: skip
            yield where, "what it names as its duplicate is not among the candidates"
        elif repetition_key(other.text) not in words:
            yield where, "what it names as its duplicate has other words"


def _broken_answer(chain: Chain, passages: dict[int, PassageLink]) -> Iterator[tuple[str, str]]:
    if chain.answer is None:
        return
    known = {citation.citation_id for citation in chain.answer.citations}
    for number, citation in enumerate(chain.answer.citations, 1):
        place = citation.place
        passage = passages.get(citation.passage_rank)
        if passage is None:
            yield f"citation {number}", f"passage {citation.passage_rank}, which it quotes, is not in the chain"
        elif not _lies_inside(place, passage.place):
            yield f"citation {number}", f"it does not lie inside passage {citation.passage_rank}"
        expected = citation_id(place.source_version, place.parser, place.record, place.byte_start, place.byte_end)
        if expected != citation.citation_id:
            yield f"citation {number}", "its id does not belong to its version and range"
    answer = chain.answer.text.encode("utf-8", "surrogatepass")
    by_id = {citation.citation_id: citation for citation in chain.answer.citations}
    for number, sentence in enumerate(chain.answer.sentences, 1):
        if answer[sentence.byte_start : sentence.byte_end].decode("utf-8", "replace") != sentence.text:
            yield f"sentence {number}", "its range in the answer does not hold its text"
        unknown = [identity for identity in sentence.citation_ids if identity not in known]
        if unknown:
            yield f"sentence {number}", f"citation {unknown[0]}, on which it rests, is not in the chain"
        elif sentence.verbatim:
            quoted = [_squeezed(by_id[identity].place.text) for identity in sentence.citation_ids]
            if _squeezed(sentence.text) not in quoted:
                yield f"sentence {number}", "it is not the text that it quotes"
    yield from _broken_text(chain.answer)


def _broken_text(answer: AnswerLink) -> Iterator[tuple[str, str]]:
    """Where the shown text says more than its sentences, or its markers do not number its sources."""
    by_id = {citation.citation_id: citation for citation in answer.citations}
    cited = [by_id[i] for sentence in answer.sentences for i in sentence.citation_ids if i in by_id]
    numbers: dict[int, int] = {}
    for citation in cited:
        numbers.setdefault(citation.passage_rank, len(numbers) + 1)
    if len(by_id) != len(answer.citations) or {c.citation_id for c in cited} != by_id.keys():
        yield "answer", "a citation stands in it twice, or under no sentence"
    elif any(citation.marker != numbers[citation.passage_rank] for citation in cited):
        yield "answer", "its markers do not number its sources in the order of their use"
    position = 0
    shown = answer.text.encode("utf-8", "surrogatepass")
    for sentence in answer.sentences:
        markers = [by_id[i].marker for i in sentence.citation_ids if i in by_id]
        marked = with_markers(sentence.text, markers).encode("utf-8", "surrogatepass")
        lead = shown[position : sentence.byte_start]
        end = sentence.byte_start + len(marked)
        if sentence.byte_start < position or lead.strip() or shown[sentence.byte_start : end] != marked:
            yield "answer", "its text is not that of its sentences with their markers"
            return
        position = end
    if position != len(shown):
        yield "answer", "its text is not that of its sentences with their markers"


def _lies_inside(inner: Place, outer: Place) -> bool:
    same_document = all(
        getattr(inner, name) == getattr(outer, name) for name in ("source_id", "source_version", "parser", "record")
    )
    return same_document and outer.byte_start <= inner.byte_start and inner.byte_end <= outer.byte_end


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def check_place(place: Place, evidence: Evidence) -> tuple[Status, str]:
    """Check one place against the archived document and the file."""
    key = DocumentKey(place.source_version, place.parser, place.record)
    archived = evidence.archive.get(key) if evidence.archive is not None else None
    if archived is not None:
        fault = _archive_fault(place, archived)
        if fault:
            return "wrong", fault
    path, data = None, None
    for candidate in (evidence.path_of(place.source_id), path_of_uri(place.source_uri)):
        found = evidence.read(candidate)
        if found is not None and sha256_hex(found) == place.source_version:
            return _check_source(place, found, in_archive=archived is not None)
        path = path or candidate
        data = found if data is None else data
    gone: Status = "source_missing" if data is None else "source_changed"
    what = f"{path or place.source_uri} {'is gone' if data is None else 'has other bytes now'}"
    if archived is not None:
        return gone, f"{what}; the archived version bears the citation out"
    if evidence.was_indexed(place.source_id, place.source_version):
        return gone, f"{what}; the version cited was indexed once, its archived text is no longer kept"
    return "unverifiable", f"{what}, and the index never held the version cited"


def source_bytes(place: Place, evidence: Evidence) -> bytes | None:
    """The raw bytes of the place's source ranges, joined, where the file still is the version cited; else None."""
    for candidate in (evidence.path_of(place.source_id), path_of_uri(place.source_uri)):
        found = evidence.read(candidate)
        if found is not None and sha256_hex(found) == place.source_version:
            return b"".join(found[span.byte_start : span.byte_end] for span in place.source_ranges)
    return None


def _check_source(place: Place, data: bytes, *, in_archive: bool) -> tuple[Status, str]:
    fault = _source_fault(place, data)
    if fault:
        return "wrong", fault
    if in_archive:
        return "verified", "source and archive agree"
    if place.source_verbatim:
        return "verified", "the source bears it out"
    return "unverifiable", "the source is unchanged, but its text can only be checked through the archive"


def _archive_fault(place: Place, archived: ArchivedDocument) -> str:
    """What is wrong with a place, given the archived document; empty when nothing is."""
    if place.byte_end > len(archived.canonical_bytes):
        return "its byte range reaches past the end of the archived text"
    try:
        text = archived.text(place.byte_start, place.byte_end)
    except UnicodeDecodeError:
        return "its byte range cuts a character of the archived text"
    if text != place.text:
        return "the archived text has other words at this range"
    rebuilt = OpenDocument(archived).place(
        place.source_id, place.source_uri, place.byte_start, place.byte_end, place.heading_path
    )
    for name in Place.model_fields:
        if getattr(rebuilt, name) != getattr(place, name):
            return f"its {name} is not that of the archived document"
    return ""


def _source_fault(place: Place, data: bytes) -> str:
    """What is wrong with a place, given the raw bytes of its version; empty when nothing is."""
    if any(found.byte_end > len(data) or found.byte_end < found.byte_start for found in place.source_ranges):
        return "its source ranges reach past the end of the source"
    if not place.source_verbatim:
        return ""
    try:
        decoded = "".join(data[r.byte_start : r.byte_end].decode(place.source_encoding) for r in place.source_ranges)
    except (ValueError, LookupError):  # a forged encoding may be any string
        return f"the source bytes at its ranges are not {place.source_encoding} text"
    return "" if decoded == place.text else "the source bytes at its ranges are other words"
