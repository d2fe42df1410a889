"""Prints a config: as YAML that loads back equal, and as its JSON Schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ragstack.config.blocks import builtin_types
from ragstack.config.interpolation import escape
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.config.yaml_source import KeyPath

SCHEMA_ID = "urn:ragstack:config:1"
MASK = "**********"
_SECRET_KEY = re.compile(r"(?i)(?:^|_)(?:api_?key|key|token|secret|password|passwd|credentials?)$")
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*\Z")
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def effective_values(loaded: LoadedConfig) -> dict[str, Any]:
    """Every value in effect, as JSON types. Secrets in a third party's ``settings`` are masked."""
    values: dict[str, Any] = _masked(loaded.config.model_dump(mode="json"), (), loaded)
    return values


def to_yaml(loaded: LoadedConfig) -> str:
    """The config in effect as YAML; a comment says where the file sets a value, the others are defaults.

    Loading the text gives an equal config, save for masked secrets; a setting written as ``${VAR}``
    in ``settings`` is printed so, whatever VAR holds.
    """
    head = f"# The config in effect: {_printable(loaded.origin)}. Values without a line number are defaults.\n"
    return head + "\n".join(_lines(effective_values(loaded), (), loaded)) + "\n"


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the config file."""
    schema = PipelineConfig.model_json_schema()
    for key in PipelineConfig.FAMILIES:
        _tell_apart(schema["properties"][key], builtin_types(key))
    _tell_apart(schema["$defs"]["StageConfig"]["properties"]["reranker"], builtin_types("reranker"))
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "ragstack pipeline config",
        "description": "One pipeline: what is indexed, how it is searched, how an answer is made.",
    }
    return head | {key: value for key, value in schema.items() if key not in head}


def _tell_apart(block: dict[str, Any], built_in: Sequence[str]) -> None:
    # A third party's `type` may be any name but a built-in one; without this, two members would match.
    block["oneOf"] = [
        {"allOf": [member, {"properties": {"type": {"not": {"enum": list(built_in)}}}}]}
        if member["$ref"].endswith("/ThirdPartyConfig")
        else member
        for member in block["oneOf"]
    ]


def schema_text() -> str:
    """The JSON Schema as text, ending in a newline."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _is_setting(path: KeyPath) -> bool:
    at = 4 if path[:2] == ("reranker", "stages") else 1
    return len(path) > at + 1 and path[0] in PipelineConfig.FAMILIES and path[at] == "settings"


def _masked(value: Any, path: KeyPath, loaded: LoadedConfig) -> Any:
    if isinstance(value, dict):
        return {key: _masked(item, (*path, key), loaded) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, (*path, index), loaded) for index, item in enumerate(value)]
    if not _is_setting(path) or value is None:
        return value
    place = loaded.places.get(path)
    if place is not None and place.expression is not None:
        return _Expression(place.expression)
    is_secret = any(isinstance(part, str) and _SECRET_KEY.search(part) for part in path[path.index("settings") + 1 :])
    return MASK if is_secret and isinstance(value, (str, int)) else value


class _Expression(str):
    """A value shown as it is written, with its ``${VAR}``."""

    __slots__ = ()


def _lines(values: dict[str, Any], path: KeyPath, loaded: LoadedConfig) -> Iterator[str]:
    indent = "  " * len(path)
    for key, value in values.items():
        here = (*path, key)
        place = loaded.places.get(here)
        comment = f"  # line {place.key_line}" if place is not None else ""
        name = _scalar(key, quote_only=True)
        # Lists are in flow style: one line for one value.
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from _lines(value, here, loaded)
        else:
            yield f"{indent}{name}: {_flow(value)}{comment}"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key, quote_only=True)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return _scalar(value)


def _scalar(value: Any, *, quote_only: bool = False) -> str:
    """A scalar in YAML; a string that is not plainly a word is quoted. Keys (``quote_only``) are never expanded."""
    if not isinstance(value, str):
        # YAML 1.1 readers take 1e+300 for a string, and 1.0e+300 for a number.
        return re.sub(r"\A(-?\d+)e", r"\1.0e", json.dumps(value))
    text = value if quote_only or isinstance(value, _Expression) else escape(value)
    if _PLAIN.match(text) and text.lower() not in _RESERVED:
        return text
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode("ascii") for c in text)
