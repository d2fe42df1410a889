"""How a run of the indexer is shown: bars on a terminal, plain lines elsewhere, nothing with --json."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Protocol

from ragstack.cli.output import console, counted, printable
from ragstack.indexer.report import IndexProgress, SilentProgress

_SECONDS_BETWEEN_LINES = 5.0


class ProgressDisplay(IndexProgress, Protocol):
    """An :class:`IndexProgress` that is shown inside a ``with`` block."""

    def __enter__(self) -> ProgressDisplay: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class QuietProgress(SilentProgress):
    """Shows nothing."""

    def __enter__(self) -> QuietProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class NotesOnly(SilentProgress):
    """Shows what the user should know now, and no counts: for the many short runs of a watch."""

    def note(self, message: str) -> None:
        """Print a message."""
        print(printable(message), file=sys.stderr, flush=True)


class PlainProgress:
    """A line on stderr every few seconds, for logs and pipes."""

    def __init__(self) -> None:
        self._files = self._read = self._chunks = self._tokens = 0
        self._size_bytes = self._read_bytes = 0
        self._started = self._last = time.monotonic()

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def planned(self, files: int, size_bytes: int) -> None:
        """Say how much there is to read."""
        self._files, self._size_bytes = files, size_bytes
        if files:
            print(f"{counted(files, 'file')} to read, {size_bytes / 1e6:.1f} MB", file=sys.stderr)

    def read(self, size_bytes: int) -> None:
        """Count a file."""
        self._read += 1
        self._read_bytes += size_bytes

    def embedded(self, chunks: int, tokens: int) -> None:
        """Count a batch, and say how far it is now and then."""
        self._chunks += chunks
        self._tokens += tokens
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            elapsed = now - self._started
            left = elapsed * (self._size_bytes - self._read_bytes) / max(self._read_bytes, 1)
            print(
                f"{self._read}/{self._files} files, {self._chunks} chunks, {self._tokens / elapsed:,.0f} tokens/s,"
                f" about {left:.0f} s left",
                file=sys.stderr,
            )

    def note(self, message: str) -> None:
        """Print a message."""
        print(printable(message), file=sys.stderr)


class BarProgress:
    """A bar of bytes read, with files, chunks, tokens per second and the time left."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("indexing"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[files]} files · {task.fields[chunks]} chunks · {task.fields[rate]} tokens/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("indexing", total=None, files="0", chunks="0", rate="-")
        self._files = self._read = self._chunks = self._tokens = 0
        self._started = time.monotonic()

    def __enter__(self) -> BarProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def planned(self, files: int, size_bytes: int) -> None:
        """Set the bar's length."""
        self._files = files
        self._progress.update(self._task, total=max(size_bytes, 1), files=f"0/{files}")

    def read(self, size_bytes: int) -> None:
        """Move the bar."""
        self._read += 1
        self._progress.update(self._task, advance=size_bytes, files=f"{self._read}/{self._files}")

    def embedded(self, chunks: int, tokens: int) -> None:
        """Update the counts."""
        self._chunks += chunks
        self._tokens += tokens
        rate = self._tokens / max(time.monotonic() - self._started, 1e-9)
        self._progress.update(self._task, chunks=f"{self._chunks:,}", rate=f"{rate:,.0f}")

    def note(self, message: str) -> None:
        """Print a message above the bar."""
        self._progress.console.print(printable(message))


def progress_display(*, quiet: bool) -> ProgressDisplay:
    """What fits stderr: nothing if ``quiet``, bars on a terminal, lines elsewhere."""
    if quiet:
        return QuietProgress()
    return BarProgress() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else PlainProgress()
