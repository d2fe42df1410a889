"""What is to be measured: loads, each of one shape and one concurrency. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias, TypeVar

from ragstack.embedding.base import InputType
from ragstack.errors import InputError

BenchKind: TypeAlias = Literal["embed", "rerank", "query"]

_MOST_LOADS = 1000


@dataclass(frozen=True, slots=True)
class TokenRange:
    """How many tokens a text has: from ``low`` to ``high``, both included; equal, where all have as many."""

    low: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


@dataclass(frozen=True, slots=True)
class EmbedLoad:
    """Requests of ``batch`` texts each. ``tokens`` of a text are what the model reads: special ones and prompt too."""

    input_type: InputType
    tokens: TokenRange
    batch: int
    concurrency: int

    @property
    def shape(self) -> str:
        """What a request is, in a few words."""
        return f"{self.input_type} {self.tokens} tokens × {self.batch}"


@dataclass(frozen=True, slots=True)
class RerankLoad:
    """Requests of one query and ``passages`` passages; ``tokens`` of a pair are what a model reads of the two.

    ``query_tokens`` of them are the query's own, special ones left out.
    """

    tokens: TokenRange
    query_tokens: int
    passages: int
    concurrency: int

    @property
    def shape(self) -> str:
        """What a request is, in a few words."""
        return f"{self.passages} passages × {self.tokens} tokens"


@dataclass(frozen=True, slots=True)
class QueryLoad:
    """Questions, one a request."""

    concurrency: int

    @property
    def shape(self) -> str:
        """What a request is, in a few words."""
        return "question"


Load: TypeAlias = EmbedLoad | RerankLoad | QueryLoad
_AnyLoad = TypeVar("_AnyLoad", EmbedLoad, RerankLoad)

_INPUTS: dict[InputType, tuple[tuple[TokenRange, ...], int, tuple[int, ...]]] = {
    "query": ((TokenRange(20, 20),), 1, tuple(range(1, 16))),
    "passage": ((TokenRange(300, 300), TokenRange(512, 512)), 64, (1, 3, 5)),
}
"""Tokens, batch and concurrency of the standard loads: those for which NVIDIA publishes figures of its NIMs."""

RERANK_TOKENS = TokenRange(512, 512)
RERANK_PASSAGES = (10, 20, 40)
RERANK_CONCURRENCY = (1, 3, 5)
RERANK_QUERY_TOKENS = 20
QUERY_CONCURRENCY = (1, 2, 4, 8)


def embed_loads(
    input_types: Sequence[InputType],
    tokens: Sequence[TokenRange] | None = None,
    batch: Sequence[int] | None = None,
    concurrency: Sequence[int] | None = None,
) -> list[EmbedLoad]:
    """Every combination, for each of ``input_types``; what is None is as in the standard loads of that type."""
    loads = []
    for input_type in input_types:
        standard_tokens, standard_batch, standard_concurrency = _INPUTS[input_type]
        shapes = product(tokens or standard_tokens, batch or (standard_batch,), concurrency or standard_concurrency)
        loads += [EmbedLoad(input_type, *shape) for shape in shapes]
    return _not_too_many(loads)


def rerank_loads(
    tokens: Sequence[TokenRange], query_tokens: int, passages: Sequence[int], concurrency: Sequence[int]
) -> list[RerankLoad]:
    """Every combination."""
    shapes = product(tokens, passages, concurrency)
    return _not_too_many([RerankLoad(of, query_tokens, count, at_a_time) for of, count, at_a_time in shapes])


def _not_too_many(loads: list[_AnyLoad]) -> list[_AnyLoad]:
    if len(loads) > _MOST_LOADS:
        raise InputError(f"these options ask for {len(loads):,} loads.", hint=f"At most {_MOST_LOADS:,} are measured.")
    return loads


def parse_numbers(text: str, option: str, *, most: int) -> tuple[int, ...]:
    """Whole numbers from 1 to ``most``: ``1,3,5``, or ``1-15`` for each of them.

    Raises InputError that names ``option``.
    """
    found: list[int] = []
    for low, high in _ranges(text, option, most):
        found += range(low, high + 1)
    return tuple(dict.fromkeys(found))


def parse_token_ranges(text: str, option: str, *, most: int = 1_000_000) -> tuple[TokenRange, ...]:
    """Lengths of texts: ``300,512``, or ``10-300`` for texts of mixed lengths.

    Raises InputError that names ``option``.
    """
    return tuple(dict.fromkeys(TokenRange(low, high) for low, high in _ranges(text, option, most)))


def _ranges(text: str, option: str, most: int) -> list[tuple[int, int]]:
    ranges = []
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        ends = (first, last if dash else first)
        # int() would take "1_0" and other scripts' digits too.
        if not all(end.isascii() and end.isdecimal() and len(end) < 10 for end in ends):
            raise InputError(f"{option} {text!r}: {part.strip()!r} is no number.", hint="As in: 1,3,5 or 1-15.")
        low, high = map(int, ends)
        if not 1 <= low <= high <= most:
            raise InputError(f"{option} {text!r}: expected numbers from 1 to {most:,}, the smaller one first.")
        ranges.append((low, high))
    return ranges
