"""The queue of texts that wait to be embedded: nothing lost, nothing twice, nobody starved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ragstack.api.batching import BatchQueue, Lane

QUERIES = Lane("query", ("dense",))
PASSAGES = Lane("passage", ("dense",))
LANES = (QUERIES, PASSAGES, Lane("passage", ("dense", "tokens")))
BUDGET = 50


class QueueMachine(RuleBasedStateMachine):
    """Requests come, leave and are served in any order; a model of what must be left is kept beside."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = BatchQueue(BUDGET)
        self.left: dict[int, list[int]] = {}
        self.counts: dict[int, list[int]] = {}
        self.lanes: dict[int, Lane] = {}
        self.passed_over: dict[int, int] = {}

    @rule(lane=st.sampled_from(LANES), counts=st.lists(st.integers(1, BUDGET + 20), min_size=1, max_size=12))
    def add(self, lane: Lane, counts: list[int]) -> None:
        request = len(self.counts)
        self.queue.add(request, lane, counts)
        self.counts[request], self.lanes[request] = counts, lane
        self.left[request] = list(range(len(counts)))
        self.passed_over[request] = 0

    @precondition(lambda self: self.left)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(sorted(self.left)))
        self.queue.cancel(request)
        del self.left[request]

    @rule()
    def take(self) -> None:
        waiting = len(self.left)
        batch = self.queue.next_batch()
        if not waiting:
            assert batch is None
            return
        assert batch is not None
        texts = [(part.request_id, position) for part in batch.slices for position in part.positions]
        assert texts and len({part.request_id for part in batch.slices}) == len(batch.slices)
        tokens = sum(self.counts[request][position] for request, position in texts)
        assert batch.tokens == tokens
        assert tokens <= BUDGET or len(texts) == 1
        for part in batch.slices:
            assert self.lanes[part.request_id] == batch.lane
            expected = self.left[part.request_id][: len(part.positions)]
            assert list(part.positions) == expected
            self.left[part.request_id] = self.left[part.request_id][len(expected) :]
            if not self.left[part.request_id]:
                del self.left[part.request_id]
        served = {part.request_id for part in batch.slices}
        for request in self.left:
            self.passed_over[request] = 0 if request in served else self.passed_over[request] + 1
            # It moves up whenever another is served before it, and opens a batch when it comes first.
            assert self.passed_over[request] <= len(self.counts)

    @invariant()
    def tells_what_waits(self) -> None:
        assert self.queue.requests == len(self.left)
        assert self.queue.tokens == sum(self.counts[r][i] for r, positions in self.left.items() for i in positions)


TestQueue = QueueMachine.TestCase


@given(st.integers(1, 400), st.integers(0, 30))
def test_one_text_does_not_wait_for_a_thousand(batches_before: int, others: int) -> None:
    queue = BatchQueue(BUDGET)
    queue.add(0, PASSAGES, [10] * 5000)
    for other in range(others):
        queue.add(2 + other, PASSAGES, [10] * 5000)
    for _ in range(min(batches_before, 20)):
        queue.next_batch()
    queue.add(1, PASSAGES, [10])
    # The large ones take turns; a batch has room for five texts.
    for _ in range(1 + (1 + others) // 5 + 1):
        batch = queue.next_batch()
        assert batch is not None
        if any(part.request_id == 1 for part in batch.slices):
            return
    pytest.fail("the single text was not among the next batches")


def test_lanes_take_turns() -> None:
    queue = BatchQueue(BUDGET)
    queue.add(0, PASSAGES, [BUDGET] * 3)
    queue.add(1, QUERIES, [BUDGET] * 3)
    lanes = [batch.lane for batch in iter(queue.next_batch, None)]
    assert lanes == [PASSAGES, QUERIES] * 3


def test_a_request_without_texts_or_twice_is_refused() -> None:
    queue = BatchQueue(BUDGET)
    with pytest.raises(ValueError, match="at least one text"):
        queue.add(0, QUERIES, [])
    queue.add(0, QUERIES, [1])
    with pytest.raises(ValueError, match="waits already"):
        queue.add(0, QUERIES, [1])
    queue.cancel(7)
    assert queue.requests == 1
