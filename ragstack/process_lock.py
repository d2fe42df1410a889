"""One process at a time: a lock file that says who holds it.

The operating system keeps the lock (``flock``, or a byte range on Windows), so the lock of a process
that died is free at once and a stale file means nothing. The file's content only names the holder. It
is never removed: unlinking a lock file lets two processes hold "the same" lock.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from ragstack.errors import IndexLockedError, IndexStateError

if sys.platform == "win32":  # pragma: no cover
    import msvcrt
else:
    import fcntl

_POLL_SECONDS = 0.05
_LOCKED_BYTE = 1 << 30
"""Windows locks are mandatory: a byte far behind the content, so that others can read who holds it."""


class ProcessLock:
    """A held lock; ``release`` (idempotent) or leaving the ``with`` block gives it back."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd: int | None = fd
        self._guard = threading.Lock()

    def release(self) -> None:
        """Give the lock back."""
        with self._guard:
            if self._fd is None:
                return
            fd, self._fd = self._fd, None
        try:
            os.ftruncate(fd, 0)
            _unlock(fd)
        finally:
            os.close(fd)

    def __enter__(self) -> ProcessLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def hold_lock(path: Path, timeout_s: float, what: str) -> ProcessLock:
    """Take the lock file ``path``, waiting up to ``timeout_s`` seconds for its holder to finish.

    The folder must exist. ``what`` names what is locked in the error ("the vector store at ..."). A
    second call in one process waits like another process would. Raises IndexLockedError that names the
    holder's pid, host and start time.
    """
    deadline = time.monotonic() + timeout_s
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise IndexStateError(
            f"{path} cannot be written: {error.strerror or error}.",
            hint="Check the folder's permissions, or choose another with indexer.state_dir.",
        ) from error
    try:
        while not _try_lock(fd):
            if time.monotonic() >= deadline:
                raise _locked(path, timeout_s, what)
            time.sleep(_POLL_SECONDS)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            os.write(fd, json.dumps(holder).encode())
        except OSError as error:
            # On a full disk the lock is held all the same; only its holder's name is missing.
            if error.errno != errno.ENOSPC:
                raise
    except BaseException:
        os.close(fd)
        raise
    return ProcessLock(path, fd)


def _locked(path: Path, timeout_s: float, what: str) -> IndexLockedError:
    try:
        holder = json.loads(path.read_bytes())
        pid, host, since = holder["pid"], holder["host"], holder["since"]
    except (OSError, ValueError, LookupError, TypeError):
        # The holder is between taking the lock and writing its name, or another program wrote here.
        who = f"a process that did not write its name into {path}"
    else:
        this = " (this process)" if (pid, host) == (os.getpid(), socket.gethostname()) else ""
        who = f"process {pid}{this} on host {host} since {since}"
    return IndexLockedError(
        f"{what} is held by {who}; waited {timeout_s:g} s.",
        hint="Wait for that process to finish, or stop it, then run this again.",
    )


if sys.platform == "win32":  # pragma: no cover

    def _try_lock(fd: int) -> bool:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(fd: int) -> None:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)
