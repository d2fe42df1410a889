"""Which texts, or pairs, of which clients are run together. Pure: no threads, no clock, no model.

Requests wait in turn. A batch holds texts of one lane (for the embedder one ``input_type``, one set of outputs),
because a call of the model does; it is filled by going round the lane's requests, a text of each at a time, so that a
request of one text is not kept waiting by one of a thousand.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from ragstack.embedding.base import InputType, Output


@dataclass(frozen=True)
class Lane:
    """What every text of a batch for the embedder has in common."""

    input_type: InputType
    outputs: tuple[Output, ...]


@dataclass(frozen=True)
class Slice:
    """Texts of one request, by their positions in it, ascending."""

    request_id: int
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """What is handed to the model at a time; ``tokens`` is the sum of the texts' counts."""

    lane: Hashable
    slices: tuple[Slice, ...]
    tokens: int


@dataclass
class _Waiting:
    lane: Hashable
    counts: Sequence[int]
    next: int = 0

    @property
    def tokens(self) -> int:
        return sum(self.counts[self.next :])


@dataclass
class BatchQueue:
    """Requests whose texts wait to be run.

    ``max_batch_tokens`` bounds a batch; a text that is longer is a batch of its own. Every text of a request is handed
    out exactly once, in the order of its positions, unless the request is cancelled first. The request that has
    waited longest since it was last served opens the next batch.
    """

    max_batch_tokens: int
    _waiting: OrderedDict[int, _Waiting] = field(default_factory=OrderedDict)
    _tokens: int = 0

    @property
    def requests(self) -> int:
        """How many requests have texts that wait."""
        return len(self._waiting)

    @property
    def tokens(self) -> int:
        """How many tokens wait."""
        return self._tokens

    def add(self, request_id: int, lane: Hashable, token_counts: Sequence[int]) -> None:
        """Queue a request of at least one text. Raises ValueError for none, and for an id that waits already."""
        if not token_counts:
            raise ValueError("a request needs at least one text")
        if request_id in self._waiting:
            raise ValueError(f"request {request_id} waits already")
        self._waiting[request_id] = _Waiting(lane, token_counts)
        self._tokens += sum(token_counts)

    def cancel(self, request_id: int) -> None:
        """Drop the texts of a request that were not handed out yet; nothing for a request that does not wait."""
        dropped = self._waiting.pop(request_id, None)
        if dropped is not None:
            self._tokens -= dropped.tokens

    def next_batch(self) -> Batch | None:
        """Take the next batch out of the queue; None when nothing waits."""
        first = next(iter(self._waiting.values()), None)
        if first is None:
            return None
        taken: dict[int, list[int]] = {}
        tokens = 0
        turn = deque(request_id for request_id, waiting in self._waiting.items() if waiting.lane == first.lane)
        while turn and tokens < self.max_batch_tokens:
            request_id = turn.popleft()
            waiting = self._waiting[request_id]
            count = waiting.counts[waiting.next]
            if taken and tokens + count > self.max_batch_tokens:
                continue  # its next text does not fit; shorter ones of others may
            taken.setdefault(request_id, []).append(waiting.next)
            waiting.next += 1
            tokens += count
            if waiting.next < len(waiting.counts):
                turn.append(request_id)
        for request_id in taken:
            if self._waiting[request_id].next == len(self._waiting[request_id].counts):
                del self._waiting[request_id]
            else:
                self._waiting.move_to_end(request_id)
        self._tokens -= tokens
        slices = tuple(Slice(request_id, tuple(positions)) for request_id, positions in taken.items())
        return Batch(first.lane, slices, tokens)
