from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.embedding.pending import Batches, BatchResult, PendingTexts, Steps, Window, window_spans
from ragstack.errors import EmbeddingError, TextError

LONG_S = 60.0


@given(st.lists(st.text(max_size=40), max_size=300), st.integers(1, 200))
def test_windows_cover_the_texts_in_order(texts: list[str], window_tokens: int) -> None:
    spans = list(window_spans(texts, window_tokens))
    assert [i for start, stop in spans for i in range(start, stop)] == list(range(len(texts)))
    for start, stop in spans:
        assert stop > start
        # Only the last text of a window may be what fills it.
        assert sum(1 + len(text) // 4 for text in texts[start : stop - 1]) < window_tokens


class Workplace:
    """Two workers and a tokenizing thread, as an embedder has; a text's vector is its number.

    Batches hold two texts and are worked on in random order, once ``hold`` is set.
    """

    def __init__(self) -> None:
        self.workers = ThreadPoolExecutor(2)
        self.ahead = ThreadPoolExecutor(1)
        self.tokenized: list[int] = []
        self.begun: list[int] = []
        self.hold = threading.Event()
        self.hold.set()
        self.changed = threading.Condition()

    def tokenize(self, start: int, texts: Sequence[str]) -> Window:
        with self.changed:
            self.tokenized.append(start)
            self.changed.notify_all()
        for index, text in enumerate(texts):
            if text == "too long":
                raise TextError(start + index, "too many tokens.")
        return Window(start, [np.array([int(text)], dtype=np.int32) for text in texts], None)

    def begin(self, window: Window) -> Batches:
        rows = list(range(len(window.ids)))
        random.Random(window.start).shuffle(rows)
        batches = [rows[at : at + 2] for at in range(0, len(rows), 2)]
        return deque(self.workers.submit(self.run, window, batch) for batch in batches)

    def run(self, window: Window, rows: list[int]) -> list[BatchResult]:
        self.begun.append(window.start)
        assert self.hold.wait(LONG_S)
        indices = np.array(rows, dtype=np.int32) + np.int32(window.start)
        dense = np.array([[float(window.ids[row][0])] for row in rows], dtype=np.float32)
        return [BatchResult(indices, dense, None)]

    def submit(self, texts: Sequence[str], window_tokens: int) -> PendingTexts:
        steps = Steps(self.tokenize, self.begin, lambda: self.ahead)
        return PendingTexts(texts, steps, window_tokens=window_tokens, dim=1, with_tokens=False, encode_sparse=None)

    def wait_for_windows(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.tokenized) >= count, LONG_S)


@pytest.fixture
def place() -> Iterator[Workplace]:
    made = Workplace()
    yield made
    made.hold.set()
    made.workers.shutdown()
    made.ahead.shutdown()


@pytest.mark.parametrize("window_tokens", [1, 3, 10, 1000])
def test_results_are_in_the_order_of_the_texts(place: Workplace, window_tokens: int) -> None:
    texts = [str(number) for number in range(100)]
    found = place.submit(texts, window_tokens).result().dense
    assert found is not None and found[:, 0].tolist() == list(range(100))


def test_two_windows_are_tokenized_ahead_of_the_one_whose_batches_run(place: Workplace) -> None:
    place.hold.clear()
    pending = place.submit([str(number) for number in range(40)], window_tokens=4)
    # Nobody waits for a result yet, and no batch is done.
    place.wait_for_windows(3)
    place.hold.set()
    place.ahead.submit(lambda: None).result(LONG_S)
    assert place.tokenized == [0, 4, 8]
    assert pending.result().dense is not None
    assert place.tokenized == list(range(0, 40, 4))


def test_windows_are_tokenized_while_a_result_is_waited_for(place: Workplace) -> None:
    run = place.run

    def late(window: Window, rows: list[int]) -> BatchResult:
        # A batch of the second window is not done before the fourth window is tokenised.
        if window.start:
            place.wait_for_windows(min(window.start // 4 + 3, 10))
        return run(window, rows)

    place.run = late  # type: ignore[method-assign]
    pending = place.submit([str(number) for number in range(40)], window_tokens=4)
    with ThreadPoolExecutor(1) as caller:
        assert caller.submit(pending.result).result(LONG_S).dense is not None


def test_what_was_cancelled_begins_no_more(place: Workplace) -> None:
    place.hold.clear()
    pending = place.submit([str(number) for number in range(4000)], window_tokens=400)
    place.wait_for_windows(3)
    pending.cancel()
    pending.cancel()
    place.hold.set()
    place.workers.shutdown(wait=True)
    assert place.tokenized == [0, 400, 800]
    assert len(place.begun) <= 2
    with pytest.raises(EmbeddingError, match="was cancelled"):
        pending.result()


def test_an_error_of_a_later_window_names_its_text_and_drops_the_rest(place: Workplace) -> None:
    texts = [*map(str, range(10)), "too long", *map(str, range(200))]
    with pytest.raises(TextError, match="text 10: too many tokens") as raised:
        place.submit(texts, window_tokens=4).result()
    assert raised.value.text_index == 10
    assert max(place.tokenized) < 20


def test_workers_that_were_shut_are_an_error_of_the_family(place: Workplace) -> None:
    place.hold.clear()
    pending = place.submit([str(number) for number in range(40)], window_tokens=400)
    place.workers.shutdown(wait=False, cancel_futures=True)
    place.hold.set()
    with pytest.raises(EmbeddingError, match="its model closed"):
        pending.result()


def test_an_interrupt_is_raised_as_it_is(place: Workplace) -> None:
    def interrupted(window: Window) -> Batches:
        failed: Future[BatchResult] = Future()
        failed.set_exception(KeyboardInterrupt())
        return deque([failed])

    steps = Steps(place.tokenize, interrupted, lambda: place.ahead)
    pending = PendingTexts(["1"], steps, window_tokens=9, dim=1, with_tokens=False, encode_sparse=None)
    with pytest.raises(KeyboardInterrupt):
        pending.result()
