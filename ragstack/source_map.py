"""The map from a document's canonical text back to the bytes of its source.

Every offset is a byte offset, 0-based and half-open. A map is a sorted list of segments; a segment
ties a byte range of the canonical text (UTF-8) to a byte range of the raw source, or to a locator
(page, cell, part) where the format has no useful byte positions.

Inside a segment, positions are arithmetic: every ``unit`` canonical bytes come from ``source_unit``
raw bytes. A UTF-8 text is one segment of units (1, 1); a run of Latin letters in UTF-16 has units
(1, 2), a run of CJK characters in UTF-16 (3, 2); an HTML entity is one unit of its own length.
Parsers find these runs by decoding the raw bytes forward, so no text is ever encoded again to find
a position, and a map can be resolved later without the raw source at hand.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """A half-open range of bytes, 0-based."""

    byte_start: int
    byte_end: int

    def __post_init__(self) -> None:
        if not 0 <= self.byte_start <= self.byte_end:
            raise ValueError(f"not a byte range: [{self.byte_start}, {self.byte_end})")

    def __len__(self) -> int:
        return self.byte_end - self.byte_start

    def to_json(self) -> dict[str, int]:
        """``{"byte_start", "byte_end"}``."""
        return {"byte_start": self.byte_start, "byte_end": self.byte_end}


@dataclass(frozen=True, slots=True)
class Segment:
    """One run of canonical text and where it came from.

    ``byte_start``/``byte_end`` are offsets in the canonical text; ``source_start``/``source_end``
    offsets in the raw source, both None where only a ``locator`` is known. ``verbatim`` is False
    where the format's unescaping rule turns the raw bytes into the text (``&amp;`` → ``&``).
    """

    byte_start: int
    byte_end: int
    source_start: int | None = None
    source_end: int | None = None
    unit: int = 1
    source_unit: int = 1
    verbatim: bool = True
    locator: Mapping[str, Any] | None = None

    def source_range(self, byte_start: int, byte_end: int) -> ByteRange | None:
        """Raw byte range of ``[byte_start, byte_end)`` (canonical, inside this segment), widened to whole units."""
        if self.source_start is None or self.source_end is None:
            return None
        first = (byte_start - self.byte_start) // self.unit
        last = -(-(byte_end - self.byte_start) // self.unit)
        return ByteRange(self.source_start + first * self.source_unit, self.source_start + last * self.source_unit)


@dataclass(frozen=True, slots=True)
class SourceSpan:
    """Where a range of canonical text is in the source.

    ``source_ranges`` are sorted, non-overlapping and never adjacent. ``source_verbatim`` is True when the decoded
    ranges, joined, equal the text.
    """

    source_ranges: tuple[ByteRange, ...]
    source_verbatim: bool
    source_locator: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class SourceMap:
    """Sorted, non-overlapping segments over one document's canonical text.

    A range of canonical text that no segment covers was added by the parser: it has no source and
    must not be quoted (see :meth:`covers`).
    """

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        end = 0
        for segment in self.segments:
            if segment.byte_start < end or segment.byte_end < segment.byte_start:
                raise ValueError(f"segments of a source map must be sorted and disjoint; see {segment}")
            end = segment.byte_end

    @classmethod
    def identity(cls, length_bytes: int, *, source_start: int = 0) -> SourceMap:
        """The map of a UTF-8 text: canonical byte ``i`` is raw byte ``source_start + i`` (3 after a BOM)."""
        if length_bytes == 0:
            return cls(())
        return cls((Segment(0, length_bytes, source_start, source_start + length_bytes),))

    @cached_property
    def _starts(self) -> list[int]:
        return [segment.byte_start for segment in self.segments]

    def overlapping(self, byte_start: int, byte_end: int) -> Iterable[Segment]:
        """The segments that share at least one byte with the range, in order."""
        index = max(bisect_right(self._starts, byte_start) - 1, 0)
        for segment in self.segments[index:]:
            if segment.byte_start >= byte_end:
                return
            if segment.byte_end > byte_start:
                yield segment

    def covers(self, byte_start: int, byte_end: int) -> bool:
        """True when every byte of the range has a source."""
        position = byte_start
        for segment in self.overlapping(byte_start, byte_end):
            if segment.byte_start > position:
                return False
            position = segment.byte_end
        return position >= byte_end

    def locate(self, byte_start: int, byte_end: int) -> SourceSpan:
        """Where the canonical range ``[byte_start, byte_end)`` is in the source.

        Joining the ranges gives the text back (``source_verbatim``) unless a segment is escaped, a
        part of the range was added by the parser, a cut falls inside a unit, or positions are
        known as locators only.
        """
        ranges: list[ByteRange] = []
        locator: Mapping[str, Any] | None = None
        verbatim = self.covers(byte_start, byte_end)
        for segment in self.overlapping(byte_start, byte_end):
            start, end = max(byte_start, segment.byte_start), min(byte_end, segment.byte_end)
            verbatim = verbatim and segment.verbatim
            verbatim = verbatim and not (
                (start - segment.byte_start) % segment.unit or (end - segment.byte_start) % segment.unit
            )
            locator = locator or segment.locator
            found = segment.source_range(start, end)
            if found is None:
                verbatim = False
            elif ranges and ranges[-1].byte_end == found.byte_start:
                ranges[-1] = ByteRange(ranges[-1].byte_start, found.byte_end)
            else:
                ranges.append(found)
        return SourceSpan(tuple(ranges), verbatim, locator)

    def to_json(self) -> list[list[Any]]:
        """A compact JSON form: one list per segment, in the order of :class:`Segment`'s fields."""
        return [
            [s.byte_start, s.byte_end, s.source_start, s.source_end, s.unit, s.source_unit, int(s.verbatim), s.locator]
            for s in self.segments
        ]

    @classmethod
    def from_json(cls, rows: list[list[Any]]) -> SourceMap:
        """The inverse of :meth:`to_json`."""
        return cls(
            tuple(
                Segment(start, end, source_start, source_end, unit, source_unit, bool(verbatim), locator)
                for start, end, source_start, source_end, unit, source_unit, verbatim, locator in rows
            )
        )
