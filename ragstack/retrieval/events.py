"""What happens while one query is answered, in the order in which it becomes known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ragstack.citations.chain import Chain, Citation, SentenceLink


@dataclass(frozen=True)
class PassagesFound:
    """Retrieval has ended. ``chain`` has everything but the answer."""

    chain: Chain


@dataclass(frozen=True)
class SentenceWritten:
    """One more sentence is settled. ``citations`` are those not told before; ``delta`` is the text it adds."""

    sentence: SentenceLink
    citations: tuple[Citation, ...]
    delta: str


@dataclass(frozen=True)
class Answered:
    """The end: the whole chain, sealed."""

    chain: Chain


QueryEvent: TypeAlias = PassagesFound | SentenceWritten | Answered
