"""How an answer with markers is written: one rule for the chain that is made and for its verification."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A fence that closes code, or a row of a table: what stands behind it on the line would become part of it.
_ENDS_BLOCK = re.compile(r"(?:\A|[\r\n])[ \t]*(?:`{3,}|~{3,}|\|[^\r\n]*\|)\Z")


def with_markers(sentence: str, markers: Sequence[int]) -> str:
    """A sentence followed by the numbers of its sources: ``Raw images are kept for 400 days. [1] [2]``.

    Behind a table or a block of code they stand in a paragraph of their own.
    """
    shown = " ".join(f"[{marker}]" for marker in dict.fromkeys(markers))
    if not shown:
        return sentence
    return sentence + ("\n\n" if _ENDS_BLOCK.search(sentence) else " ") + shown
