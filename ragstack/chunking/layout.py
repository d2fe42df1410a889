"""A document's structure as the chunkers need it: its body, heading paths, and where it may be cut."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ragstack.chunking.packing import CutFinder, Level, Piece, positions_between
from ragstack.chunking.token_positions import char_floor
from ragstack.sentences import sentence_spans
from ragstack.types import Block, ChunkSpan, Document

_BLANK_LINE = re.compile(rb"(?:\r\n|\r|\n)[ \t\f\v]*(?:\r\n|\r|\n)\s*")
_LINE_END = re.compile(rb"(?:\r\n|\r(?!\n)|\n)")
# What a sentence rule reads after a stop: white space, opening quotes, one letter.
_LOOK_AHEAD_BYTES = 64
# Blocks whose lines are rows or statements: no sentence ends inside them.
_LINE_KINDS = ("code", "table")


@dataclass(frozen=True)
class Layout:
    """``data`` is the canonical text; ``body`` its byte ranges without metadata.

    ``blocks`` cover the body; ``starts`` and ``paths`` have one offset and one heading path a block.
    """

    data: bytes
    blocks: tuple[Block, ...]
    body: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]
    paths: tuple[tuple[str, ...], ...]


def layout_of(document: Document) -> Layout:
    """The layout of ``document``. Without blocks, its paragraphs are the runs of text between blank lines."""
    data = document.canonical_bytes
    blocks = tuple(b for b in document.blocks if b.kind != "metadata" and b.byte_end > b.byte_start)
    body: list[tuple[int, int]] = []
    start = 0
    for block in document.blocks:
        if block.kind == "metadata":
            body.append((start, block.byte_start))
            start = block.byte_end
    body.append((start, len(data)))
    if not blocks:
        blocks = tuple(Block("paragraph", lo, hi) for first, last in body for lo, hi in _paragraphs(data, first, last))
    return Layout(
        data, blocks, tuple(r for r in body if r[1] > r[0]), tuple(b.byte_start for b in blocks), _paths(blocks)
    )


def _paragraphs(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    for match in _BLANK_LINE.finditer(data, start, end):
        if match.start() > start:
            yield start, match.start()
        start = match.end()
    if end > start:
        yield start, end


def _paths(blocks: Sequence[Block]) -> tuple[tuple[str, ...], ...]:
    paths: list[tuple[str, ...]] = []
    open_headings: list[Block] = []
    path: tuple[str, ...] = ()
    for block in blocks:
        if block.kind == "heading":
            while open_headings and open_headings[-1].level >= block.level:
                open_headings.pop()
            open_headings.append(block)
            path = tuple(heading.title for heading in open_headings if heading.title)
        paths.append(path)
    return tuple(paths)


def heading_path(layout: Layout, start: int, end: int) -> tuple[str, ...]:
    """The titles above the chunk ``[start, end)``, outermost first.

    They are those of its first byte that is not in a heading; of its last heading when it is nothing
    else. Definitions of code follow them: those that hold the whole chunk.
    """
    first = max(bisect_right(layout.starts, start) - 1, 0)
    last = bisect_right(layout.starts, end - 1)
    inside = [i for i in range(first, last) if layout.blocks[i].byte_end > start]
    if not inside:
        # Text between blocks belongs to the section that is open there.
        return layout.paths[first] if layout.starts and layout.starts[first] <= start else ()
    body = [i for i in inside if layout.blocks[i].kind != "heading"]
    path = layout.paths[body[0] if body else inside[-1]]
    scopes = [layout.blocks[i].scope for i in body]
    shared: list[str] = []
    for level in zip(*scopes, strict=False) if scopes else ():
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return (*path, *shared)


def spans_of(layout: Layout, pieces: Sequence[Piece]) -> list[ChunkSpan]:
    """What a chunker returns: pieces with their heading paths."""
    return [
        ChunkSpan(p.byte_start, p.byte_end, p.token_count, heading_path(layout, p.byte_start, p.byte_end))
        for p in pieces
    ]


def sections(layout: Layout) -> list[tuple[int, int]]:
    """The body cut before each heading that follows something else than a heading."""
    cuts = [
        block.byte_start
        for before, block in pairwise(layout.blocks)
        if block.kind == "heading" and before.kind != "heading"
    ]
    ranges: list[tuple[int, int]] = []
    for start, end in layout.body:
        bounds = [start, *positions_between(cuts, start, end - 1), end]
        ranges.extend(pairwise(bounds))
    return ranges


def block_cuts(layout: Layout, *, max_scope: int | None = None) -> CutFinder:
    """Cuts before blocks; never between a heading and what follows it.

    With ``max_scope``, only before blocks that are in at most so many definitions.
    """
    cuts = [
        block.byte_start
        for before, block in pairwise(layout.blocks)
        if before.kind != "heading" and (max_scope is None or len(block.scope) <= max_scope)
    ]
    return lambda lo, hi: positions_between(cuts, lo, hi)


def heading_cuts(layout: Layout) -> CutFinder:
    """Cuts before the headings that start a section."""
    cuts = [start for start, _ in sections(layout)]
    return lambda lo, hi: positions_between(cuts, lo, hi)


def sentence_cuts(layout: Layout) -> CutFinder:
    """Cuts before sentences in prose, and before lines in code and tables."""

    def find(lo: int, hi: int) -> Sequence[int]:
        found: list[int] = []
        for block in _between(layout, lo, hi):
            start = max(lo, block.byte_start)
            if block.kind in _LINE_KINDS:
                found.extend(_line_starts(layout.data, start, min(hi, block.byte_end)))
            elif block.kind != "heading":
                end = char_floor(layout.data, min(hi + _LOOK_AHEAD_BYTES, block.byte_end))
                text = layout.data[start:end].decode("utf-8")
                # The first sentence starts the block, or goes on from before ``lo``.
                found.extend(start + first for first, _ in sentence_spans(text)[1:] if start + first <= hi)
        return found

    return find


def line_cuts(layout: Layout) -> CutFinder:
    """Cuts before lines, whatever the block; the last resort before words."""
    return lambda lo, hi: [
        at
        for block in _between(layout, lo, hi)
        for at in _line_starts(layout.data, max(lo, block.byte_start), hi)
        if at <= block.byte_end
    ]


def _row_cuts(layout: Layout) -> CutFinder:
    """Cuts before the lines of code and tables: a row is only cut when it is longer than a chunk."""
    return lambda lo, hi: [
        at
        for block in _between(layout, lo, hi)
        if block.kind in _LINE_KINDS
        for at in _line_starts(layout.data, max(lo, block.byte_start), min(hi, block.byte_end))
    ]


def blank_line_cuts(layout: Layout) -> CutFinder:
    """Cuts after blank lines, inside blocks of code as well."""

    def find(lo: int, hi: int) -> Sequence[int]:
        return [m.end() for m in _BLANK_LINE.finditer(layout.data, lo, min(hi + 1, len(layout.data))) if m.end() <= hi]

    return find


def prose_levels(layout: Layout) -> tuple[Level, ...]:
    """The boundaries of a text, coarsest first: sections, blocks, sentences and rows, lines."""
    return (
        Level(heading_cuts(layout), min_fill=0.5),
        Level(block_cuts(layout), min_fill=0.5),
        Level(sentence_cuts(layout), min_fill=0.15),
        Level(_row_cuts(layout), min_fill=0.0),
        Level(line_cuts(layout), min_fill=0.3),
    )


def merged(*finders: CutFinder) -> CutFinder:
    """The cuts of all ``finders``, as one kind of boundary."""
    return lambda lo, hi: sorted({at for find in finders for at in find(lo, hi)})


def _between(layout: Layout, lo: int, hi: int) -> Iterator[Block]:
    index = max(bisect_right(layout.starts, lo) - 1, 0)
    for block in layout.blocks[index : bisect_right(layout.starts, hi)]:
        if block.byte_end > lo:
            yield block


def _line_starts(data: bytes, lo: int, hi: int) -> list[int]:
    # One byte past hi, so that a CR there is known to have no LF after it.
    return [m.end() for m in _LINE_END.finditer(data, lo, min(hi + 1, len(data))) if lo < m.end() <= hi]
