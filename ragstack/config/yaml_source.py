"""Reads a config file into plain values, and remembers the line and column of every key and value.

The values follow the core schema of YAML 1.2, where ``on``, ``no`` and ``off`` are strings. Anchors,
aliases, merge keys, tags and several documents in one file are refused: a config says each thing
once, where it is read. Every mistake is collected, none is raised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import yaml

from ragstack.config.interpolation import expand
from ragstack.errors import ConfigProblem

KeyPath: TypeAlias = tuple[str | int, ...]

MAX_FILE_BYTES = 256 * 1024
MAX_DEPTH = 40
MAX_NUMBER_CHARACTERS = 40

_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_HEX_OR_OCTAL = re.compile(r"0x[0-9a-fA-F]+\Z|0o[0-7]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key and its value are; lines and columns (in characters) are 1-based.

    List items have no key: their key is where the value is. ``expression`` is the text as written
    when it held ``${...}``, else None.
    """

    key_line: int
    key_column: int
    line: int
    column: int
    expression: str | None = None


@dataclass
class YamlSource:
    """What a file holds: its top-level mapping, where each key and value is, and what is wrong with it.

    ``broken`` are the paths of which something was reported: their values are not to be judged again.
    """

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[ConfigProblem] = field(default_factory=list)
    broken: set[KeyPath] = field(default_factory=set)

    def report(self, path: KeyPath, line: int, column: int, message: str) -> None:
        """Note one mistake at a place."""
        self.problems.append(ConfigProblem(self.file, line, column, dotted(path), message))
        self.broken.add(path)


def dotted(path: KeyPath) -> str:
    """``("sources", "paths", 0)`` as ``sources.paths[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_yaml(data: bytes, file: str, env: Mapping[str, str]) -> YamlSource:
    """Read the bytes of one config file; ``${VAR}`` in values is taken from ``env``."""
    source = YamlSource(file)
    text = _decode(data, source)
    if text is None or not _is_plain_document(text, source):
        return source
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        return source
    if isinstance(node, yaml.ScalarNode) and _NULL.match(node.value) and node.style is None:
        return source
    if not isinstance(node, yaml.MappingNode):
        line, column = _position(node)
        source.report((), line, column, f"expected 'key: value' lines at the top level, got {_kind(node)}")
        return source
    source.values = _mapping(node, (), source, env)
    return source


def _decode(data: bytes, source: YamlSource) -> str | None:
    if len(data) > MAX_FILE_BYTES:
        source.report((), 0, 0, f"the file is larger than {MAX_FILE_BYTES} bytes. Is it a config?")
        return None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        source.report((), 0, 0, "the file is UTF-16; expected UTF-8. Save it as UTF-8.")
        return None
    body = data[3:] if data.startswith(b"\xef\xbb\xbf") else data
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        before = body[: error.start].decode("utf-8")
        line, column = _line_and_column(before)
        byte = body[error.start]
        source.report((), line, column, f"byte 0x{byte:02x} is not UTF-8; expected a UTF-8 file. Save it as UTF-8.")
        return None


def _line_and_column(before: str) -> tuple[int, int]:
    """Line and column (1-based) of the character that follows ``before``, with YAML's line breaks."""
    lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", before)
    return len(lines), len(lines[-1]) + 1


def _is_plain_document(text: str, source: YamlSource) -> bool:
    """Check syntax, depth and unsupported features by events, before any recursive step sees the file."""
    depth, documents = 0, 0
    line, column = 1, 1
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if event.start_mark is not None:
                line, column = event.start_mark.line + 1, event.start_mark.column + 1
            message = _unsupported(event)
            if message:
                source.report((), line, column, message)
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                source.report((), line, column, "a second document starts here; a config is one document")
                return False
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                source.report((), line, column, f"nested deeper than {MAX_DEPTH} levels")
                return False
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark is not None:
            line, column = mark.line + 1, mark.column + 1
        source.report((), line, column, _syntax_message(error))
    except yaml.reader.ReaderError as error:
        line, column = _line_and_column(text[: error.position])
        code = error.character if isinstance(error.character, int) else ord(error.character)
        source.report((), line, column, f"the character U+{code:04X} may not stand in YAML; write it as an escape")
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML lets a bare ValueError out for an escape beyond Unicode.
        source.report((), line, column, f"not YAML after this place: {error}")
    return not source.problems


