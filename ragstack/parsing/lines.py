"""Lines and paragraphs of a UTF-8 text, as byte ranges.

A line ends with LF, CRLF or a lone CR, as in Markdown and in editors; form feeds and U+2028, which
``str.splitlines`` would cut at as well, are characters of the line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SPACES = np.zeros(256, dtype=np.bool_)
_SPACES[list(b" \t\n\r\f\v")] = True


@dataclass(frozen=True)
class Lines:
    """``starts`` ``(n,) int64``: byte offset of each line; ``blank`` ``(n,) bool``: only white space in it."""

    starts: NDArray[np.int64]
    blank: NDArray[np.bool_]


def split_lines(data: bytes) -> Lines:
    """The lines of ``data``; none for empty data, and none after a line end that closes it."""
    if not data:
        return Lines(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.bool_))
    array = np.frombuffer(data, dtype=np.uint8)
    is_end = array == 0x0A
    cr = np.flatnonzero(array == 0x0D)
    if len(cr):
        # A CR ends the line unless an LF follows, which then does.
        after = np.minimum(cr + 1, len(array) - 1)
        is_end[cr[array[after] != 0x0A]] = True
        is_end[-1] |= data.endswith(b"\r")
    starts = np.flatnonzero(is_end[:-1]) + 1
    starts = np.concatenate([np.zeros(1, dtype=np.int64), starts])
    blank = ~np.logical_or.reduceat(~_SPACES[array], starts)
    return Lines(starts, blank)


def paragraph_ranges(data: bytes) -> list[tuple[int, int]]:
    """Byte ranges of the runs of lines that are not blank, without the last line's end."""
    lines = split_lines(data)
    if not len(lines.starts):
        return []
    text = np.concatenate([[False], ~lines.blank, [False]])
    edges = np.flatnonzero(text[1:] != text[:-1])
    bounds = np.append(lines.starts, len(data))
    first, last = bounds[edges[0::2]].tolist(), bounds[edges[1::2]].tolist()
    return [(start, _without_line_end(data, end)) for start, end in zip(first, last, strict=True)]


def _without_line_end(data: bytes, end: int) -> int:
    if data[end - 1] == 0x0A:
        end -= 1
    if end and data[end - 1] == 0x0D:
        end -= 1
    return end
