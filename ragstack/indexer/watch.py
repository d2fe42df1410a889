"""Following files and folders: a run of the indexer for each batch of changes.

The operating system's notifications are collected in threads from before the first run until the end, so
that a change during a run is kept for the next one. Between runs neither the index lock nor the store is
held, only the model.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from ragstack.assembly import build_embedder
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import RootConfig
from ragstack.errors import InputError, InterruptedRunError, RagstackError
from ragstack.indexer.changes import Changes, Relevance, WatchPace
from ragstack.indexer.interruption import Interruption
from ragstack.indexer.report import IndexProgress, IndexReport, SilentProgress
from ragstack.indexer.roots import Scope, resolve_scopes
from ragstack.indexer.run import IndexRequest, index
from ragstack.ledger.schema import LEDGER_FILE
from ragstack.ledger.writer import Ledger
from ragstack.source_names import path_of_name

_MOST_PATHS = 200
"""Changed paths above which a run looks at everything."""


@dataclass
class WatchTotals:
    """What the runs of one watch did together."""

    runs: int = 0
    failed_runs: int = 0
    added: int = 0
    changed: int = 0
    deleted: int = 0
    chunk_count: int = 0

    def add(self, report: IndexReport) -> None:
        """Count one run."""
        self.runs += 1
        self.added += report.added
        self.changed += report.changed
        self.deleted += report.deleted
        self.chunk_count = report.chunk_count


@dataclass
class _Pending:
    """What has changed since the last good run. ``everything`` overrides ``paths``."""

    everything: bool = False
    paths: set[Path] = field(default_factory=set)

    def __bool__(self) -> bool:
        return self.everything or bool(self.paths)

    def add(self, news: Collection[Path] | None) -> None:
        """Changed paths; None when anything may have changed."""
        self.paths.update(news or ())
        self.everything = self.everything or news is None or len(self.paths) > _MOST_PATHS

    def request(self, base: IndexRequest, targets: Sequence[Path]) -> IndexRequest:
        """The run over these targets that catches up with it."""
        changed = None if self.everything else sorted(self.paths)
        return replace(base, targets=[str(path) for path in targets], rebuild=False, changed=changed)


class _Trouble:
    """When to try again, and which errors were told already."""

    def __init__(self, pace: WatchPace) -> None:
        self._pace = pace
        self._delay = pace.retry_s
        self._retry_at = float("inf")
        self.last: list[str] = []

    def wait_s(self) -> float:
        """Seconds until the next attempt; infinite when there is nothing to repeat."""
        return max(self._retry_at - time.monotonic(), 0.0)

    def news(self, errors: Sequence[RagstackError]) -> list[RagstackError]:
        """Take note of how an attempt ended; returns the errors that are not those of the last one."""
        if errors:
            self._retry_at = time.monotonic() + self._delay
            self._delay = min(2 * self._delay, self._pace.longest_retry_s)
        else:
            self._retry_at, self._delay = float("inf"), self._pace.retry_s
        told, self.last = self.last, [str(error) for error in errors]
        return [error for error in errors if str(error) not in told]


def watch(
    loaded: LoadedConfig,
    state_dir: Path,
    request: IndexRequest,
    interruption: Interruption,
    on_report: Callable[[IndexReport], None],
    on_error: Callable[[RagstackError], None],
    first_progress: IndexProgress | None = None,
    progress: IndexProgress | None = None,
    pace: WatchPace | None = None,
) -> WatchTotals:
    """Index as ``request`` says, then again whenever something changed, until ``interruption`` is requested.

    ``first_progress`` follows the first run, ``progress`` those after it and the watch itself.
    ``on_report`` gets the report of each run that ended well; ``on_error`` each new error of a later run,
    which is repeated until it succeeds. A root that vanishes keeps its sources in the index and is taken
    up again when it is back.

    Raises what :func:`ragstack.indexer.run.index` raises in the first run, and InterruptedRunError when
    a run was under way. Returns the totals when it was stopped between runs.
    """
    pace = pace or WatchPace()
    scopes, roots = _scopes(loaded, state_dir, request)
    targets = [scope.target for scope in scopes]
    leave_out = [state_dir, *request.leave_out]
    changes = Changes(targets, Relevance(targets, roots, loaded.config.sources.exclude, leave_out), pace)
    totals = WatchTotals()
    with changes.followed(), closing(build_embedder(loaded.config.embedder)) as embedder:

        def run(wanted: IndexRequest, shown: IndexProgress) -> None:
            report = index(loaded, state_dir, wanted, shown, interruption=interruption, embedder=embedder)
            totals.add(report)
            on_report(report)

        run(request, first_progress or SilentProgress())
        later = progress or SilentProgress()

        def attempt(wanted: IndexRequest) -> RagstackError | None:
            try:
                run(wanted, later)
            except InterruptedRunError:
                raise
            except RagstackError as error:
                totals.failed_runs += 1
                return error
            return None

        pending = _Pending()
        trouble = _Trouble(pace)
        try:
            while True:
                interruption.check()
                with interruption.anywhere():
                    news = changes.wait(min(pace.tick_s, trouble.wait_s()))
                pending.add(news)
                for path in changes.missing():
                    later.note(f"{path} is gone; its sources stay in the index until it is back")
                if not pending or (news == set() and trouble.wait_s() > 0):
                    continue
                present = [path for path in targets if request.prune or os.path.lexists(path)]
                # After trouble each target has a run of its own, so that one does not hold up the others.
                parts = [[path] for path in present] if trouble.last else [present] * bool(present)
                failures = [attempt(pending.request(request, part)) for part in parts]
                errors = [error for error in failures if error is not None]
                for error in trouble.news(errors):
                    on_error(error)
                # What a failed run did is not known, so the next one looks at everything.
                pending = _Pending(everything=bool(errors))
        except KeyboardInterrupt:
            return totals


def _scopes(loaded: LoadedConfig, state_dir: Path, request: IndexRequest) -> tuple[list[Scope], list[Path]]:
    """What the request names, as the first run will see it, and the folders of all roots."""
    roots: dict[str, str] = {}
    known: list[tuple[str, str]] = []
    if (state_dir / LEDGER_FILE).exists():
        with closing(Ledger(state_dir)) as ledger:
            roots, known = ledger.roots(), ledger.scopes()
    targets: Sequence[str | RootConfig] = request.targets or loaded.config.sources.paths
    scopes = resolve_scopes(targets, roots, known, prune=request.prune)
    if not scopes:
        raise InputError("nothing to index was named.", hint="Name a folder or files: ragstack index --watch PATH")
    return scopes, [*map(path_of_name, roots.values()), *(scope.path for scope in scopes)]
