"""Which shapes a TensorRT engine is built for, and by which of them a batch is run. Pure arithmetic.

An engine holds one optimisation profile for each range of shapes: kernels are chosen for its best shape and memory is
planned for its largest. A range ends at every doubling of the length, and takes as many rows as the token budget has
room for at its longest: so memory is bounded by the budget, and a batch that fills it is run in two or three parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SHORTEST = 32
_LONGEST_QUERY = 128


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """Batches of 1 to ``max_rows`` rows of 1 to ``max_tokens`` tokens; fastest at ``best_rows`` × ``best_tokens``."""

    best_rows: int
    best_tokens: int
    max_rows: int
    max_tokens: int

    def holds(self, rows: int, tokens: int) -> bool:
        """True when a batch of ``rows`` rows, padded to ``tokens`` tokens, may run by this range."""
        return rows <= self.max_rows and tokens <= self.max_tokens


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive rows of a batch, half-open, and the number of the range that runs them."""

    start: int
    stop: int
    shape_range: int


def shape_ranges(max_tokens: int, max_batch_tokens: int) -> tuple[ShapeRange, ...]:
    """The ranges for texts of up to ``max_tokens`` tokens, special ones included, shortest first.

    The first one is for a single short text, such as a query. A text alone may be longer than ``max_batch_tokens``.
    Raises ValueError for a number below 1.
    """
    if max_tokens < 1 or max_batch_tokens < 1:
        raise ValueError(f"expected positive numbers, got {max_tokens} and {max_batch_tokens}")
    query = min(_LONGEST_QUERY, max_tokens)
    ranges = [ShapeRange(1, max(1, query // 4), 1, query)]
    longest = min(_SHORTEST, max_tokens)
    while True:
        rows = max(1, max_batch_tokens // longest)
        ranges.append(ShapeRange(rows, max(1, longest * 3 // 4), rows, longest))
        if longest == max_tokens:
            return tuple(ranges)
        longest = min(longest * 2, max_tokens)


def slices(ranges: Sequence[ShapeRange], rows: int, tokens: int) -> list[Slice]:
    """How a batch of ``rows`` × ``tokens`` runs: whole where a range holds it, else in parts of as many rows as fit.

    Of several ranges the one with the least room is taken. Raises ValueError for texts longer than every range.
    """
    fitting = [number for number, one in enumerate(ranges) if one.max_tokens >= tokens]
    if not fitting:
        raise ValueError(f"{tokens} tokens; the engine was built for {max(one.max_tokens for one in ranges)} at most")
    holding = [number for number in fitting if ranges[number].holds(rows, tokens)]
    if holding:
        best = min(holding, key=lambda number: ranges[number].max_rows * ranges[number].max_tokens)
        return [Slice(0, rows, best)]
    widest = max(fitting, key=lambda number: ranges[number].max_rows)
    step = ranges[widest].max_rows
    return [Slice(start, min(start + step, rows), widest) for start in range(0, rows, step)]
