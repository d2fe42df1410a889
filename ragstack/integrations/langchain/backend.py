"""What answers behind LangChain's objects: a pipeline in this process, or a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from ragstack.citations.chain import Chain
from ragstack.embedding.base import InputType
from ragstack.types import Float32Array

Truncate: TypeAlias = Literal["NONE", "START", "END"]
"""What is cut off a text that is longer than the model reads: nothing (an error), its start, its end."""


@dataclass(frozen=True)
class Retrieved:
    """The chain of one retrieval. ``statuses`` says of each passage, in rank order, what checking it found.

    They are those of :mod:`ragstack.citations.verify`; there are none without ``verify``, and none over a server.
    """

    chain: Chain
    statuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranked:
    """One text as a reranker sees it: ``index`` in the list given, ``score`` (larger is better)."""

    index: int
    score: float


class Backend(Protocol):
    """Retrieves, embeds and ranks; each for callers that may block and for those that may not.

    ``filter`` is in its JSON form. Raises errors of the family. ``rank`` gives every text once, best first.
    """

    def retrieve(self, text: str, filter: Mapping[str, Any] | None, top_n: int | None, verify: bool) -> Retrieved: ...

    async def aretrieve(
        self, text: str, filter: Mapping[str, Any] | None, top_n: int | None, verify: bool
    ) -> Retrieved: ...

    def embed(self, texts: Sequence[str], input_type: InputType) -> Float32Array: ...

    async def aembed(self, texts: Sequence[str], input_type: InputType) -> Float32Array: ...

    def rank(self, query: str, texts: Sequence[str]) -> list[Ranked]: ...

    async def arank(self, query: str, texts: Sequence[str]) -> list[Ranked]: ...

    def close(self) -> None:
        """Release what the backend opened itself. Idempotent."""
