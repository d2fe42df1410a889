"""A user's own questions: one JSON object a line, about documents that lie in files.

    {"question": "How long are raw images kept?", "source_id": "docs/retention.md", "quote": "kept for 400 days"}
    {"question": "Who may enter?", "relevant": ["docs/access.md", {"source_id": "docs/faq.md", "grade": 2}]}
    {"question": "What is the capital of Mongolia?", "relevant": []}

``source_id`` is as ``ragstack query --json`` shows it. A relevant source may have a ``grade`` (1 or more) and
either a ``quote``, found word for word (white space aside), or ``byte_start`` and ``byte_end`` in its text. An empty
``relevant`` says that the corpus does not answer. ``id`` names the question; without it the line number does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragstack.errors import InputError
from ragstack.evaluation.dataset import Dataset, DocumentSpan, GoldPiece, GoldQuote, Question, clean_text
from ragstack.evaluation.json_lines import id_of, read_objects, text_of

_HINT = "docs/evaluation.md shows the format of questions."
_SOURCE_KEYS = {"source_id", "grade", "quote", "byte_start", "byte_end"}
_KEYS = _SOURCE_KEYS | {"id", "question", "relevant"}


def read_questions(file: Path) -> Dataset:
    """The questions of a file. Raises InputError with file and line of the first mistake."""
    questions: dict[str, Question] = {}
    for number, row in read_objects(file, "the questions"):
        where = f"{file}:{number}"
        _require_known(row, _KEYS, where)
        question_id = id_of(row, "id", where) if "id" in row else str(number)
        if question_id in questions:
            raise InputError(f"{where}: the id {question_id!r} is there twice.", hint="Give each its own.")
        text = clean_text(text_of(row, "question", where))
        if not text.strip():
            raise InputError(f"{where}: the question is empty.", hint=_HINT)
        relevant: dict[str, int] = {}
        pieces: list[GoldPiece] = []
        quotes: list[GoldQuote] = []
        for source in _sources(row, where):
            source_id = clean_text(text_of(source, "source_id", where))
            grade = source.get("grade", 1)
            if not isinstance(grade, int) or isinstance(grade, bool) or grade < 1:
                raise InputError(f"{where}: grade: expected a whole number from 1 up, got {grade!r}.", hint=_HINT)
            relevant[source_id] = max(grade, relevant.get(source_id, 0))
            pieces += _spans(source, source_id, where)
            quotes += _quotes(source, source_id, where)
        questions[question_id] = Question(question_id, text, relevant, tuple(pieces), tuple(quotes), where)
    if not questions:
        raise InputError(f"{file} holds no questions.", hint=_HINT)
    return Dataset(file.stem, str(file), "questions", tuple(questions.values()))


def _sources(row: dict[str, Any], where: str) -> list[dict[str, Any]]:
    if ("relevant" in row) == ("source_id" in row):
        raise InputError(f"{where}: give either source_id or relevant.", hint=_HINT)
    if "source_id" in row:
        return [{key: value for key, value in row.items() if key in _SOURCE_KEYS}]
    listed = row["relevant"]
    if not isinstance(listed, list) or not all(isinstance(item, (str, dict)) for item in listed):
        raise InputError(f"{where}: relevant: expected a list of source ids or objects.", hint=_HINT)
    sources = [{"source_id": item} if isinstance(item, str) else item for item in listed]
    for source in sources:
        _require_known(source, _SOURCE_KEYS, where)
    return sources


def _require_known(row: dict[str, Any], keys: set[str], where: str) -> None:
    unknown = sorted(row.keys() - keys)
    if unknown:
        raise InputError(f"{where}: unknown key {unknown[0]!r}.", hint=f"The keys are: {', '.join(sorted(keys))}.")


def _spans(source: dict[str, Any], source_id: str, where: str) -> list[GoldPiece]:
    start, end = source.get("byte_start"), source.get("byte_end")
    if start is None and end is None:
        return []
    if not (type(start) is int and type(end) is int and 0 <= start < end):
        raise InputError(f"{where}: byte_start and byte_end: expected 0 ≤ start < end.", hint=_HINT)
    return [(DocumentSpan(source_id, start, end),)]


def _quotes(source: dict[str, Any], source_id: str, where: str) -> list[GoldQuote]:
    if "quote" not in source:
        return []
    if "byte_start" in source:
        raise InputError(f"{where}: give either a quote or bytes.", hint=_HINT)
    quote = clean_text(text_of(source, "quote", where))
    if not quote.strip():
        raise InputError(f"{where}: the quote is empty.", hint=_HINT)
    return [GoldQuote(source_id, quote, where)]
