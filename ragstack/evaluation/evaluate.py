"""One evaluation from config and data set to report."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from ragstack.config.loader import LoadedConfig
from ragstack.evaluation.ask import ask_all
from ragstack.evaluation.dataset import Dataset
from ragstack.evaluation.measures import require_library
from ragstack.evaluation.report import EvaluationReport, build_report
from ragstack.evaluation.target import IndexPlace, Target, existing_target, indexed_target
from ragstack.indexer.interruption import Interruption
from ragstack.indexer.report import IndexProgress, SilentProgress


class EvaluationProgress(IndexProgress, Protocol):
    """Follows an evaluation: the making of its index, then its questions."""

    def asked(self, done: int, total: int) -> None:
        """So many of the questions have been asked."""


class SilentEvaluation(SilentProgress):
    """Follows nothing."""

    def asked(self, done: int, total: int) -> None:
        """Nothing."""


@dataclass(frozen=True)
class EvaluationRequest:
    """How to evaluate. ``place`` None: the index that the config has, untouched. ``with_answer``: answers are made."""

    place: IndexPlace | None = field(default_factory=IndexPlace)
    with_answer: bool = True


def open_target(
    loaded: LoadedConfig,
    dataset: Dataset,
    place: IndexPlace | None,
    progress: IndexProgress,
    interruption: Interruption | None = None,
) -> AbstractContextManager[Target]:
    """The index that the questions are asked of, for a ``with`` block."""
    if place is None:
        return existing_target(loaded, dataset)
    return indexed_target(loaded, dataset, place, progress, interruption)


def evaluate(
    loaded: LoadedConfig,
    dataset: Dataset,
    request: EvaluationRequest | None = None,
    progress: EvaluationProgress | None = None,
    interruption: Interruption | None = None,
) -> EvaluationReport:
    """Index the data set's documents as the config says (or take an index that is there), ask, measure.

    Raises MissingExtraError without ir-measures (before any work), InputError for a data set that does not fit, what
    indexing and queries raise, and InterruptedRunError when ``interruption`` was asked.
    """
    require_library()
    request = request or EvaluationRequest()
    follow = progress or SilentEvaluation()
    with open_target(loaded, dataset, request.place, follow, interruption) as target:
        total = len(target.questions)
        asked = ask_all(
            target,
            with_answer=request.with_answer,
            on_asked=lambda done: follow.asked(done, total),
            interruption=interruption,
        )
        return build_report(loaded, dataset, target, asked)
