"""Which snapshots the readers of all processes on this machine hold, told by lock files."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ragstack.errors import IndexLockedError
from ragstack.ledger.pins import UNREAD, Pin
from ragstack.ledger.snapshot import Snapshot
from ragstack.process_lock import hold_lock

_POLL_SECONDS = 0.02
_READER_TIMEOUT_S = 5.0
_OLD_SECONDS = 3600.0
_SUFFIX = ".pin"


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
            first.enter_context(self._held(UNREAD))

            def hold(snapshot: Snapshot) -> None:
                second.enter_context(self._held(Pin.of(snapshot)))
                first.close()

            yield hold

    @contextmanager
    def _held(self, pin: Pin) -> Iterator[None]:
        name = f"{pin.generation}_{pin.committed_seq}_{int(pin.filtered)}_{uuid.uuid4().hex}{_SUFFIX}"
        path = self._folder / name
        try:
            # A writer may be looking whether it is held just now.
            with hold_lock(path, _READER_TIMEOUT_S, "the snapshot"):
                yield
        finally:
            path.unlink(missing_ok=True)

    def wait_for_readers(self, generation: int, committed_seq: int, timeout_s: float) -> bool:
        """See :class:`ragstack.ledger.pins.Pins`."""
        return self._wait(lambda pin: pin.is_older(generation, committed_seq), timeout_s)

    def wait_for_unfiltered(self, generation: int, timeout_s: float) -> bool:
        """See :class:`ragstack.ledger.pins.Pins`."""
        return self._wait(lambda pin: pin.sees_staged(generation), timeout_s)

    def _wait(self, blocks: Callable[[Pin], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        # Who begins from here on reads a ledger that tells of the change.
        unread = {path for path, pin in self._pinned() if pin == UNREAD}
        while any(
            self._is_held(path) for path, pin in self._pinned() if (path in unread if pin == UNREAD else blocks(pin))
        ):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _pinned(self) -> list[tuple[Path, Pin]]:
        found = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with suppress(ValueError):  # not a name of ours
                generation, seq, filtered, _ = path.stem.split("_")
                found.append((path, Pin(int(generation), int(seq), filtered == "1")))
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
