"""What reads a model's answer while it arrives, in either mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol, TypeAlias

from ragstack.generation.base import AnswerSentence

Ending: TypeAlias = Literal["whole", "cut", "broken"]
"""How an answer ended: by itself, at its most tokens (``cut``), or by a fault (``broken``)."""


class AnswerReader(Protocol):
    """Fed with deltas cut anywhere; what it gives in all does not depend on the cuts. Does no I/O.

    ``dropped_markers`` and ``dropped_quotes`` count as in :class:`ragstack.generation.base.AnswerEnd`. ``is_over``
    says that nothing more is wanted of the model.
    """

    dropped_markers: int
    dropped_quotes: int
    is_over: bool

    def feed(self, delta: str) -> Iterator[AnswerSentence]:
        """The sentences that one more delta settles. Raises GenerationError for what is no answer in this form."""

    def finish(self, ending: Ending) -> Iterator[AnswerSentence]:
        """The sentences still held. Raises as ``feed`` does when an answer that is whole is none in this form."""
