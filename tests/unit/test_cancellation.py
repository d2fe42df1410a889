from __future__ import annotations

import threading

import pytest

from ragstack.cancellation import Cancellation
from ragstack.errors import InterruptedRunError


def test_a_request_wakes_whoever_waits() -> None:
    cancellation, woken = Cancellation(), threading.Event()
    cancellation.check()
    with cancellation.calling(woken.set):
        threading.Thread(target=cancellation.request).start()
        assert woken.wait(30)
    assert cancellation.requested
    with pytest.raises(InterruptedRunError):
        cancellation.check()


def test_callbacks_are_called_once_and_only_inside_their_block() -> None:
    cancellation, calls = Cancellation(), list[str]()
    with cancellation.calling(lambda: calls.append("before")):
        pass
    with cancellation.calling(lambda: calls.append("inside")):
        cancellation.request()
        cancellation.request()
    with cancellation.calling(lambda: calls.append("late")):
        assert calls == ["inside", "late"], "a request made before is told at once"
