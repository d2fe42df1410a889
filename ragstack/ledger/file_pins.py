"""Which snapshots the readers of all processes on this machine hold, told by lock files."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ragstack.errors import IndexLockedError
from ragstack.ledger.snapshot import Snapshot
from ragstack.process_lock import hold_lock

_POLL_SECONDS = 0.02
_READER_TIMEOUT_S = 5.0
_OLD_SECONDS = 3600.0
_SUFFIX = ".pin"
_Key = tuple[int, int]
_ANY: _Key = (0, -1)


class FilePins:
    """:class:`ragstack.ledger.pins.Pins` for a store that several processes use at a time.

    A reader locks a file of its own whose name says what it holds. The operating system lets go of the locks of
    a process that died, so what a crash leaves behind holds nothing up. The files lie in ``folder``, which is
    made when it is first needed; all processes must see the same folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def reading(self) -> Iterator[Callable[[Snapshot], None]]:
        """See :class:`ragstack.ledger.pins.Pins`."""
        self._folder.mkdir(exist_ok=True)
        with ExitStack() as first, ExitStack() as second:
            first.enter_context(self._held(_ANY))

            def hold(snapshot: Snapshot) -> None:
                second.enter_context(self._held((snapshot.generation, snapshot.committed_seq)))
                first.close()

            yield hold

    @contextmanager
    def _held(self, key: _Key) -> Iterator[None]:
        path = self._folder / f"{key[0]}_{key[1]}_{uuid.uuid4().hex}{_SUFFIX}"
        try:
            # A writer may be looking whether it is held just now.
            with hold_lock(path, _READER_TIMEOUT_S, "the snapshot"):
                yield
        finally:
            path.unlink(missing_ok=True)

    def wait_for_readers(self, generation: int, committed_seq: int, timeout_s: float) -> bool:
        """See :class:`ragstack.ledger.pins.Pins`."""
        deadline = time.monotonic() + timeout_s
        wanted = (generation, committed_seq)
        # Who begins from here on reads a ledger in which the wanted snapshot is published.
        beginners = {path for path, key in self._pinned() if key == _ANY}
        while any(
            self._is_held(path) for path, key in self._pinned() if (path in beginners if key == _ANY else key < wanted)
        ):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _pinned(self) -> list[tuple[Path, _Key]]:
        found = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with suppress(ValueError):  # not a name of ours
                generation, seq, _ = path.stem.split("_")
                found.append((path, (int(generation), int(seq))))
        return found

    def _is_held(self, path: Path) -> bool:
        if not path.exists():
            return False
        try:
            hold_lock(path, 0, "the snapshot").release()
        except IndexLockedError:
            return True
        with suppress(FileNotFoundError):
            # Its process died. A new file is left alone: its reader may be about to lock it.
            if time.time() - path.stat().st_mtime > _OLD_SECONDS:
                path.unlink()
        return False
