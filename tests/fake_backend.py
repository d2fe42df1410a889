"""A backend that gives what a test says: for faults that no runtime can be made to produce."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ragstack.inference.backend import TokenBatch


@dataclass
class FakeBackend:
    """See :class:`ragstack.inference.backend.Backend`; ``give`` answers each batch."""

    give: Callable[[TokenBatch], Any]
    device: str = "cpu"
    parallel_calls: int = 2
    outputs: tuple[str, ...] = ("last_hidden_state",)
    reads_types: bool = True
    closed: bool = False

    def run(self, batch: TokenBatch, output: str) -> Any:
        assert output in self.outputs
        return self.give(batch)

    def to_host(self, values: Any) -> Any:
        return np.asarray(values, dtype=np.float32)

    def close(self) -> None:
        self.closed = True
