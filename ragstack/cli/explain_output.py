"""``ragstack query --explain``, for people: sentences first, then the figures, in 80 columns."""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ragstack.cli.output import console, printable, uses_color

if TYPE_CHECKING:
    from ragstack.retrieval.explain.explanation import ExplainedChunk, Explanation, LegExplanation, QueryWord

_WIDTH = 80
_NAME_WIDTH = 24
_WORD_WIDTH = 14
_CELL_WIDTH = 17
_WORD_COLUMNS = 3


def print_explanation(explanation: Explanation) -> None:
    """Print the summary, the stages, what would have changed the outcome, the chunks, and the words."""
    from rich.text import Text

    out = console()
    bold = "bold" if uses_color(sys.stdout) else ""
    for line in _wrapped(explanation.summary, ""):
        out.print(Text(line, style=bold), soft_wrap=True)
    for title, lines in _sections(explanation):
        out.print()
        out.print(Text(title, style=bold), soft_wrap=True)
        for line in lines:
            out.print(Text(line), soft_wrap=True)


def _sections(explanation: Explanation) -> Iterator[tuple[str, list[str]]]:
    if explanation.steps:
        lines = []
        for step in explanation.steps:
            mark = "LOST" if step.outcome == "lost" else "ok"
            lines += _wrapped(step.detail, f"  {step.stage:<10} {mark:<5}")
        yield "Stage by stage", lines
    if explanation.advice:
        yield "What would have changed it", [line for a in explanation.advice for line in _wrapped(a.detail, "  - ")]
    if explanation.chunks:
        names = _names(explanation.chunks)
        yield _heading(explanation), [_row(chunk, names) for chunk in explanation.chunks]
        yield from _parts([chunk for chunk in explanation.chunks if chunk.score_parts], names)
    shown = [word for word in explanation.words if word.terms]
    if shown:
        yield from _words(explanation, shown)
    if explanation.limits:
        yield "Not looked at", [line for limit in explanation.limits for line in _wrapped(limit, "  - ")]


def _heading(explanation: Explanation) -> str:
    title = "Chunks (> expected)" if explanation.expected is not None else "Chunks"
    return f"{title:<{_NAME_WIDTH + 2}}{'dense':>7}{'sparse':>7}{'fused':>6}{'rerank':>7}{'score':>8}"


def _row(chunk: ExplainedChunk, names: Mapping[str, str]) -> str:
    mark = ">" if chunk.expected else " "
    rerank = "-" if chunk.rerank_rank is None else str(chunk.rerank_rank)
    rerank = rerank if chunk.reranked or chunk.rerank_rank is None else f"({rerank})"
    score = "-" if chunk.score is None else f"{chunk.score:.3f}"
    fused = "-" if chunk.fused_rank is None else str(chunk.fused_rank)
    figures = f"{_leg(chunk.legs.get('dense')):>7}{_leg(chunk.legs.get('sparse')):>7}{fused:>6}{rerank:>7}{score:>8}"
    return f"{mark} {names[chunk.chunk_id]:<{_NAME_WIDTH}}{figures}  {_note(chunk)}".rstrip()


def _leg(leg: LegExplanation | None) -> str:
    if leg is None:
        return "-"
    if leg.rank is not None:
        return str(leg.rank)
    return f">{leg.rank_above}" if leg.rank_above is not None else "-"


def _note(chunk: ExplainedChunk) -> str:
    if chunk.passage_rank is not None:
        return f"passage {chunk.passage_rank}{', cited' if chunk.sentences else ''}"
    if chunk.duplicate_of is not None:
        return "repeats"
    return "filtered" if chunk.filtered_by else ""


def _names(chunks: Sequence[ExplainedChunk]) -> dict[str, str]:
    """Source and line of each chunk; its bytes where another one begins in the same line."""
    lines = Counter((chunk.source_id, chunk.line_start) for chunk in chunks)
    return {
        chunk.chunk_id: _fitting(
            f"{chunk.source_id}:{chunk.line_start}"
            if lines[chunk.source_id, chunk.line_start] == 1
            else f"{chunk.source_id}@{chunk.byte_start}-{chunk.byte_end}"
        )
        for chunk in chunks
    }


def _fitting(name: str) -> str:
    shown = printable(name).replace("\n", "\\n")
    # The end of a path tells more than its beginning.
    return shown if len(shown) < _NAME_WIDTH else f"…{shown[2 - _NAME_WIDTH :]}"


def _parts(chunks: Sequence[ExplainedChunk], names: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """The summands of the rerankers' scores, for those that have any."""
    if not chunks:
        return
    parts = list(dict.fromkeys(part for chunk in chunks for part in chunk.score_parts))
    widths = [max(len(part), 6) + 2 for part in parts]
    title = "".join(f"{part:>{width}}" for part, width in zip(parts, widths, strict=True))
    lines = []
    for chunk in chunks:
        found = [f"{chunk.score_parts[part]:.3f}" if part in chunk.score_parts else "-" for part in parts]
        cells = "".join(f"{cell:>{width}}" for cell, width in zip(found, widths, strict=True))
        relevance = "-" if chunk.relevance is None else f"{chunk.relevance:.3f}"
        mark = ">" if chunk.expected else " "
        lines.append(f"{mark} {names[chunk.chunk_id]:<{_NAME_WIDTH}}{cells}{relevance:>11}")
    yield f"{'Parts of the score':<{_NAME_WIDTH + 2}}{title}{'relevance':>11}", lines


def _words(explanation: Explanation, words: Sequence[QueryWord]) -> Iterator[tuple[str, list[str]]]:
    chunks = [chunk for chunk in explanation.chunks if chunk.chunk_id in words[0].chunks][:_WORD_COLUMNS]
    names = "".join(f"  {_label(chunk):<{_CELL_WIDTH}}" for chunk in chunks)
    lines = []
    for word in words:
        count = "" if word.chunk_count is None else f"{word.chunk_count:,}"
        cells = "".join(f"  {_cell(word, chunk):<{_CELL_WIDTH}}" for chunk in chunks)
        lines.append(f"  {_cut(printable(word.text), _WORD_WIDTH):<{_WORD_WIDTH}}{count:>7}{cells}".rstrip())
    unsearched = [word.text for word in explanation.words if not word.terms]
    if unsearched:
        lines += _wrapped(f"Too common to be searched for: {', '.join(unsearched)}.", "  ")
    lines += _wrapped("Columns: BM25 points (- none), the nearest word there and its similarity.", "  ")
    yield f"{'Words':<{_WORD_WIDTH + 2}}{'chunks':>7}{names}".rstrip(), lines


def _label(chunk: ExplainedChunk) -> str:
    if chunk.expected:
        return "expected"
    return f"passage {chunk.passage_rank}" if chunk.passage_rank is not None else f"place {chunk.rerank_rank or '-'}"


def _cell(word: QueryWord, chunk: ExplainedChunk) -> str:
    found = word.chunks[chunk.chunk_id]
    points = f"{found.sparse:.1f}" if found.sparse > 0 else "-"
    if found.similarity is None or found.nearest is None:
        return points
    nearest = _cut(printable(found.nearest), _CELL_WIDTH - 9)
    return f"{points:<4}{nearest} {found.similarity:.2f}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _wrapped(text: str, lead: str) -> list[str]:
    """Lines of at most 80 columns; ``lead`` stands before the first, and as much space before the others."""
    return textwrap.wrap(
        printable(text).replace("\n", " "),
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [lead.rstrip()]
