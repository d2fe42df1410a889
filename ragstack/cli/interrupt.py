"""Ctrl-C and SIGTERM while the index is written: a clean stop, and an end in any case within two seconds."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ragstack.cli.output import print_error
from ragstack.errors import InterruptedRunError
from ragstack.indexer.interruption import Interruption

GRACE_S = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_HINT = "Run the same command again to go on; it first takes back what was not finished."


@contextmanager
def stopping_on_signals(interruption: Interruption, *, as_json: bool, grace_s: float = GRACE_S) -> Iterator[None]:
    """In the block, SIGINT and SIGTERM ask ``interruption`` for a stop.

    A second signal, or ``grace_s`` seconds without an end (long work inside a library that nothing can
    interrupt), ends the process at once with status 130: the index survives a kill at any instant, so
    this only leaves more for the next run to take back. Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    here, there = socket.socketpair()
    there.setblocking(False)
    watcher = threading.Thread(
        target=_watch, args=(here, interruption, as_json, grace_s), name="stop-watch", daemon=True
    )

    def ask(number: int, frame: FrameType | None) -> None:
        interruption.request()

    # The interpreter writes each signal's number there from its C handler, while Python code in the
    # main thread may be waiting for a library and cannot run a handler.
    old_wakeup = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
    old_handlers = {number: signal.signal(number, ask) for number in _SIGNALS}
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(old_wakeup)
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        there.close()  # the watcher reads the end of the stream and leaves
        watcher.join()
        here.close()


def _watch(numbers: socket.socket, interruption: Interruption, as_json: bool, grace_s: float) -> None:
    if not _signalled(numbers):
        return
    ended = threading.Event()
    clock = threading.Thread(target=_end_after, args=(grace_s, ended, interruption, as_json), daemon=True)
    clock.start()
    if _signalled(numbers):
        _end_now(interruption, as_json)
    ended.set()
    clock.join()


def _signalled(numbers: socket.socket) -> bool:
    """Wait for one of our signals; False when the other end was closed."""
    while data := numbers.recv(1):
        if data[0] in _SIGNALS:
            return True
    return False


def _end_after(grace_s: float, ended: threading.Event, interruption: Interruption, as_json: bool) -> None:
    deadline = time.monotonic() + grace_s
    while (left := deadline - time.monotonic()) > 0:
        if ended.wait(left):
            return
    _end_now(interruption, as_json)


def _end_now(interruption: Interruption, as_json: bool) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h\n")  # a progress bar hides the cursor
    status = print_error(InterruptedRunError(interruption.message(), hint=_HINT), as_json=as_json)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
