"""Whose turn it is."""

from __future__ import annotations

import threading
import time

from ragstack.retrieval.turns import Turns


def test_others_have_their_turns_while_one_waits() -> None:
    turns, entered, go_on = Turns(), threading.Event(), threading.Event()
    told: list[str] = []

    def slow() -> None:
        with turns.lock, turns.waiting():
            entered.set()
            go_on.wait(10)
        told.append("slow")

    thread = threading.Thread(target=slow)
    thread.start()
    assert entered.wait(10)
    with turns.lock:
        told.append("other")
    go_on.set()
    thread.join()
    assert told == ["other", "slow"]


def test_alone_waits_for_those_who_wait_and_stops_new_ones() -> None:
    turns, entered, go_on, wants = Turns(), threading.Event(), threading.Event(), threading.Event()
    told: list[str] = []

    def slow() -> None:
        with turns.lock:
            with turns.waiting():
                entered.set()
                go_on.wait(10)
            told.append("slow")

    def erase() -> None:
        wants.set()
        with turns.alone():
            told.append("alone")

    threads = [threading.Thread(target=slow), threading.Thread(target=erase)]
    threads[0].start()
    assert entered.wait(10)
    threads[1].start()
    assert wants.wait(10)
    while not turns._alone:
        time.sleep(0.01)
    with turns.lock:
        assert told == []
        with turns.waiting():  # keeps the lock: who wants to be alone would have to wait for ever otherwise
            assert turns.lock._is_owned()  # type: ignore[attr-defined]
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert told == ["slow", "alone"]
