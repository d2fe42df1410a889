"""Counting what batches run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ragstack.inference.batch_counts import BatchCounter, BatchTokens


def test_padding_is_what_shorter_rows_lack() -> None:
    counter = BatchCounter()
    assert counter.tokens(packed=False) == BatchTokens(0, 0)
    counter.add([5, 3, 1])
    counter.add([4])
    assert counter.tokens(packed=False) == BatchTokens(13, 19)
    assert counter.tokens(packed=True) == BatchTokens(13, 13)


def test_threads_lose_nothing() -> None:
    counter = BatchCounter()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(2000):
            pool.submit(counter.add, [2, 1])
    assert counter.tokens(packed=False) == BatchTokens(6000, 8000)
