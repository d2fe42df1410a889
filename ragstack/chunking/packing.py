"""The core of every chunker: fill chunks up to a token limit, cutting at the best boundary there is.

The document is tokenised once and only the byte offsets of the tokens are kept
(:mod:`ragstack.chunking.token_positions`). From then on a cut is a position, and its cost in tokens a
search in a sorted array. Boundaries come as
levels, coarsest first; each level is asked only about the bytes near the end of one chunk, so that
sentences are looked for where a cut may fall and nowhere else.

A cut inside a word, or a tokenizer that looks at the space before a word, can make a chunk's own
count differ from the offsets'. So such texts are counted again at the end, all in one go, and what is
over the limit is cut again: the counts that leave this module are exact.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ragstack.chunking.graphemes import is_cluster_boundary
from ragstack.chunking.token_positions import TokenPositions, char_floor
from ragstack.errors import InputError
from ragstack.types import Int32Array, Tokenizer

# WordPiece makes one [UNK] of a word of more than 100 characters, so a megabyte of base64 is "one
# token". Ordinary text has 3 to 6 bytes a token; this is what a chunk may weigh beside its tokens.
MAX_BYTES_PER_TOKEN = 16
# Recounts a few tokens above the limit are the tokenizer's habit (a space counted with the next
# word), and packing again with that much less room beats cutting a sliver off each chunk.
_HABIT_TOKENS = 2
_NON_SPACE = re.compile(rb"[^ \t\r\n\f\v]")

CutFinder = Callable[[int, int], Sequence[int]]
"""``find(lo, hi)``: sorted byte positions ``p``, ``lo < p <= hi``, at which a chunk may end and the next begin."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_tokens`` and ``overlap_tokens`` of a chunker, checked."""

    max_tokens: int
    overlap_tokens: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InputError(f"max_tokens is {self.max_tokens}; expected 1 or more.", hint="The default is 200.")
        if not 0 <= self.overlap_tokens <= self.max_tokens // 2:
            raise InputError(
                f"overlap_tokens is {self.overlap_tokens}; expected 0 to {self.max_tokens // 2}, half of max_tokens.",
                hint="Lower overlap_tokens or raise max_tokens.",
            )

    @property
    def max_bytes(self) -> int:
        return self.max_tokens * MAX_BYTES_PER_TOKEN


@dataclass(frozen=True, slots=True)
class Level:
    """One kind of boundary. It is used when a cut leaves the chunk at least ``min_fill`` full (0 to 1)."""

    find: CutFinder
    min_fill: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk's byte range, trimmed, and the exact token count of its text."""

    byte_start: int
    byte_end: int
    token_count: int


