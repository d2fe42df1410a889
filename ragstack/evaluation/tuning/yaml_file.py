"""Sets keys in the text of a config file; every other byte, comments included, stays as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ragstack.config.loader import LoadedConfig, parse_config
from ragstack.errors import InputError
from ragstack.evaluation.tuning.space import with_values

_INDENT = "  "


def tuned_text(loaded: LoadedConfig, original: str, values: Mapping[str, Any], comment: Sequence[str]) -> str:
    """``original`` (the file of ``loaded``, or '') with dotted keys set, below a comment.

    Raises InputError when the text does not load as the config with these values: better no file than a wrong one.
    """
    line_end = "\r\n" if "\r\n" in original else "\n"
    mark = "\ufeff" if original.startswith("\ufeff") else ""
    text = original.removeprefix("\ufeff").replace("\r\n", "\n") or "version: 1\n"
    for key, value in values.items():
        text = set_key(text, key.split("."), value)
    head = "".join(f"# {line}\n" for line in comment)
    text = mark + (head + text).replace("\n", line_end)
    _require_equal(loaded, text, values)
    return text


def set_key(text: str, path: Sequence[str], value: Any) -> str:
    """The YAML text with one key set to a number, string, bool or null. Blocks that are missing are made."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return _with_line_end(text) + _block(path, value, 0)
    mapping, depth = root, 0
    while True:
        node = _child(mapping, path[depth])
        if node is None:
            return _added(text, mapping, path[depth:], value)
        key_node, value_node = node
        depth += 1
        if depth == len(path):
            return _replaced(text, key_node, value_node, _scalar(value))
        if not isinstance(value_node, yaml.MappingNode):
            # "retrieval:" with all its lines commented out.
            indent = key_node.start_mark.column // len(_INDENT) + 1
            return _replaced(text, key_node, value_node, "\n" + _block(path[depth:], value, indent).rstrip("\n"))
        mapping = value_node


def _child(mapping: yaml.MappingNode, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    return next(((key, value) for key, value in mapping.value if key.value == name), None)


def _replaced(text: str, key: yaml.Node, value: yaml.Node, new: str) -> str:
    start, end = value.start_mark.index, value.end_mark.index
    if end == start:  # an empty value: its place is said to be where the next token is
        start = end = text.index(":", key.end_mark.index) + 1
    space = "" if new.startswith("\n") or text[start - 1 : start] in (" ", "\n") else " "
    return text[:start] + space + new + text[end:]


def _added(text: str, mapping: yaml.MappingNode, path: Sequence[str], value: Any) -> str:
    if mapping.flow_style:
        end = mapping.end_mark.index - 1
        inner = text[mapping.start_mark.index + 1 : end].rstrip()
        comma = ", " if mapping.value and not inner.endswith(",") else " " if inner.endswith(",") else ""
        at = mapping.start_mark.index + 1 + len(inner)
        return text[:at] + comma + _flow(path, value) + text[at:]
    column = mapping.start_mark.column
    last_key, last_value = mapping.value[-1]
    end = max(last_key.end_mark.index + 1, _content_end(last_value))
    line_end = text.find("\n", end)
    at = len(text) if line_end < 0 else line_end + 1
    block = "".join(f"{' ' * column}{line}\n" for line in _block(path, value, 0).splitlines())
    return _with_line_end(text[:at]) + block + text[at:]


def _content_end(node: yaml.Node) -> int:
    """Where the last thing of a node ends; a block's own end mark is at the next token, below comments."""
    if isinstance(node, (yaml.MappingNode, yaml.SequenceNode)) and not node.flow_style and node.value:
        last = node.value[-1]
        if isinstance(last, tuple):
            return max(int(last[0].end_mark.index) + 1, _content_end(last[1]))
        return _content_end(last)
    if isinstance(node, yaml.ScalarNode) and node.start_mark.index == node.end_mark.index:
        return 0
    end = int(node.end_mark.index)
    # A literal or folded scalar ends at the beginning of the line below it.
    return end - 1 if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">") else end


def _block(path: Sequence[str], value: Any, indent: int) -> str:
    lines = [f"{_INDENT * (indent + i)}{name}:" for i, name in enumerate(path)]
    return "\n".join([*lines[:-1], f"{lines[-1]} {_scalar(value)}"]) + "\n"


def _flow(path: Sequence[str], value: Any) -> str:
    head, *rest = path
    return f"{head}: {{{_flow(rest, value)}}}" if rest else f"{head}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    return json.dumps(value)


def _with_line_end(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _require_equal(loaded: LoadedConfig, text: str, values: Mapping[str, Any]) -> None:
    import os  # noqa: PLC0415 - the variables that the file itself was read with

    found = parse_config(text.encode(), "the tuned config", os.environ).config
    if found != with_values(loaded, values).config:
        raise InputError(
            "the tuned values could not be put into the config file without changing others.",
            hint=f"Set them by hand: {', '.join(f'{key}: {value}' for key, value in values.items())}.",
        )
