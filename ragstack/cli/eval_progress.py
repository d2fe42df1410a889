"""How an evaluation is shown while it runs, on stderr."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from types import TracebackType

from ragstack.cli.progress import NotesOnly, QuietProgress, progress_display
from ragstack.indexer.report import IndexProgress

_SECONDS_BETWEEN_LINES = 5.0


class EvalProgress:
    """An :class:`ragstack.evaluation.evaluate.EvaluationProgress`: bars on a terminal, lines elsewhere, or nothing."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._idle: IndexProgress = QuietProgress() if quiet else NotesOnly()
        self._index: IndexProgress = self._idle
        self._showing = ExitStack()
        self._last = 0.0
        self._is_line_open = False

    def __enter__(self) -> EvalProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_line()
        self._showing.close()

    def planned(self, files: int, size_bytes: int) -> None:
        """Begin to show the indexing, where there is any."""
        self._end_line()
        self._showing.close()
        self._index = self._idle
        if files:
            self._index = self._showing.enter_context(progress_display(quiet=self._quiet))
            self._index.planned(files, size_bytes)

    def read(self, size_bytes: int) -> None:
        """Count a file."""
        self._index.read(size_bytes)

    def embedded(self, chunks: int, tokens: int) -> None:
        """Count a batch."""
        self._index.embedded(chunks, tokens)

    def note(self, message: str) -> None:
        """Print a message."""
        self._end_line()
        self._index.note(message)

    def asked(self, done: int, total: int) -> None:
        """Count a question."""
        self._showing.close()
        self._index = self._idle
        now = time.monotonic()
        interval = 0.1 if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES
        if done == 1:
            self._last = now
        if self._quiet or (done < total and now - self._last < interval):
            return
        self._last = now
        if sys.stderr.isatty():
            self._is_line_open = True
            print(f"\r{done}/{total} questions asked", end="", file=sys.stderr, flush=True)
        else:
            print(f"{done}/{total} questions asked", file=sys.stderr, flush=True)
        if done == total:
            self._end_line()

    def _end_line(self) -> None:
        if self._is_line_open:
            print(file=sys.stderr)
        self._is_line_open = False
