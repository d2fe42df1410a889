"""Where the tokens of a document begin, and how many a part of it has.

The document is tokenised once, in windows, and only the byte offsets of the tokens are kept. From then on the
tokens before a position are a search in a sorted array. What a part counts when it stands alone can differ: a cut
inside a word makes other tokens, and some tokenizers look at the space before a word. Where the tokenizer says that
it does neither (:class:`ragstack.types.WordTokenizer`) and the part stands between spaces, the two are the same and
the part is not tokenised again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragstack.types import Int32Array, Tokenizer, WordTokenizer

_WINDOW_BYTES = 65536
# Texts a call: enough for the tokenizer to work in parallel, few enough that its results stay small.
_COUNT_BATCH = 1024
_SPACES = b" \t\r\n"


@dataclass(frozen=True)
class TokenPositions:
    """The tokens of ``data`` (UTF-8): ``starts`` ``(n,) int32``, sorted, is the byte offset of each.

    ``counts_hold`` is true where a part between spaces has as many tokens alone as here.
    """

    data: bytes
    starts: Int32Array
    tokenizer: Tokenizer
    counts_hold: bool

    @classmethod
    def of(cls, data: bytes, tokenizer: Tokenizer) -> TokenPositions:
        """Tokenised in windows of 64 KiB that end at a line or a space, so that memory stays bounded."""
        parts: list[Int32Array] = []
        start = 0
        holds = isinstance(tokenizer, WordTokenizer) and tokenizer.splits_at_spaces
        while start < len(data):
            end = _window_end(data, start)
            spans = tokenizer.token_byte_spans(data[start:end].decode("utf-8"))
            parts.append((spans[:, 0] + start).astype(np.int32))
            holds = holds and (end == len(data) or data[end - 1] in _SPACES)
            start = end
        starts = np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)
        return cls(data, starts, tokenizer, holds)

    def counts(self, groups: Sequence[Sequence[tuple[int, int]]]) -> list[list[int]]:
        """How many tokens each byte range of each group has when it stands alone.

        What has to be tokenised is, in a few large calls, for the tokenizer works in parallel.
        """
        flat = [span for group in groups for span in group]
        known = [self._count_here(*span) for span in flat]
        asked = [span for span, count in zip(flat, known, strict=True) if count is None]
        found: list[int] = []
        for at in range(0, len(asked), _COUNT_BATCH):
            texts = [self.data[start:end].decode("utf-8") for start, end in asked[at : at + _COUNT_BATCH]]
            found += self.tokenizer.count(texts)
        rest = iter(found)
        counts = iter([next(rest) if count is None else count for count in known])
        return [[next(counts) for _ in group] for group in groups]

    def _count_here(self, start: int, end: int) -> int | None:
        """The count by position, or None where the range alone may have another one."""
        begins_word = start == 0 or self.data[start - 1] in _SPACES
        ends_word = end == len(self.data) or self.data[end] in _SPACES
        if not (self.counts_hold and begins_word and ends_word):
            return None
        starts = self.starts.data  # a view, for bisect: searchsorted would copy the array to match a Python int
        return bisect_left(starts, end) - bisect_left(starts, start)


def _window_end(data: bytes, start: int) -> int:
    end = start + _WINDOW_BYTES
    if end >= len(data):
        return len(data)
    for mark in (b"\n", b" "):
        found = data.rfind(mark, start + _WINDOW_BYTES // 2, end)
        if found >= 0:
            return found + 1
    return char_floor(data, end)


def char_floor(data: bytes, position: int) -> int:
    """The last beginning of a character at or before ``position``."""
    if position >= len(data):
        return len(data)
    while position > 0 and data[position] & 0xC0 == 0x80:
        position -= 1
    return position