def _unsupported(event: yaml.Event) -> str:
    if isinstance(event, yaml.AliasEvent):
        return f"aliases (*{event.anchor}) are not supported; write the value out"
    if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
        return f"anchors (&{event.anchor}) are not supported; write the value out"
    tag = getattr(event, "tag", None)
    return "" if tag is None else f"tags ({tag}) are not supported; quote the value to make it a string"


def _syntax_message(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "it cannot be read"
    if "cannot start any token" in problem and "\\t" in problem:
        return "a tab stands where YAML wants spaces; indent with spaces"
    context = f" {error.context}" if error.context else ""
    return f"not YAML:{context}{',' if context else ''} {problem}"


def _position(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else f"the text {shorten(node.value)}"


def shorten(value: str, limit: int = 60) -> str:
    """``value`` in double quotes on one line, cut in the middle when it is long."""
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value)
    if len(printable) > limit:
        printable = f"{printable[: limit // 2]}…{printable[-limit // 3 :]}"
    return f'"{printable}"'


def _mapping(node: yaml.MappingNode, path: KeyPath, source: YamlSource, env: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key_line, key_column = _position(key_node)
        if not isinstance(key_node, yaml.ScalarNode):
            source.report(path, key_line, key_column, f"a key must be a word, got {_kind(key_node)}")
            continue
        key = key_node.value
        if key == "<<" and key_node.style is None:
            source.report(path, key_line, key_column, "merge keys (<<) are not supported; write the keys out")
            continue
        if _LONE_SURROGATE.search(key):
            source.report(path, key_line, key_column, f"the key {shorten(key)} holds half of a surrogate pair")
            continue
        here = (*path, key)
        if key in values:
            first = source.places[here]
            source.report(here, key_line, key_column, f"the key is given twice; first on line {first.key_line}")
            continue
        line, column = _position(value_node)
        source.places[here] = Place(key_line, key_column, line, column)
        values[key] = _value(value_node, here, source, env)
    return values


def _value(node: Any, path: KeyPath, source: YamlSource, env: Mapping[str, str]) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, source, env)
    if isinstance(node, yaml.SequenceNode):
        items: list[Any] = []
        for index, item in enumerate(node.value):
            line, column = _position(item)
            here = (*path, index)
            source.places[here] = Place(line, column, line, column)
            items.append(_value(item, here, source, env))
        return items
    return _scalar(node, path, source, env)


def _scalar(node: yaml.ScalarNode, path: KeyPath, source: YamlSource, env: Mapping[str, str]) -> Any:
    text: str = node.value
    line, column = _position(node)
    if "$" in text:
        expanded = expand(text, env)
        for message in expanded.problems:
            source.report(path, line, column, message)
        if expanded.has_variables:
            source.places[path] = replace(source.places[path], expression=text)
        text = expanded.text
    if _LONE_SURROGATE.search(text):
        source.report(path, line, column, f"the text {shorten(text)} holds half of a surrogate pair or is not UTF-8")
        return ""
    return _plain_scalar(text, path, line, column, source) if node.style is None else text


def _plain_scalar(text: str, path: KeyPath, line: int, column: int, source: YamlSource) -> Any:
    """An unquoted scalar by the core schema of YAML 1.2."""
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text[0] in "tT"
    if not (_INTEGER.match(text) or _HEX_OR_OCTAL.match(text) or _FLOAT.match(text)):
        return float(text.replace(".", "", 1)) if _INFINITE.match(text) else text
    if len(text) > MAX_NUMBER_CHARACTERS:
        source.report(path, line, column, f"the number {shorten(text)} is too long; quote it to make it a string")
        return text
    if _INTEGER.match(text):
        digits = text.lstrip("+-")
        if len(digits) > 1 and digits[0] == "0":
            message = f"{text} starts with 0, which some YAML readers take for octal; write {int(text)}, or quote it"
            source.report(path, line, column, message)
        return int(text)
    return int(text, 0) if _HEX_OR_OCTAL.match(text) else float(text)
