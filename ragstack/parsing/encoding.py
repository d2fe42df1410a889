"""From raw bytes to text: which encoding a source has, and its canonical text with the source map.

The encoding is decided by the first of ``_STEPS`` that has an opinion, in this order: what the config
says for the file, a byte order mark, what the format declares, a pattern of NUL bytes, and at last
strict UTF-8. Each step returns a name or None. An encoding can be read when ``_DECODERS`` has it;
to add one, add its decoder there (and a step, if it has to be detected).
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass

from ragstack.errors import SourceError
from ragstack.parsing.base import RawSource
from ragstack.source_map import SourceMap

# UTF-32 LE begins with the mark of UTF-16 LE, so it is looked for first.
_BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 65536
# A pattern of NULs is not judged on fewer bytes than this: "\0a" is also valid UTF-8.
_MIN_PATTERN_BYTES = 16
_SNIFF_BYTES = 8192
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\b\x1b")
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"{\\rtf", "application/rtf"),
)
_HTML_OPENINGS = (b"<!doctype html", b"<html")
_SHEBANGS: tuple[tuple[bytes, str], ...] = (
    (b"python", "text/x-python"),
    (b"bash", "text/x-shellscript"),
    (b"/sh", "text/x-shellscript"),
    (b" sh", "text/x-shellscript"),
    (b"ruby", "text/x-ruby"),
    (b"node", "text/javascript"),
)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The canonical text of a source. ``encoding`` is the codec that decodes the raw ranges of ``source_map``."""

    text: str
    encoding: str
    source_map: SourceMap


@dataclass(frozen=True, slots=True)
class _Guess:
    """One step's opinion: the codec, how many bytes of mark come before the text, and the evidence."""

    encoding: str
    bom_bytes: int
    evidence: str


def decode(raw: RawSource, *, declared: str | None = None) -> Decoded:
    """Canonical text and source map of ``raw``; ``declared`` is the encoding that the format itself names.

    Nothing is normalised; NULs and control characters that are valid UTF-8 stay. A byte order mark
    is left out of the text and of the map. Raises SourceError, with the byte offset, for bytes that
    are not valid in the encoding, and for an encoding that cannot be read.
    """
    for step in _STEPS:
        guess = step(raw, declared)
        if guess is not None:
            break
    else:  # the last step always answers
        raise AssertionError("no encoding step answered")
    decoder = _DECODERS.get(guess.encoding)
    if decoder is None:
        raise SourceError(
            f"{raw.source.source_id}: byte 0: the text is {guess.encoding} ({guess.evidence}); only UTF-8 is read.",
            hint=f"Convert it, for example with: iconv -f {guess.encoding} -t utf-8",
        )
    return decoder(raw, guess)


def _from_config(raw: RawSource, declared: str | None) -> _Guess | None:
    if raw.encoding is None:
        return None
    name = _codec_name(raw.encoding)
    if name is None:
        raise SourceError(
            f"{raw.source.source_id}: the config gives it the unknown encoding {raw.encoding!r}.",
            hint="Use a name such as utf-8.",
        )
    name = "utf-8" if name == "utf-8-sig" else name
    return _Guess(name, _bom_bytes(raw.data, name), "named in the config")


def _from_bom(raw: RawSource, declared: str | None) -> _Guess | None:
    for mark, name in _BOMS:
        if raw.data.startswith(mark):
            return _Guess(name, len(mark), f"byte order mark {mark.hex(' ')}")
    return None


def _from_format(raw: RawSource, declared: str | None) -> _Guess | None:
    name = _codec_name(declared) if declared is not None else None
    return None if name is None else _Guess(name, 0, f"declared in the file as {declared}")


def _from_nuls(raw: RawSource, declared: str | None) -> _Guess | None:
    name = _nul_pattern(raw.data)
    return None if name is None else _Guess(name, 0, "by its pattern of NUL bytes")


def _utf8(raw: RawSource, declared: str | None) -> _Guess:
    return _Guess("utf-8", 0, "assumed")


_STEPS: tuple[Callable[[RawSource, str | None], _Guess | None], ...] = (
    _from_config,
    _from_bom,
    _from_format,
    _from_nuls,
    _utf8,
)


def _decode_utf8(raw: RawSource, guess: _Guess) -> Decoded:
    body = raw.data[guess.bom_bytes :] if guess.bom_bytes else raw.data
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        at = guess.bom_bytes + error.start
        line = body.count(b"\n", 0, error.start) + 1
        raise SourceError(
            f"{raw.source.source_id}: byte {at} (line {line}) is 0x{raw.data[at]:02x}, which is not valid UTF-8"
            f" ({error.reason}).",
            hint="Convert the file to UTF-8, for example with: iconv -f <its encoding> -t utf-8",
        ) from error
    return Decoded(text, "utf-8", SourceMap.identity(len(body), source_start=guess.bom_bytes))


_DECODERS: dict[str, Callable[[RawSource, _Guess], Decoded]] = {"utf-8": _decode_utf8, "ascii": _decode_utf8}


def _codec_name(name: str) -> str | None:
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None


def _bom_bytes(data: bytes, encoding: str) -> int:
    return next((len(mark) for mark, name in _BOMS if name == encoding and data.startswith(mark)), 0)


def _nul_pattern(data: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark, told by where the NULs of its Latin letters are."""
    sample = data[:_SAMPLE_BYTES]
    if len(sample) < _MIN_PATTERN_BYTES or b"\x00" not in sample:
        return None
    quarter = len(sample) // 4
    by_place = [sample[place : quarter * 4 : 4].count(0) / quarter for place in range(4)]
    nul = [share > 0.4 for share in by_place]
    text = [share < 0.1 for share in by_place]
    if len(data) % 4 == 0:
        # The plane byte of UTF-32 is rarely above 0, its top byte never.
        if text[0] and nul[1] and by_place[2] > 0.9 and by_place[3] == 1.0:
            return "utf-32-le"
        if text[3] and nul[2] and by_place[1] > 0.9 and by_place[0] == 1.0:
            return "utf-32-be"
    if len(data) % 2 == 0:
        if text[0] and text[2] and nul[1] and nul[3]:
            return "utf-16-le"
        if text[1] and text[3] and nul[0] and nul[2]:
            return "utf-16-be"
    return None


def sniff(data: bytes) -> str | None:
    """Media type of a file whose name says nothing, from its first 8 KiB; None when it is binary.

    Text in UTF-16 or UTF-32 is ``text/plain`` (its parser names the encoding); NULs elsewhere, or
    more control characters than text has, mean binary. Scripts are told by their first line.
    """
    head = data[:_SNIFF_BYTES]
    for magic, media_type in _MAGIC:
        if head.startswith(magic):
            return media_type
    if any(head.startswith(mark) for mark, _ in _BOMS) or _nul_pattern(data) is not None:
        return "text/plain"
    if b"\x00" in head:
        return None
    controls = sum(1 for byte in head if (byte < 0x20 and byte not in _TEXT_CONTROLS) or byte == 0x7F)
    # Random bytes hold about one control character in ten; bytes that are valid UTF-8 are given more room.
    if controls > len(head) * (0.3 if _is_utf8_prefix(head) else 0.05):
        return None
    if head.startswith(b"#!"):
        first = head.split(b"\n", 1)[0]
        return next((media_type for word, media_type in _SHEBANGS if word in first), "text/plain")
    return "text/html" if head.lstrip().lower().startswith(_HTML_OPENINGS) else "text/plain"


def _is_utf8_prefix(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True
