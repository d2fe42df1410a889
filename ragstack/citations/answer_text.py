"""How an answer with markers is written: one rule for the chain that is made and for its verification."""

from __future__ import annotations

from collections.abc import Sequence


def with_markers(sentence: str, markers: Sequence[int]) -> str:
    """A sentence followed by the numbers of its sources: ``Raw images are kept for 400 days. [1] [2]``."""
    return sentence + "".join(f" [{marker}]" for marker in dict.fromkeys(markers))
