"""Gold spans of a user's own questions: looked up in the documents as they were indexed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from ragstack.archive.sqlite import SqliteArchive
from ragstack.errors import InputError
from ragstack.evaluation.dataset import (
    Complaints,
    Dataset,
    DocumentSpan,
    GoldPiece,
    GoldQuote,
    Question,
    byte_offsets,
    told,
)
from ragstack.ledger.schema import ARCHIVE_FILE


def located(dataset: Dataset, state_dir: Path, versions: Mapping[str, str]) -> tuple[tuple[Question, ...], list[str]]:
    """The questions with their quotes turned into spans, and what could not be used.

    ``versions`` are the index's sources. Only a user's own questions name sources; those of other data sets come back
    as they are. A relevant source that is not indexed is left out, as is a question that has no other. Raises
    InputError when no question is left.
    """
    if dataset.corpus is not None:
        return dataset.questions, []
    unknown = Complaints("relevant sources that are not in the index")
    lost = Complaints("questions left out, for none of their relevant sources is in the index")
    absent = Complaints("quotes and byte ranges that do not stand in their source, which give no gold span")
    kept = []
    with closing(SqliteArchive(state_dir / ARCHIVE_FILE)) as archive:
        keys = {key.source_version: key for key in archive.keys() if not key.record}  # noqa: SIM118 - not a dict
        texts: dict[str, str] = {}

        def text_of(source_id: str) -> str:
            if source_id not in texts:
                document = archive.get(keys[versions[source_id]])
                texts.clear()  # one at a time: questions about one document mostly follow one another
                texts[source_id] = "" if document is None else document.canonical_bytes.decode("utf-8")
            return texts[source_id]

        for question in dataset.questions:
            relevant = {source: grade for source, grade in question.relevant.items() if source in versions}
            for source in question.relevant.keys() - relevant.keys():
                unknown.add(f"{question.where} {source:.60}")
            if question.relevant and not relevant:
                lost.add(question.where)
                continue
            pieces: list[GoldPiece] = []
            for piece in question.pieces:
                inside = tuple(s for s in piece if s.document_id in relevant and _fits(s, text_of(s.document_id)))
                if inside:
                    pieces.append(inside)
                else:
                    absent.add(question.where)
            for quote in question.quotes:
                found = _find(quote, text_of(quote.document_id)) if quote.document_id in relevant else ()
                if found:
                    pieces.append(found)
                else:
                    absent.add(quote.where)
            kept.append(replace(question, relevant=relevant, pieces=tuple(pieces), quotes=()))
    notes = list(told(unknown, lost, absent))
    if not kept:
        raise InputError(
            f"{dataset.path}: no question is left: {notes[0] if notes else 'there is none'}.",
            hint="A source_id is the folder's name, / and the path below it, as `ragstack query --json` shows it.",
        )
    return tuple(kept), notes


def _fits(span: DocumentSpan, text: str) -> bool:
    return span.byte_end <= len(text.encode("utf-8"))


def _find(quote: GoldQuote, text: str) -> GoldPiece:
    """Every place where the quote stands, white space aside."""
    words = r"\s+".join(map(re.escape, quote.text.split()))
    matches = [match.span() for match in re.finditer(words, text)]
    offsets = iter(byte_offsets(text, [position for span in matches for position in span]))
    return tuple(DocumentSpan(quote.document_id, start, end) for start, end in zip(offsets, offsets, strict=True))
