"""The report of one evaluation: the JSON that ``ragstack eval --json`` writes, and what the other forms show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ragstack.config.loader import LoadedConfig
from ragstack.config.show import effective_values
from ragstack.evaluation.ask import STAGES, Asked
from ragstack.evaluation.dataset import Dataset
from ragstack.evaluation.measures import CITATION_MEASURES, RANKING_MEASURES, citation_measures, ranking_measures
from ragstack.evaluation.significance import mean_interval
from ragstack.evaluation.target import Target
from ragstack.version import __version__

REPORT_FORMAT: Literal["ragstack.eval/1"] = "ragstack.eval/1"
PERCENTILES = (50, 90, 95, 99)
_RESAMPLES = 2000  # for an interval that is looked at; a decision takes more


class ReportModel(BaseModel):
    """Base of the report's parts: frozen, unknown keys rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(ReportModel):
    """A mean over ``count`` questions with its 95% bootstrap interval."""

    mean: float
    low: float
    high: float
    count: int


class DatasetFacts(ReportModel):
    """What was asked. ``questions`` were asked, of which ``unanswerable`` have no relevant document."""

    name: str
    path: str
    format: str
    split: str
    documents: int | None
    questions: int
    unanswerable: int


class IndexFacts(ReportModel):
    """How the index was made; ``reused``: by an earlier run, whose figures these are."""

    documents: int
    chunk_count: int
    tokens_embedded: int
    seconds: float
    tokens_per_second: float
    reused: bool


class Refusals(ReportModel):
    """Shares in [0, 1] of the questions of a kind that got no passage; None without such questions."""

    answerable: float | None
    unanswerable: float | None


class Quotes(ReportModel):
    """Every passage and quote, checked against archive and source. ``outcomes`` counts by status."""

    checked: int
    exact: float | None = Field(description="Share whose bytes, read from the source version cited, are the text.")
    outcomes: dict[str, int]


class QuestionReport(ReportModel):
    """One question. ``stages`` has each stage's measures, ``ranks`` the rank of its first relevant document."""

    question_id: str
    text: str
    relevant: list[str]
    refused: bool
    relevance: float
    ranks: dict[str, int | None]
    stages: dict[str, dict[str, float]]
    citations: dict[str, float]
    seconds: float | None
    error: str


class EvaluationReport(ReportModel):
    """One pipeline on one data set. ``stages``: measures by stage; ``latency_ms``: percentiles by stage.

    A recall deeper than a stage reaches is not in ``stages``.
    """

    format: Literal["ragstack.eval/1"]
    created_at: str
    ragstack_version: str
    config_origin: str
    config: dict[str, Any]
    dataset: DatasetFacts
    index: IndexFacts | None
    stages: dict[str, dict[str, Figure]]
    citations: dict[str, Figure]
    refusals: Refusals
    quotes: Quotes
    latency_ms: dict[str, dict[str, float]]
    errors: dict[str, int]
    warnings: list[str]
    questions: list[QuestionReport]

    def to_json(self) -> dict[str, Any]:
        """JSON types only."""
        return self.model_dump(mode="json")


