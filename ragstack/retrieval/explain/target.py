"""What a user writes for a passage that was expected, read: a chunk, a place in a source, or a text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ragstack.errors import InputError
from ragstack.source_names import name_of_path

_MAX_BYTES = 16 * 1024
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BYTES = re.compile(r"(?P<name>.+)@(?P<start>\d{1,18})-(?P<end>\d{1,18})", re.DOTALL)
_LINES = re.compile(r"(?P<name>.+?):(?P<start>\d{1,9})(?:-(?P<end>\d{1,9}))?", re.DOTALL)
_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "»": "«"}


@dataclass(frozen=True)
class SourcePlace:
    """A source by the name that was given (an id or a path), whole or a part of it.

    Lines count from 1, both ends included; bytes are a half-open range of the canonical text.
    """

    name: str
    lines: tuple[int, int] | None = None
    byte_range: tuple[int, int] | None = None


@dataclass(frozen=True)
class Expected:
    """What was given, and what it may mean.

    Of ``places`` the first that names a source holds: a file's own name may look like a name with a line. ``text`` is
    looked for when none does; with ``chunk_id`` there is nothing else it may mean.
    """

    given: str
    chunk_id: str | None = None
    places: tuple[SourcePlace, ...] = ()
    text: str | None = None


def parse_expected(given: str) -> Expected:
    """Read ``FILE``, ``FILE:LINE``, ``FILE:LINE-LINE``, ``FILE@START-END`` (bytes), a chunk id, or a text.

    FILE is a path or a source id (``id:`` before it says that it is an id). A text stands in quotes, or after
    ``text:``; without either, what is no source and has spaces in it is taken for a text. Raises InputError for what
    is empty or too long, and for an empty range.
    """
    if not given.strip():
        raise InputError(
            "the expected passage is empty.", hint="Name a file, FILE:LINE, FILE@START-END, a chunk id or a text."
        )
    if len(given.encode("utf-8", "surrogatepass")) > _MAX_BYTES:
        raise InputError(f"the expected passage is longer than {_MAX_BYTES} bytes.", hint="Give its first sentence.")
    stripped, told = given.strip(), _told(given)
    if stripped.startswith("text:"):
        return Expected(told, text=_required_text(stripped[5:]))
    if len(stripped) > 1 and _QUOTES.get(stripped[0]) == stripped[-1]:
        return Expected(told, text=_required_text(stripped[1:-1]))
    if _UUID.fullmatch(stripped):
        return Expected(given, chunk_id=stripped.lower())
    places = [SourcePlace(given)]
    in_bytes, in_lines = _BYTES.fullmatch(given), _LINES.fullmatch(given)
    if in_bytes is not None:
        start, end = int(in_bytes["start"]), int(in_bytes["end"])
        if end <= start:
            raise InputError(f"{given}: the byte range is empty.", hint="Write FILE@START-END, the end left out of it.")
        places.append(SourcePlace(in_bytes["name"], byte_range=(start, end)))
    if in_lines is not None:
        first = int(in_lines["start"])
        last = int(in_lines["end"] or first)
        if first < 1 or last < first:
            raise InputError(f"{given}: there are no such lines.", hint="Lines count from 1; write FILE:FIRST-LAST.")
        places.append(SourcePlace(in_lines["name"], lines=(first, last)))
    is_text = not _is_undecodable(given) and re.search(r"\S\s+\S", stripped) is not None
    return Expected(told, places=tuple(places), text=stripped if is_text else None)


def _told(given: str) -> str:
    """What was given in a form that has a UTF-8 one: a file's name may be without. Raises InputError."""
    try:
        return name_of_path(given) if _is_undecodable(given) else given
    except UnicodeEncodeError as error:
        raise InputError(
            "the expected passage is not valid Unicode.", hint="Name the file, or its source id."
        ) from error


def _is_undecodable(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _required_text(text: str) -> str:
    if not text.strip():
        raise InputError("the expected text is empty.", hint="Give some words of the passage.")
    if _is_undecodable(text):
        raise InputError("the expected text is not valid Unicode.", hint="Give other words of the passage.")
    return text


def find_text(haystack: str, wanted: str) -> list[tuple[int, int]]:
    """Where ``wanted`` occurs, as half-open byte ranges of the UTF-8 of ``haystack``; case and white space aside."""
    words = wanted.split()
    if not words:
        return []
    # One line break of the source may be a space in what the user copied.
    pattern = re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)
    found = []
    position = byte = 0
    for match in pattern.finditer(haystack):
        byte += len(haystack[position : match.start()].encode("utf-8"))
        end = byte + len(match.group().encode("utf-8"))
        found.append((byte, end))
        position, byte = match.end(), end
    return found
