"""Data sets in the format of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018); XQuAD and others use it too."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ragstack.errors import InputError
from ragstack.evaluation.dataset import (
    Complaints,
    Corpus,
    Dataset,
    DocumentSpan,
    GoldPiece,
    Question,
    byte_offsets,
    clean_text,
    told,
)
from ragstack.evaluation.json_lines import id_of, read_bytes, text_of

_HINT = 'SQuAD is {"data": [{"paragraphs": [{"context": ..., "qas": [{"id", "question", "answers"}]}]}]}.'


def read_squad(file: Path) -> Dataset:
    """Each paragraph is a document, called ``article-paragraph``; equal paragraphs are one.

    ``answer_start`` counts characters of the context; the spans count bytes. Any of a question's answers will do.
    A question with ``is_impossible``, or without answers, is one that the corpus should not answer. An answer that
    does not stand where it is said to gives no span, and is told. Raises InputError for what is not SQuAD.
    """
    complaints = Complaints("answers that do not stand in their paragraph at answer_start, which give no gold span")
    documents: dict[str, str] = {}
    ids: dict[str, str] = {}
    questions: dict[str, Question] = {}
    for article_number, article in enumerate(_list(_parsed(file), "data", str(file))):
        where = f"{file}: data[{article_number}]"
        for number, paragraph in enumerate(_list(article, "paragraphs", where)):
            place = f"{where}.paragraphs[{number}]"
            context = clean_text(text_of(paragraph, "context", place))
            document_id = ids.setdefault(context, f"{article_number:04d}-{number:03d}")
            documents[document_id] = context
            for index, item in enumerate(_list(paragraph, "qas", place)):
                question = _question(item, document_id, context, f"{place}.qas[{index}]", complaints)
                if question.question_id in questions:
                    raise InputError(
                        f"{place}.qas[{index}]: the id {question.question_id!r} is there twice.",
                        hint="Give each its own.",
                    )
                questions[question.question_id] = question
    if not questions:
        raise InputError(f"{file} holds no questions.", hint=_HINT)
    digest = hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()
    corpus = Corpus(lambda: iter(documents.items()), frozenset(documents), digest)
    return Dataset(file.stem, str(file), "squad", tuple(questions.values()), corpus, "", told(complaints))


def _parsed(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_bytes(file, "the data set"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON: {error}.", hint=_HINT) from error
    if not isinstance(value, dict):
        raise InputError(f"{file}: not in the format of SQuAD.", hint=_HINT)
    return value


def _list(value: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    found = value.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise InputError(f"{where}.{key}: expected a list of objects.", hint=_HINT)
    return found


def _question(item: dict[str, Any], document_id: str, context: str, where: str, complaints: Complaints) -> Question:
    answers = [] if item.get("is_impossible") is True else _list({"answers": [], **item}, "answers", where)
    spans: list[DocumentSpan] = []
    for answer in answers:
        start, text = answer.get("answer_start"), clean_text(text_of(answer, "text", where))
        if not isinstance(start, int) or start < 0 or not text or context[start : start + len(text)] != text:
            complaints.add(where)
            continue
        # A file that begins with U+FEFF has a byte-order mark, which is outside the text.
        before = context.removeprefix("\ufeff")
        shift = len(context) - len(before)
        if start >= shift:
            byte_start, byte_end = byte_offsets(before, [start - shift, start - shift + len(text)])
            spans.append(DocumentSpan(document_id, byte_start, byte_end))
    pieces: tuple[GoldPiece, ...] = (tuple(dict.fromkeys(spans)),) if spans else ()
    relevant = {document_id: 1} if answers else {}
    return Question(id_of(item, "id", where), clean_text(text_of(item, "question", where)), relevant, pieces)
