"""The one place where the driver's exceptions become ours.

The driver raises bare ``Exception`` with a text, ``ValueError``/``TypeError``/``OverflowError`` while it
converts arguments, and ``PanicException``, a BaseException, when a Rust assertion fails on damaged files.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from ragstack.errors import CollectionError, RagstackError, StoreError, StoreUnavailableError

REBUILD = "Mend it with: ragstack fsck --repair; or rebuild it from the sources: ragstack index --rebuild"
_stderr_lock = threading.Lock()


class driver_errors:  # noqa: N801 - used as the functions of contextlib are, and in a third of their time
    """Run driver calls; whatever they raise leaves as an error of the StoreError family.

    ``action`` completes "could not ... the collection". ``is_closed`` says whether the store was closed,
    which the driver reports in the same words as a dropped collection.
    """

    __slots__ = ("_action", "_collection", "_is_closed")

    def __init__(self, action: str, collection: str, is_closed: Callable[[], bool]) -> None:
        self._action, self._collection, self._is_closed = action, collection, is_closed

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, RagstackError):
            return
        if isinstance(error, Exception):
            raise self._translated(error) from error
        if is_panic(error):
            raise damaged(self._collection) from error

    def _translated(self, error: Exception) -> StoreError:
        if "not initialized" in str(error):
            if self._is_closed():
                return StoreUnavailableError("the vector store was closed.", hint="Open it again.")
            return CollectionError(f"the collection {self._collection!r} was dropped.")
        return StoreError(
            f"could not {self._action} the collection {self._collection!r}: {error}.",
            hint="Check that its disk has space and can be read and written;"
            " `ragstack fsck --repair` mends damaged files.",
        )


def damaged(collection: str, detail: str = "its files cannot be read") -> CollectionError:
    """The error of a collection whose files are not what the driver wrote."""
    return CollectionError(f"the collection {collection!r} is damaged: {detail}.", hint=REBUILD)


def is_panic(error: BaseException) -> bool:
    """True for a Rust panic; its type cannot be imported."""
    return type(error).__name__ == "PanicException"


@contextmanager
def panic_text_held_back() -> Iterator[None]:
    """Keep what a Rust panic prints on file descriptor 2 from the user, who gets our error instead.

    Anything else that was printed meanwhile, and everything when there was no panic, is passed on.
    """
    with _stderr_lock, tempfile.TemporaryFile() as held:
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            saved = os.dup(2)
        except OSError:  # the process runs without a stderr: nothing to hold back
            yield
            return
        panicked = False
        try:
            os.dup2(held.fileno(), 2)
            yield
        except BaseException as error:
            panicked = is_panic(error) or is_panic(error.__cause__ or error)
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            text = held.read()
            if text and not (panicked and b"panicked at" in text):
                os.write(2, text)


def sync_folder(path: Path) -> None:
    """Make the entries of a folder durable, where the system can."""
    if sys.platform == "win32":  # pragma: no cover
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
