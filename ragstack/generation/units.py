"""What of a passage can be quoted as an answer: sentences, and tables and code as they stand. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ragstack.sentences import sentence_spans

UnitKind: TypeAlias = Literal["sentence", "title", "table", "code"]

# Larger tables and blocks of code are quoted by parts: rows, or what stands between blank lines.
_MAX_BLOCK = 1000
# A text without full stops is cut at line ends and spaces into pieces of at most this many bytes.
_MAX_SENTENCE = 800
_MIN_LETTERS = 8
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_FENCE = re.compile(rb"[ \t]{0,3}(?:>[ \t]?)*(`{3,}|~{3,})")
_TABLE_LINE = re.compile(rb"[ \t]*\|.*\|[ \t]*\Z")
_TABLE_RULE = re.compile(rb"[\s|:=+-]+\Z")
_HEADING = re.compile(r"#{1,6}\s")
# "(Laughter.)", "[1]", "***": nothing is said.
_ASIDE = re.compile(r"[\W\d_]*[(\[{][^()\[\]{}]{0,80}[)\]}][\W\d_]*\Z")
_ENDS = tuple(".!?…。！？।؟:;\"'”’»)]`|")
_CODE_LINE = re.compile(
    r"\s*(?:(?:def|class|async|func|function|fn|import|from|return|public|private|protected|static|const|let|var|if|for|"
    r"while|else|elif|try|except|catch|switch|case|package|use|using|namespace|struct|impl|interface|#include|@)\b.*"
    r"|.*[{};]|[\w.\[\]\"']+\s*[-+*/|&]?=\s.*|[\w.]+\(.*\)|[})\]]+[;,]?|//.*|\s*)\Z"
)
# What begins a definition stands in no prose: beside it, fewer lines need to look like a program's.
_DEFINITION = re.compile(
    r"[ \t]*(?:(?:async\s+)?def\s+\w+\(|class\s+\w+\s*[(:{]|func(?:tion)?\s+\w+\(|fn\s+\w+\(|#include\s*[<\"]"
    r"|from\s+[\w.]+\s+import\s|import\s+[\w.{}* ,]+;?\s*\Z)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of a text that can stand in an answer: byte range in the text's UTF-8 form, without white space around.

    A ``title`` says what follows rather than anything itself; ``table`` and ``code`` are shown line by line.
    """

    byte_start: int
    byte_end: int
    kind: UnitKind


def quotable_units(text: str) -> list[Unit]:
    """The units of a text in order, none overlapping. Headings and scraps that say nothing are left out."""
    data = text.encode("utf-8")
    found: list[Unit] = []
    if _is_code(text):
        return list(_parts_of_code(data, 0, len(data)))
    position = 0
    for kind, start, end in _blocks(data):
        found += _sentences(data, position, start)
        found += _parts_of_table(data, start, end) if kind == "table" else _parts_of_code(data, start, end)
        position = end
    return found + list(_sentences(data, position, len(data)))


def _blocks(data: bytes) -> Iterator[tuple[UnitKind, int, int]]:
    """Fenced code, and runs of two or more lines of a table, as byte ranges."""
    fence, fence_start = b"", 0
    table_start, rows = 0, 0
    for match in _LINE.finditer(data):
        line, start, end = match.group().rstrip(b"\r\n"), match.start(), match.end()
        opened = _FENCE.match(line)
        if fence:
            if opened and opened.group(1)[:1] == fence[:1] and len(opened.group(1)) >= len(fence):
                yield "code", fence_start, end
                fence = b""
            continue
        if _TABLE_LINE.match(line):
            table_start = table_start if rows else start
            rows += 1
            continue
        if rows > 1:
            yield "table", table_start, start
        rows = 0
        if opened:
            fence, fence_start = opened.group(1), start
    if fence:
        yield "code", fence_start, len(data)
    elif rows > 1:
        yield "table", table_start, len(data)


def _parts_of_table(data: bytes, start: int, end: int) -> Iterator[Unit]:
    if end - start <= _MAX_BLOCK:
        yield from _stripped(data, start, end, "table")
        return
    for match in _LINE.finditer(data, start, end):
        if match.group().strip() and not _TABLE_RULE.match(match.group()):
            yield from _stripped(data, match.start(), match.end(), "table")


def _parts_of_code(data: bytes, start: int, end: int) -> Iterator[Unit]:
    if end - start <= _MAX_BLOCK:
        yield from _stripped(data, start, end, "code")
        return
    part = start
    for match in _LINE.finditer(data, start, end):
        if not match.group().strip() and match.end() > match.start():
            yield from _stripped(data, part, match.start(), "code")
            part = match.end()
    yield from _stripped(data, part, end, "code")


def _sentences(data: bytes, start: int, end: int) -> Iterator[Unit]:
    text = data[start:end].decode("utf-8")
    for first, last in sentence_spans(text):
        for byte_start, byte_end in _pieces(data, start + first, start + last):
            shown = data[byte_start:byte_end].decode("utf-8")
            if _HEADING.match(shown) or _ASIDE.match(shown) or _is_scrap(shown):
                continue
            kind: UnitKind = "sentence" if _is_sentence(data, byte_start, byte_end, shown) else "title"
            yield Unit(byte_start, byte_end, kind)


def _pieces(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > _MAX_SENTENCE:
        window = data[start : start + _MAX_SENTENCE]
        cut = window.rfind(b"\n") + 1 or window.rfind(b" ") + 1
        if cut <= 0:  # one endless word, or a script without spaces
            cut = len(window.decode("utf-8", "ignore").encode("utf-8"))
        yield from ((unit.byte_start, unit.byte_end) for unit in _stripped(data, start, start + cut, "sentence"))
        start += cut
    yield from ((unit.byte_start, unit.byte_end) for unit in _stripped(data, start, end, "sentence"))


def _is_scrap(text: str) -> bool:
    """Fewer letters than any statement has; characters of scripts without spaces count for more."""
    letters = sum(1 if character < "\u0e00" else 3 for character in text if character.isalnum())
    return letters < _MIN_LETTERS


def _is_sentence(data: bytes, start: int, end: int, text: str) -> bool:
    """Whether a text is more than the title of what follows: it ends like a sentence, or shares its paragraph."""
    if text.endswith(_ENDS) or text[:1] in "-*+•>|" or len(text.split()) > 20:
        return True
    alone_before = not data[:start].strip(b" \t") or data[:start].rstrip(b" \t").endswith((b"\n", b"\r"))
    alone_after = data[end:].lstrip(b" \t")[:1] in (b"\n", b"\r")
    return not (alone_before and alone_after)


def _is_code(text: str) -> bool:
    """Whether a text without fences is a program: most of its lines look like one's."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 3 or "```" in text or "~~~" in text:
        return False
    enough = 0.3 if any(_DEFINITION.match(line) for line in lines) else 0.6
    return sum(_CODE_LINE.match(line) is not None for line in lines) >= enough * len(lines)


def _stripped(data: bytes, start: int, end: int, kind: UnitKind) -> Iterator[Unit]:
    """The range without white space around it (indentation of a first line of code stays), if anything is left."""
    part = data[start:end]
    if not part.strip():
        return
    last = start + len(part.rstrip())
    if kind == "code":
        lead = re.match(rb"(?:[ \t]*(?:\r\n|\r|\n))*", part)
        first = start + (lead.end() if lead else 0)
    else:
        first = start + len(part) - len(part.lstrip())
    yield Unit(first, last, kind)