def cut(
    data: bytes,
    ranges: Sequence[tuple[int, int]],
    levels: Sequence[Level],
    limits: Limits,
    tokenizer: Tokenizer,
    *,
    balance: bool = True,
) -> list[Piece]:
    """Chunks of the byte ``ranges`` of ``data``; none crosses from one range into the next.

    ``levels`` are the boundaries, coarsest first; words, then grapheme clusters, come after the last.
    With ``balance`` the last chunks of a range share its tokens evenly rather than leave a tiny tail.
    Raises InputError when a single character has more than ``max_tokens`` tokens.
    """
    tokens = TokenPositions.of(data, tokenizer)
    packer = _Packer(data, tokens.starts, levels, limits, balance)
    spans: list[list[tuple[int, int]]] = [_trim_all(data, packer.pack(*bounds)) for bounds in ranges]
    counts = tokens.counts(spans)
    over = [max((n - limits.max_tokens for n in group), default=0) for group in counts]
    again = [i for i, excess in enumerate(over) if 0 < excess <= min(_HABIT_TOKENS, limits.max_tokens // 4)]
    if again:
        excess = max(over[i] for i in again)
        room = limits.max_tokens - excess
        tighter = replace(limits, max_tokens=room, overlap_tokens=min(limits.overlap_tokens, room // 2))
        packer = _Packer(data, tokens.starts, levels, tighter, balance)
        repacked = [_trim_all(data, packer.pack(*ranges[i])) for i in again]
        for i, group, group_counts in zip(again, repacked, tokens.counts(repacked), strict=True):
            spans[i], counts[i] = group, group_counts
    pieces: list[Piece] = []
    for group, group_counts in zip(spans, counts, strict=True):
        fitted = [
            part
            for (start, end), n in zip(group, group_counts, strict=True)
            for part in ([Piece(start, end, n)] if n <= limits.max_tokens else _recut(tokens, start, end, n, limits))
        ]
        pieces.extend(_checked_overlap(tokens, fitted, limits) if limits.overlap_tokens else fitted)
    return pieces


class _Packer:
    """Fills chunks from the offsets of the tokens; its counts are those of the text as a whole."""

    def __init__(self, data: bytes, starts: Int32Array, levels: Sequence[Level], limits: Limits, balance: bool) -> None:
        self._data = data
        # A view, for bisect: searchsorted would copy the whole array to match the type of a Python int.
        self._starts = starts.data
        self._levels = levels
        self._limits = limits
        self._balance = balance

    def _tokens_before(self, position: int) -> int:
        return bisect_left(self._starts, position)

    def pack(self, start: int, end: int) -> list[tuple[int, int]]:
        """Byte ranges, not trimmed, that cover what is not white space in ``[start, end)``."""
        spans: list[tuple[int, int]] = []
        last_token = self._tokens_before(end)
        begin = start  # of the chunk, with what it repeats
        fresh = start  # what no chunk holds yet
        while (found := _NON_SPACE.search(self._data, fresh, end)) is not None:
            if begin == fresh:
                begin = found.start()
            fresh = found.start()
            stop = self._stop(begin, fresh, end, last_token)
            spans.append((begin, stop))
            begin = self._overlap_from(begin, stop) if self._limits.overlap_tokens and stop < end else stop
            fresh = stop
        return spans

    def _stop(self, begin: int, fresh: int, end: int, last_token: int) -> int:
        """Where the chunk that begins at ``begin`` ends; after ``fresh``, and at most at ``end``."""
        first = self._tokens_before(begin)
        left = last_token - first
        reach = min(end, char_floor(self._data, begin + self._limits.max_bytes))
        if left > self._limits.max_tokens:
            reach = min(reach, self._starts[first + self._limits.max_tokens])
        if reach >= end:
            return end
        # Tokens of a byte-level tokenizer begin inside characters, and one character may be many tokens.
        reach = max(char_floor(self._data, reach), _char_ceil(self._data, fresh + 1))
        pieces = -(-left // self._limits.max_tokens)
        goal = self._limits.max_tokens
        if self._balance and 2 <= pieces <= 3:
            goal = -(-left // pieces)
        aim = min(reach, self._starts[first + goal] if first + goal < len(self._starts) else reach)
        aim = char_floor(self._data, aim)
        wanted = first + goal
        for level in self._levels:
            cuts = level.find(fresh, reach)
            if not cuts:
                continue
            # The nearest to the aim, on either side of it.
            after = bisect_left(cuts, aim)
            nearest = cuts[max(after - 1, 0) : after + 1]
            for near in sorted(nearest, key=lambda c: abs(self._tokens_before(c) - wanted)):
                if near > fresh and self._tokens_before(near) - first >= level.min_fill * goal:
                    return near
        return soft_cut(self._data, fresh, aim, reach)

    def _overlap_from(self, begin: int, stop: int) -> int:
        """Where the next chunk begins so that it repeats at most ``overlap_tokens`` tokens before ``stop``."""
        last = self._tokens_before(stop)
        first = max(last - self._limits.overlap_tokens, self._tokens_before(begin) + 1)
        if first >= last:
            return stop
        earliest = _char_ceil(self._data, self._starts[first])
        if earliest >= stop:
            return stop
        for level in self._levels:
            cuts = [at for at in level.find(begin, stop - 1) if at >= earliest]
            # A whole sentence or line, unless it repeats less than half of what was asked for.
            if cuts and last - self._tokens_before(cuts[0]) >= (last - first) / 2:
                return cuts[0]
        text = self._data[begin:stop].decode("utf-8")
        at = len(self._data[begin:earliest].decode("utf-8"))
        word = next((i for i in range(at, len(text)) if text[i - 1].isspace() and not text[i].isspace()), None)
        if word is None:
            word = next((i for i in range(at, len(text)) if is_cluster_boundary(text, i)), len(text))
        return begin + len(text[:word].encode("utf-8"))


def soft_cut(data: bytes, lo: int, aim: int, hi: int) -> int:
    """A cut in ``(lo, hi]`` for text without a better boundary: at white space, else between grapheme clusters.

    As near below ``aim`` as can be; a single cluster larger than the room is cut between characters.
    """
    text = data[lo:hi].decode("utf-8")
    goal = len(data[lo:aim].decode("utf-8")) if aim > lo else 0
    following = data[hi : hi + 4].decode("utf-8", "ignore")[:1]
    padded = text + following
    goal = max(1, min(goal, len(text)))
    for at in range(goal, goal // 2, -1):
        beside_space = padded[at - 1].isspace() or padded[at : at + 1].isspace()
        if beside_space and is_cluster_boundary(padded, at):
            return lo + len(text[:at].encode("utf-8"))
    best = next((at for at in range(goal, 0, -1) if is_cluster_boundary(padded, at)), 0)
    if not best:
        best = next((at for at in range(goal + 1, len(text) + 1) if is_cluster_boundary(padded, at)), goal)
    return lo + len(text[:best].encode("utf-8"))


def trim(data: bytes, start: int, end: int) -> tuple[int, int]:
    """The range without white space (as ``str.isspace`` has it) at its ends; ``start == end`` when nothing is left."""
    text = data[start:end].decode("utf-8")
    left = text.lstrip()
    start += len(text[: len(text) - len(left)].encode("utf-8"))
    return start, start + len(left.rstrip().encode("utf-8"))


def _trim_all(data: bytes, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(start, end) for start, end in (trim(data, *span) for span in spans) if end > start]


def _recut(tokens: TokenPositions, start: int, end: int, count: int, limits: Limits) -> list[Piece]:
    """Cut a chunk whose own count is over the limit until every part fits."""
    data = tokens.data
    done: list[Piece] = []
    pending = [(start, end, count)]
    while pending:
        lo, hi, n = pending.pop()
        if n <= limits.max_tokens:
            done.append(Piece(lo, hi, n))
            continue
        after_first = _char_ceil(data, lo + 1)
        if after_first >= hi:
            raise InputError(
                f"max_tokens is {limits.max_tokens}, but the character {data[lo:hi].decode('utf-8')!r} at byte {lo}"
                f" alone has {n} tokens.",
                hint=f"Set max_tokens to at least {n}.",
            )
        aim = lo + (hi - lo) * limits.max_tokens // (n + 1)
        aim = max(char_floor(data, aim), after_first)
        last = char_floor(data, hi - 1)
        at = soft_cut(data, lo, aim, max(aim, last))
        parts = _trim_all(data, [(lo, at), (at, hi)])
        counts = tokens.counts([parts])[0]
        pending.extend((*part, m) for part, m in reversed(list(zip(parts, counts, strict=True))))
    return done


def _checked_overlap(tokens: TokenPositions, pieces: Sequence[Piece], limits: Limits) -> list[Piece]:
    """Pieces whose shared text has been counted; what shares too much begins where its predecessor ends."""
    shared = [(b.byte_start, a.byte_end) for a, b in pairwise(pieces) if b.byte_start < a.byte_end]
    counts = dict(zip(shared, tokens.counts([shared])[0], strict=True))
    done: list[Piece] = []
    for piece in pieces:
        if not done or piece.byte_start >= done[-1].byte_end:
            done.append(piece)
            continue
        last = done[-1]
        common = (piece.byte_start, last.byte_end)
        if common not in counts:  # the predecessor was cut again
            counts[common] = tokens.counts([[common]])[0][0]
        in_order = piece.byte_start > last.byte_start and piece.byte_end > last.byte_end
        if in_order and counts[common] <= limits.overlap_tokens:
            done.append(piece)
            continue
        rest = _trim_all(tokens.data, [(last.byte_end, max(piece.byte_end, last.byte_end))])
        for (start, end), n in zip(rest, tokens.counts([rest])[0], strict=True):
            done.extend(_recut(tokens, start, end, n, limits))
    return done


def positions_between(positions: Sequence[int], lo: int, hi: int) -> Sequence[int]:
    """Those of the sorted ``positions`` that are in ``(lo, hi]``."""
    return positions[bisect_right(positions, lo) : bisect_right(positions, hi)]


def _char_ceil(data: bytes, position: int) -> int:
    while position < len(data) and data[position] & 0xC0 == 0x80:
        position += 1
    return position
