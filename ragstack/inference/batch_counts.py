"""How many tokens a model's batches had, and how many of them were padding."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import NamedTuple

from ragstack.inference.backend import Array, Backend, TokenBatch
from ragstack.types import Float32Array


class BatchTokens(NamedTuple):
    """Tokens of the batches so far: ``used`` are the texts', special ones included; ``run`` are all that were run."""

    used: int
    run: int


class BatchCounter:
    """Counts the batches of several backends. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used = self._run = 0

    @property
    def tokens(self) -> BatchTokens:
        """Those of all batches so far."""
        with self._lock:
            return BatchTokens(self._used, self._run)

    def add(self, used: int, run: int) -> None:
        """Count a batch."""
        with self._lock:
            self._used += used
            self._run += run


@dataclass(frozen=True)
class CountedBackend:
    """A :class:`ragstack.inference.backend.Backend` whose batches are counted. ``packs``: it computes no padding."""

    backend: Backend
    counter: BatchCounter
    packs: bool

    @property
    def device(self) -> str:
        """See :class:`ragstack.inference.backend.Backend`."""
        return self.backend.device

    @property
    def parallel_calls(self) -> int:
        """See :class:`ragstack.inference.backend.Backend`."""
        return self.backend.parallel_calls

    @property
    def outputs(self) -> tuple[str, ...]:
        """See :class:`ragstack.inference.backend.Backend`."""
        return self.backend.outputs

    @property
    def reads_types(self) -> bool:
        """See :class:`ragstack.inference.backend.Backend`."""
        return self.backend.reads_types

    def run(self, batch: TokenBatch, output: str) -> Array:
        """See :class:`ragstack.inference.backend.Backend`. What fails is not counted."""
        found = self.backend.run(batch, output)
        used = int(batch.counts.sum())
        self.counter.add(used, used if self.packs else batch.ids.size)
        return found

    def to_host(self, values: Array) -> Float32Array:
        """See :class:`ragstack.inference.backend.Backend`."""
        return self.backend.to_host(values)

    def close(self) -> None:
        """See :class:`ragstack.inference.backend.Backend`."""
        self.backend.close()
