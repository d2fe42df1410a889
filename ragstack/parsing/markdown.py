"""Markdown: the whole file is the canonical text; its blocks come from pulldown-cmark's byte ranges.

The library (Rust, by way of ``pyromark``) is linear in time, stands hostile input, follows CommonMark
with LF, CRLF and lone CR as line ends, and reports UTF-8 byte offsets, so nothing is searched for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyromark

from ragstack.errors import SourceError
from ragstack.parsing.base import RawSource
from ragstack.parsing.encoding import decode
from ragstack.parsing.front_matter import read_front_matter
from ragstack.parsing.lines import paragraph_ranges
from ragstack.types import Block, BlockKind, Document

_OPTIONS = (
    pyromark.Options.ENABLE_TABLES
    | pyromark.Options.ENABLE_FOOTNOTES
    | pyromark.Options.ENABLE_GFM
    | pyromark.Options.ENABLE_HEADING_ATTRIBUTES
)
_KINDS: dict[str, BlockKind] = {
    "Paragraph": "paragraph",
    "BlockQuote": "quote",
    "Table": "table",
    "FootnoteDefinition": "paragraph",
    "HtmlBlock": "other",
}
# A title goes into the heading path of every chunk below it.
MAX_TITLE_CHARS = 200
_SPACE_RUN = re.compile(r"\s+")
_LONE_CR = re.compile(r"\r(?!\n)")
_SPACES = b" \t\r\n\f\v"


class MarkdownParser:
    """The parser of ``text/markdown``."""

    name = "markdown"
    version = "1"

    def parse(self, raw: RawSource) -> Iterable[Document]:
        """One document; ``metadata`` holds the YAML front matter and ``title``.

        ``title`` is that of the front matter, else the first heading of level 1. Front matter is a
        block of kind ``metadata``; when its YAML is broken it is text like any other, and
        ``metadata["front_matter_error"]`` says why. Blocks hold every byte that is not white space.
        Raises SourceError for bytes that are not UTF-8 text.
        """
        decoded = decode(raw)
        data = decoded.text.encode("utf-8")
        front = read_front_matter(data)
        metadata: dict[str, Any] = dict(front.values)
        if front.error:
            metadata["front_matter_error"] = front.error
        body = decoded.text if front.byte_end == 0 else data[front.byte_end :].decode("utf-8")
        try:
            blocks = tuple(_with_gaps(data, front.byte_end, _blocks(body, data, front.byte_end)))
        except BaseException as error:
            # A panic of the Rust library is no Exception; it concerns this one source.
            if type(error).__name__ != "PanicException":
                raise
            raise SourceError(
                f"{raw.source.source_id}: the Markdown parser failed: {error}",
                hint="Read the file as plain text by giving it the extension .txt, and report the file.",
            ) from error
        if not isinstance(metadata.get("title"), str) or not metadata["title"].strip():
            title = next((block.title for block in blocks if block.kind == "heading" and block.level == 1), "")
            if title:
                metadata["title"] = title
        if front.byte_end:
            blocks = (Block("metadata", 0, front.byte_end), *blocks)
        yield Document(
            source=raw.source,
            text=decoded.text,
            media_type=raw.media_type,
            source_encoding=decoded.encoding,
            source_map=decoded.source_map,
            metadata=metadata,
            blocks=blocks,
        )


def _blocks(body: str, data: bytes, offset: int) -> Iterator[Block]:
    """The top-level blocks of ``body``, which begins at byte ``offset`` of ``data``; lists give one block an item."""
    # The library ends a heading at LF only. LF for a lone CR keeps every offset.
    body = _LONE_CR.sub("\n", body)
    opened: _Open | None = None
    depth = 0  # containers open inside the block
    for event, span in pyromark.events_with_range(body, options=_OPTIONS):
        what, name, detail = _parts(event)
        if opened is None:
            # A list is no block: its items are.
            if what == "Start" and name != "List":
                opened = _open(name, detail, offset + span["start"], offset + span["end"])
                depth = 0
        elif what == "Start":
            depth += 1
        elif what == "End" and depth:
            depth -= 1
        elif what == "End":
            yield from _closed(data, opened)
            opened = None
        elif opened.kind == "heading":
            if what in ("Text", "Code"):
                opened.title.append(detail)
            elif what in ("SoftBreak", "HardBreak"):
                opened.title.append(" ")


@dataclass(slots=True)
class _Open:
    """The top-level block whose end event has not come yet."""

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    language: str = ""
    title: list[str] = field(default_factory=list)


def _parts(event: Any) -> tuple[str, str, Any]:
    """``{"Start": {"Heading": {...}}}`` → Start, Heading, the inner value; ``"Rule"`` → Rule, Rule, None."""
    if isinstance(event, str):
        return event, event, None
    what, value = next(iter(event.items()))
    if isinstance(value, dict):
        name, detail = next(iter(value.items()))
        return what, name, detail
    return what, value or "", value


def _open(name: str, detail: Any, start: int, end: int) -> _Open:
    if name == "Heading":
        return _Open("heading", start, end, level=int(detail["level"][1:]))
    if name == "CodeBlock":
        return _Open("code", start, end, language=_language(detail))
    return _Open("list" if name == "Item" else _KINDS.get(name, "other"), start, end)


def _closed(data: bytes, block: _Open) -> Iterator[Block]:
    start, end = block.start, block.end
    while end > start and data[end - 1] in _SPACES:
        end -= 1
    while start < end and data[start] in _SPACES:
        start += 1
    if end > start:
        title = _title(block.title) if block.kind == "heading" else ""
        yield Block(block.kind, start, end, level=block.level, title=title, language=block.language)


def _language(detail: Any) -> str:
    """First word of a fence's info string: ``python`` of "```python title=x"."""
    words = detail["Fenced"].split(None, 1) if isinstance(detail, dict) else []
    return words[0].lower().strip("{}.") if words else ""


def _title(parts: list[str]) -> str:
    # Joined by pieces up to the limit: the parts of a hostile heading can be megabytes.
    text = _SPACE_RUN.sub(" ", "".join(parts)[: 4 * MAX_TITLE_CHARS]).strip()
    return text if len(text) <= MAX_TITLE_CHARS else text[: MAX_TITLE_CHARS - 1].rstrip() + "…"


def _with_gaps(data: bytes, start: int, blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks, and between them what the library reports no event for: link definitions, rules, stray markers."""
    position = start
    for block in blocks:
        yield from _gap(data, position, block.byte_start)
        if block.byte_start < position:
            raise AssertionError(f"overlapping Markdown blocks at byte {block.byte_start}")
        yield block
        position = block.byte_end
    yield from _gap(data, position, len(data))


def _gap(data: bytes, start: int, end: int) -> Iterator[Block]:
    gap = data[start:end]
    if gap.strip(_SPACES):
        for first, last in paragraph_ranges(gap):
            yield Block("other", start + first, start + last)
