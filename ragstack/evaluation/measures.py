"""Measures of one question: ranking by trec_eval's definitions (through ir-measures), and citations by gold spans."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ragstack.errors import MissingExtraError
from ragstack.evaluation.dataset import DocumentSpan, GoldPiece, Question

if TYPE_CHECKING:
    from ragstack.evaluation.ask import Asked

RECALL_DEPTHS = (5, 10, 50, 100)
RANKING_MEASURES = ("nDCG@10", "MRR@10", *(f"recall@{k}" for k in RECALL_DEPTHS))
CITATION_MEASURES = ("passage_recall@5", "cited_recall", "cited_precision", "cited_document_precision")
"""``passage_recall@5``: share of the gold spans that lie whole in one of the first five passages. ``cited_recall``: in
a quote of the answer. ``cited_precision``: share of the answer's quotes that share bytes with a gold span.
``cited_document_precision``: share of the quotes that are from a relevant document.
"""

PASSAGES_LOOKED_AT = 5


def ranking_measures(
    questions: Sequence[Question], orders: Mapping[str, Sequence[str]], names: Sequence[str] = RANKING_MEASURES
) -> dict[str, dict[str, float]]:
    """The measures of each answerable question, by its id; ``orders`` has its documents, best first, each once.

    A question without an order counts 0. Raises MissingExtraError without ir-measures.
    """
    measures = {_measure(name): name for name in names}
    qrels = {q.question_id: dict(q.relevant) for q in questions if q.is_answerable}
    # trec_eval orders by score, and ties by name: descending scores keep the order that the stage gave.
    run = {
        question_id: {document: float(-rank) for rank, document in enumerate(orders.get(question_id, ()))}
        for question_id in qrels
    }
    result: dict[str, dict[str, float]] = {question_id: dict.fromkeys(names, 0.0) for question_id in qrels}
    if qrels:
        for metric in _library().iter_calc(list(measures), qrels, run):
            result[metric.query_id][measures[metric.measure]] = float(metric.value)
    return result


def citation_measures(asked: Asked) -> dict[str, float]:
    """The citation measures of one answerable question, those that its data and its answer define."""
    question, found = asked.question, {}
    if question.pieces:
        found["passage_recall@5"] = gold_recall(question.pieces, asked.passages[:PASSAGES_LOOKED_AT])
        if asked.with_answer:
            found["cited_recall"] = gold_recall(question.pieces, asked.cited)
    if asked.cited:
        gold = [span for piece in question.pieces for span in piece]
        if gold:
            touching = [any(_overlaps(span, cited) for span in gold) for cited in asked.cited]
            found["cited_precision"] = sum(touching) / len(touching)
        relevant = [cited.document_id in question.relevant for cited in asked.cited]
        found["cited_document_precision"] = sum(relevant) / len(relevant)
    return found


def gold_recall(pieces: Sequence[GoldPiece], places: Sequence[DocumentSpan]) -> float:
    """The share of the pieces of which a span lies whole inside one of the places."""
    held = [any(_holds(place, span) for span in piece for place in places) for piece in pieces]
    return sum(held) / len(held)


def _holds(place: DocumentSpan, span: DocumentSpan) -> bool:
    same = place.document_id == span.document_id
    return same and place.byte_start <= span.byte_start and span.byte_end <= place.byte_end


def _overlaps(first: DocumentSpan, second: DocumentSpan) -> bool:
    same = first.document_id == second.document_id
    return same and first.byte_start < second.byte_end and second.byte_start < first.byte_end


def require_library() -> None:
    """Raise MissingExtraError where ir-measures is not installed: better before an hour of indexing than after it."""
    _library()


def _library() -> Any:
    try:
        with warnings.catch_warnings():
            # Its providers that are not installed say so while they are looked for.
            warnings.simplefilter("ignore")
            import ir_measures  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("Measuring a ranking", "eval") from error
    return ir_measures


def _measure(name: str) -> Any:
    library = _library()
    kind, _, depth = name.partition("@")
    return {"nDCG": library.nDCG, "MRR": library.RR, "recall": library.R}[kind] @ int(depth)
