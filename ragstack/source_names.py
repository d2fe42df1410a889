"""File names as text: reversible for every name a file system can hold, UTF-8 or not.

A name's bytes that are not UTF-8 are written ``%XX``; so that the form stays unique, a ``%`` that is
followed by two hex digits is written ``%25``. Names without either are themselves.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

_AMBIGUOUS = re.compile(rb"%(?=[0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


def name_of_path(path: str | os.PathLike[str]) -> str:
    """The text form of a path, with ``/`` between its parts."""
    data = os.fsencode(path)
    if os.sep != "/":
        data = data.replace(os.fsencode(os.sep), b"/")
    text = _AMBIGUOUS.sub(b"%25", data).decode("utf-8", "surrogateescape")
    return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in text)


def path_of_name(name: str) -> Path:
    """The inverse of :func:`name_of_path`."""
    data = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), name.encode("utf-8"))
    return Path(os.fsdecode(data))


def path_of_uri(uri: str) -> Path | None:
    """The path of a ``file:`` URI, or None for another scheme and for what is no URI."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme != "file":
        return None
    return Path(os.fsdecode(unquote_to_bytes(parts.path)))
