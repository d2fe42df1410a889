"""Runs a tuning: an index for each chunk size, recorded candidates, all settings scored, one chosen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ragstack.config.loader import LoadedConfig
from ragstack.errors import InputError, InterruptedRunError
from ragstack.evaluation.ask import Asked, ask_all, stop_if_asked
from ragstack.evaluation.dataset import Dataset, Question
from ragstack.evaluation.evaluate import EvaluationProgress
from ragstack.evaluation.measures import gold_recall, ranking_measures, require_library
from ragstack.evaluation.report import ReportModel
from ragstack.evaluation.target import IndexPlace, indexed_target
from ragstack.evaluation.tuning.recording import Recorded, record, recording_config
from ragstack.evaluation.tuning.refusal import RefusalChoice, choose_min_relevance
from ragstack.evaluation.tuning.selection import Selection, select
from ragstack.evaluation.tuning.space import Settings, can_be_replayed, chunk_sizes, settings_for, with_values
from ragstack.evaluation.tuning.trials import Replay
from ragstack.indexer.interruption import Interruption

TUNE_FORMAT: Literal["ragstack.tune/1"] = "ragstack.tune/1"
FEWEST_QUESTIONS = 10


@dataclass(frozen=True)
class TuneRequest:
    """How to tune. After ``budget_s`` nothing is begun, nor an index that would, as the last one took, end later."""

    place: IndexPlace = field(default_factory=IndexPlace)
    measure: str = "nDCG@10"
    chunk_sizes: Sequence[int] | None = None
    folds: int = 5
    seed: int = 0
    budget_s: float = 1800.0


class TuneReport(ReportModel):
    """What was tried, what was chosen, and why.

    ``values`` are the dotted keys to change; empty where nothing beat the config beyond noise (``is_better`` False).
    ``own`` and ``held_out`` are the measure's means: of the config, and of what was chosen without the question at
    hand. ``best_values`` and ``best`` are of the choice on all questions, better or not: how it did on the questions
    that it was chosen by. ``confirmed`` is the measure of the config and of the chosen one, asked anew through the
    whole query path. ``fold_choices`` are the keys that each fold changed.
    """

    format: Literal["ragstack.tune/1"]
    measure: str
    seed: int
    questions: int
    unanswerable: int
    folds: int
    trials: int
    chunk_sizes: list[int | None]
    values: dict[str, Any]
    is_better: bool
    own: float
    held_out: float
    low: float
    high: float
    p_value: float
    best: float
    best_values: dict[str, Any]
    fold_choices: list[dict[str, Any]]
    refusal: RefusalChoice | None
    confirmed: dict[str, float] | None
    interrupted: bool
    seconds: float
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """JSON types only."""
        return self.model_dump(mode="json")


def tune(
    loaded: LoadedConfig,
    dataset: Dataset,
    request: TuneRequest,
    progress: EvaluationProgress,
    interruption: Interruption | None = None,
) -> TuneReport:
    """Search, choose and confirm. The same arguments and data give the same choice, while the budget does not cut it.

    Raises MissingExtraError without ir-measures, InputError for too few questions or a measure that they lack, what
    indexing and queries raise, and InterruptedRunError when ``interruption`` was asked before anything was found;
    later, what was found is returned.
    """
    require_library()
    return _Search(loaded, dataset, request, progress, interruption).run()


class _Search:
    def __init__(
        self,
        loaded: LoadedConfig,
        dataset: Dataset,
        request: TuneRequest,
        progress: EvaluationProgress,
        interruption: Interruption | None,
    ) -> None:
        self._loaded = loaded
        self._dataset = dataset
        self._request = request
        self._progress = progress
        self._interruption = interruption
        self._started = time.monotonic()
        self._notes: list[str] = []
        self._interrupted = False
        self._trials: list[Settings] = []
        self._scores: list[dict[str, float]] = []
        self._groups: dict[str, str] = {}

    def run(self) -> TuneReport:
        tried = self._try_all()
        ids = [i for i in self._scores[0] if all(i in row for row in self._scores)]
        if len(ids) < FEWEST_QUESTIONS:
            raise InputError(
                f"{self._dataset.path}: {len(ids)} questions can be scored by {self._request.measure}; tuning needs"
                f" {FEWEST_QUESTIONS}, and tells little with fewer than 100.",
                hint="Write more questions, or measure what there is with: ragstack eval",
            )
        table = np.array([[row[i] for i in ids] for row in self._scores])
        changes = [len(settings.values(self._loaded.config)) for settings in self._trials]
        groups = [self._groups[i] for i in ids]
        folds = min(self._request.folds, len(set(groups)))
        if folds < 2:
            raise InputError(
                f"{self._dataset.path}: all questions are about one document, so none can be held out.",
                hint="Write questions about several documents.",
            )
        selection = select(table, changes, groups, folds, self._request.seed)
        chosen = self._trials[selection.choice if selection.is_better else 0]
        values = chosen.values(self._loaded.config)
        refusal, confirmed = self._confirm(values, folds)
        if refusal is not None and refusal.is_better:
            values = {**values, "retrieval.min_relevance": refusal.min_relevance}
        return self._report(selection, values, table, tried, folds, refusal, confirmed)

    def _try_all(self) -> list[int | None]:
        sizes, notes = chunk_sizes(self._loaded.config, self._request.chunk_sizes, self._longest_chunk())
        self._notes += notes
        if not can_be_replayed(self._loaded.config):
            self._notes.append(f"the weights and depth of reranker {self._loaded.config.reranker.type} are not tuned")
        tried: list[int | None] = []
        last_s = 0.0
        for size in sizes:
            began = time.monotonic()
            if tried and began - self._started + last_s > self._request.budget_s:
                self._notes.append(f"the time was up before chunks of {size} tokens were tried")
                continue
            try:
                self._try_size(size)
            except InterruptedRunError:
                if not self._scores:
                    raise
                self._interrupted = True
                self._notes.append(f"stopped while chunks of {size} tokens were tried")
                break
            tried.append(size)
            last_s = time.monotonic() - began
        return tried or sizes[:1]

    def _try_size(self, size: int | None) -> None:
        config = self._with_size(size)
        recorded = self._recorded(config)
        replay = Replay(recorded, config.config, self._request.measure)
        for settings in settings_for(self._loaded.config, size):
            stop_if_asked(self._interruption, len(recorded), len(recorded))
            if self._scores and time.monotonic() - self._started > self._request.budget_s:
                self._notes.append(f"the time was up before every setting for chunks of {size} tokens was tried")
                break
            self._scores.append(replay.score(settings))
            self._trials.append(settings)

    def _recorded(self, config: LoadedConfig) -> list[Recorded]:
        deep = recording_config(config)
        with indexed_target(deep, self._dataset, self._request.place, self._progress, self._interruption) as target:
            self._note_all(target.warnings)
            total = len(target.questions)
            self._groups |= {q.question_id: _group(q) for q in target.questions}
            return record(target, config.config, lambda done: self._progress.asked(done, total), self._interruption)

    def _with_size(self, size: int | None) -> LoadedConfig:
        return self._loaded if size is None else with_values(self._loaded, {"chunker.max_tokens": size})

    def _longest_chunk(self) -> int:
        from ragstack.assembly import build_embedder  # noqa: PLC0415 - loads a tokenizer

        embedder = build_embedder(self._loaded.config.embedder)
        try:
            return embedder.info.max_tokens
        finally:
            embedder.close()

    def _confirm(self, values: dict[str, Any], folds: int) -> tuple[RefusalChoice | None, dict[str, float] | None]:
        """Ask anew with the config and with the chosen values, through the whole query path."""
        has_unanswerable = any(not question.is_answerable for question in self._dataset.questions)
        if self._interrupted or not (values or has_unanswerable):
            return None, None
        try:
            own = self._asked(self._loaded) if values else None
            chosen = self._asked(with_values(self._loaded, values))
        except InterruptedRunError:
            self._interrupted = True
            self._notes.append("stopped before the choice was confirmed")
            return None, None
        refusal = choose_min_relevance(
            [a.relevance for a in chosen],
            [a.question.is_answerable for a in chosen],
            [a.refused for a in chosen],
            [_group(a.question) for a in chosen],
            folds,
            self._request.seed,
        )
        confirmed = None if own is None else {"own": self._mean(own), "chosen": self._mean(chosen)}
        return refusal, confirmed

    def _asked(self, loaded: LoadedConfig) -> list[Asked]:
        with indexed_target(loaded, self._dataset, self._request.place, self._progress, self._interruption) as target:
            total = len(target.questions)
            return ask_all(
                target,
                with_answer=False,
                on_asked=lambda done: self._progress.asked(done, total),
                interruption=self._interruption,
            )

    def _mean(self, asked: Sequence[Asked]) -> float:
        """The measure of the order before a refusal, or of the passages where the measure is about these."""
        measure = self._request.measure
        if measure == "passage_recall@5":
            found = [gold_recall(a.question.pieces, a.passages[:5]) for a in asked if a.question.pieces]
            return float(np.mean(found))
        orders = {a.question.question_id: a.orders["reranked"] for a in asked}
        scores = ranking_measures([a.question for a in asked], orders, [measure])
        return float(np.mean([row[measure] for row in scores.values()]))

    def _note_all(self, notes: Sequence[str]) -> None:
        self._notes += [note for note in notes if note not in self._notes]

    def _report(
        self,
        selection: Selection,
        values: dict[str, Any],
        table: np.ndarray[Any, np.dtype[np.float64]],
        tried: list[int | None],
        folds: int,
        refusal: RefusalChoice | None,
        confirmed: dict[str, float] | None,
    ) -> TuneReport:
        config = self._loaded.config
        return TuneReport(
            format=TUNE_FORMAT,
            measure=self._request.measure,
            seed=self._request.seed,
            questions=table.shape[1],
            unanswerable=sum(not question.is_answerable for question in self._dataset.questions),
            folds=folds,
            trials=len(self._trials),
            chunk_sizes=tried,
            values=values,
            is_better=selection.is_better,
            own=selection.own,
            held_out=selection.held_out,
            low=selection.low,
            high=selection.high,
            p_value=selection.p_value,
            best=float(table[selection.choice].mean()),
            best_values=self._trials[selection.choice].values(config),
            fold_choices=[self._trials[choice].values(config) for choice in selection.fold_choices],
            refusal=refusal,
            confirmed=confirmed,
            interrupted=self._interrupted,
            seconds=time.monotonic() - self._started,
            notes=self._notes,
        )


def _group(question: Question) -> str:
    """Questions about one document belong together; one without a document is a group of its own."""
    return min(question.relevant) if question.relevant else f"unanswerable {question.question_id}"
