"""YAML front matter: the block of metadata between ``---`` lines at the start of a Markdown file."""

from __future__ import annotations

import base64
import datetime
import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

_OPENING = re.compile(rb"---[ \t]*(?:\r\n|\r|\n)")
_CLOSING = re.compile(rb"(?:\A|(?<=[\r\n]))(?:---|\.\.\.)[ \t]*(?:\r\n|\r|\n|\Z)")
# Front matter is written by hand; a longer block is a document that happens to begin with a rule.
_MAX_BYTES = 65536
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """``byte_end`` is the offset after the closing line, 0 when there is none; ``error`` says why it is broken."""

    byte_end: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    error: str = ""


class _UnreadableError(ValueError):
    """The YAML is well formed and still no metadata."""


def read_front_matter(data: bytes) -> FrontMatter:
    """The front matter at the start of ``data`` (UTF-8), as JSON-able values; dates become ISO 8601 strings.

    What is not a mapping is no front matter but a thematic break and text. YAML that cannot be read
    is not front matter either, and ``error`` says where it breaks. Aliases are refused, for they can
    blow a few bytes up to any size.
    """
    opening = _OPENING.match(data)
    if opening is None:
        return FrontMatter()
    closing = _CLOSING.search(data, opening.end(), opening.end() + _MAX_BYTES)
    # A match at the search limit may be a longer line that the limit cut.
    if closing is None or (closing.end() == opening.end() + _MAX_BYTES and closing.end() != len(data)):
        return FrontMatter()
    try:
        text = data[opening.end() : closing.start()].decode("utf-8")
        _refuse_aliases(text)
        value = yaml.safe_load(text)
        if value is not None and not isinstance(value, dict):
            return FrontMatter()
        return FrontMatter(closing.end(), _jsonable(value or {}))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 2}: " if mark is not None else ""  # 1-based, after the opening line
        return FrontMatter(error=f"{line}{error.problem or error.context or 'not YAML'}")
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        return FrontMatter(error=str(error).split("\n", 1)[0] or type(error).__name__)


def _refuse_aliases(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise _UnreadableError("aliases (*name) are not read in front matter")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                raise _UnreadableError(f"nested deeper than {_MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _jsonable(value: Any) -> Any:
    plain = value
    if isinstance(value, dict):
        plain = {str(key): _jsonable(item) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        plain = [_jsonable(item) for item in value]
    elif isinstance(value, (set, frozenset)):
        plain = sorted(str(item) for item in value)
    elif isinstance(value, (datetime.datetime, datetime.date)):
        plain = value.isoformat()
    elif isinstance(value, bytes):
        plain = base64.b64encode(value).decode("ascii")
    elif isinstance(value, float) and not math.isfinite(value):
        plain = str(value)
    return plain