def build_report(loaded: LoadedConfig, dataset: Dataset, target: Target, asked: Sequence[Asked]) -> EvaluationReport:
    """Score every question and sum up. Raises MissingExtraError without ir-measures."""
    questions = _question_reports(asked)
    answerable = [q for q, a in zip(questions, asked, strict=True) if a.question.is_answerable]
    unanswerable = [q for q, a in zip(questions, asked, strict=True) if not a.question.is_answerable]
    figures = target.figures
    outcomes = sum((Counter(a.findings) for a in asked), Counter[str]())
    checked = sum(outcomes.values())
    return EvaluationReport(
        format=REPORT_FORMAT,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ragstack_version=__version__,
        config_origin=loaded.origin,
        config=effective_values(loaded),
        dataset=DatasetFacts(
            name=dataset.name,
            path=dataset.path,
            format=dataset.format,
            split=dataset.split,
            documents=None if dataset.corpus is None else len(dataset.corpus.ids),
            questions=len(questions),
            unanswerable=len(unanswerable),
        ),
        index=None
        if figures is None
        else IndexFacts(
            documents=figures.documents,
            chunk_count=figures.chunk_count,
            tokens_embedded=figures.tokens_embedded,
            seconds=figures.seconds,
            tokens_per_second=figures.tokens_per_second,
            reused=figures.reused,
        ),
        stages=_stage_figures(answerable, _depths(loaded)),
        citations=_figures((q.citations for q in answerable), CITATION_MEASURES),
        refusals=Refusals(answerable=_refused(answerable), unanswerable=_refused(unanswerable)),
        quotes=Quotes(
            checked=checked, exact=outcomes["verified"] / checked if checked else None, outcomes=dict(outcomes)
        ),
        latency_ms=latency_percentiles([a.timings_s for a in asked if a.timings_s]),
        errors=dict(Counter(a.error for a in asked if a.error)),
        warnings=list(target.warnings),
        questions=questions,
    )


def _question_reports(asked: Sequence[Asked]) -> list[QuestionReport]:
    questions = [a.question for a in asked]
    by_stage = {
        stage: ranking_measures(questions, {a.question.question_id: a.orders.get(stage, ()) for a in asked})
        for stage in STAGES
        if any(stage in a.orders for a in asked)
    }
    return [
        QuestionReport(
            question_id=a.question.question_id,
            text=a.question.text,
            relevant=list(a.question.relevant),
            refused=a.refused,
            relevance=a.relevance,
            ranks={stage: _first_rank(a.orders.get(stage, ()), a.question.relevant) for stage in by_stage},
            stages={
                stage: scores[a.question.question_id]
                for stage, scores in by_stage.items()
                if a.question.question_id in scores
            },
            citations=citation_measures(a) if a.question.is_answerable else {},
            seconds=a.timings_s.get("total"),
            error=a.error,
        )
        for a in asked
    ]


def _first_rank(order: Sequence[str], relevant: Mapping[str, int]) -> int | None:
    return next((rank for rank, document in enumerate(order, 1) if document in relevant), None)


def _depths(loaded: LoadedConfig) -> dict[str, int]:
    """How many candidates a stage can hold at most."""
    retrieval = loaded.config.retrieval
    top_k = dict.fromkeys(("dense", "sparse", "fused"), retrieval.top_k)
    return {**top_k, "reranked": retrieval.rerank_k, "passages": retrieval.top_n}


def _stage_figures(questions: Sequence[QuestionReport], depths: Mapping[str, int]) -> dict[str, dict[str, Figure]]:
    stages = questions[0].stages if questions else {}
    return {
        stage: _figures(
            (q.stages[stage] for q in questions),
            [m for m in RANKING_MEASURES if not m.startswith("recall") or int(m.split("@")[1]) <= depths[stage]],
        )
        for stage in stages
    }


def _figures(rows: Iterable[Mapping[str, float]], names: Iterable[str]) -> dict[str, Figure]:
    kept = list(rows)
    figures = {}
    for name in names:
        values = [row[name] for row in kept if name in row]
        if values:
            low, high = mean_interval(values, resamples=_RESAMPLES)
            figures[name] = Figure(mean=float(np.mean(values)), low=low, high=high, count=len(values))
    return figures


def _refused(questions: Sequence[QuestionReport]) -> float | None:
    return sum(q.refused for q in questions) / len(questions) if questions else None


def latency_percentiles(timings_s: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Milliseconds at the percentiles of each stage, in the order in which the stages run; ``total`` last."""
    stages = list(dict.fromkeys(stage for timing in timings_s for stage in timing))
    stages.sort(key=lambda stage: stage == "total")
    return {
        stage: {
            f"p{p}": float(np.percentile([t[stage] * 1e3 for t in timings_s if stage in t], p)) for p in PERCENTILES
        }
        for stage in stages
    }
