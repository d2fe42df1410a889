"""Two configs on the same questions: which differs, by how much, and whether chance explains it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np

from ragstack.evaluation.report import EvaluationReport, QuestionReport, ReportModel
from ragstack.evaluation.significance import holm, mean_interval, paired_p_value

COMPARISON_FORMAT: Literal["ragstack.eval-comparison/1"] = "ragstack.eval-comparison/1"

_STAGE_MEASURES = (
    ("fused", "nDCG@10"),
    ("reranked", "nDCG@10"),
    ("reranked", "MRR@10"),
    ("reranked", "recall@10"),
    ("passages", "nDCG@10"),
    ("passages", "recall@5"),
)
_CITATION_MEASURES = ("passage_recall@5", "cited_recall", "cited_precision")
_RANKED_BY = ("reranked", "nDCG@10")


class ConfigChange(ReportModel):
    """A key whose value differs; None: the other config's block does not have it."""

    key: str
    a: Any
    b: Any


class ComparedMeasure(ReportModel):
    """One measure over the ``count`` questions for which both define it.

    ``difference`` is B less A, with its 95% bootstrap interval; ``p_value`` of the two-sided paired randomisation test,
    ``p_holm`` corrected for all the measures of the comparison. ``wins`` counts the questions at which B is better.
    """

    stage: str
    measure: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    wins: int
    losses: int
    ties: int
    count: int

    @property
    def is_significant(self) -> bool:
        """True when chance alone would give such a difference, in any of the measures, less than once in 20 times."""
        return self.p_holm < 0.05


class ChangedQuestion(ReportModel):
    """A question's nDCG@10 after reranking under both, and the ranks of its first relevant document."""

    question_id: str
    text: str
    a: float
    b: float
    rank_a: int | None
    rank_b: int | None


class ComparisonReport(ReportModel):
    """Two evaluations side by side. ``changed`` are the questions whose order differs, the largest change first."""

    format: Literal["ragstack.eval-comparison/1"]
    seed: int
    config_changes: list[ConfigChange]
    measures: list[ComparedMeasure]
    changed: list[ChangedQuestion]
    a: EvaluationReport
    b: EvaluationReport

    def to_json(self) -> dict[str, Any]:
        """JSON types only."""
        return self.model_dump(mode="json")


def compare(a: EvaluationReport, b: EvaluationReport, seed: int = 0) -> ComparisonReport:
    """B against A, question by question. Questions that only one of them was asked do not count."""
    of_a = {question.question_id: question for question in a.questions}
    pairs = [(of_a[q.question_id], q) for q in b.questions if q.question_id in of_a]
    compared = []
    for stage, measure, value_of in _measures():
        values = [(value_of(first), value_of(second)) for first, second in pairs]
        known = [(x, y) for x, y in values if x is not None and y is not None]
        if known:
            compared.append(_compared(stage, measure, known, seed))
    adjusted = holm([row.p_value for row in compared])
    stage, measure = _RANKED_BY
    changed = [
        ChangedQuestion(
            question_id=first.question_id,
            text=first.text,
            a=first.stages[stage][measure],
            b=second.stages[stage][measure],
            rank_a=first.ranks[stage],
            rank_b=second.ranks[stage],
        )
        for first, second in pairs
        if first.stages and second.stages and first.stages[stage][measure] != second.stages[stage][measure]
    ]
    return ComparisonReport(
        format=COMPARISON_FORMAT,
        seed=seed,
        config_changes=list(config_changes(a.config, b.config)),
        measures=[row.model_copy(update={"p_holm": p}) for row, p in zip(compared, adjusted, strict=True)],
        changed=sorted(changed, key=lambda q: (-abs(q.b - q.a), q.question_id)),
        a=a,
        b=b,
    )


def config_changes(a: Mapping[str, Any], b: Mapping[str, Any], above: str = "") -> Iterator[ConfigChange]:
    """The keys whose values differ, dotted, in the order of the config."""
    for key in dict.fromkeys([*a, *b]):
        first, second = a.get(key), b.get(key)
        path = f"{above}.{key}" if above else key
        if isinstance(first, dict) and isinstance(second, dict):
            yield from config_changes(first, second, path)
        elif first != second or (key in a) != (key in b):
            yield ConfigChange(key=path, a=first, b=second)


_ValueOf = Callable[[QuestionReport], "float | None"]


def _measures() -> Iterator[tuple[str, str, _ValueOf]]:
    for stage, measure in _STAGE_MEASURES:
        yield stage, measure, partial(_stage_value, stage, measure)
    for name in _CITATION_MEASURES:
        yield "citations", name, partial(_citation_value, name)


def _stage_value(stage: str, measure: str, question: QuestionReport) -> float | None:
    return question.stages.get(stage, {}).get(measure)


def _citation_value(name: str, question: QuestionReport) -> float | None:
    return question.citations.get(name)


def _compared(stage: str, measure: str, values: list[tuple[float, float]], seed: int) -> ComparedMeasure:
    pairs = np.array(values)
    differences = pairs[:, 1] - pairs[:, 0]
    low, high = mean_interval(differences.tolist(), seed=seed)
    p_value = paired_p_value(differences.tolist(), seed=seed)
    return ComparedMeasure(
        stage=stage,
        measure=measure,
        a=float(pairs[:, 0].mean()),
        b=float(pairs[:, 1].mean()),
        difference=float(differences.mean()),
        low=low,
        high=high,
        p_value=p_value,
        p_holm=p_value,
        wins=int((differences > 0).sum()),
        losses=int((differences < 0).sum()),
        ties=int((differences == 0).sum()),
        count=len(values),
    )
