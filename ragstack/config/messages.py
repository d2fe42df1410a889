"""Turns pydantic's validation errors into sentences about the config file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from ragstack.config.blocks import all_keys, block_at, block_value
from ragstack.config.models import PipelineConfig
from ragstack.config.third_party import ThirdPartyConfig
from ragstack.config.yaml_source import KeyPath, dotted, shorten

_EXPECTED = {
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer that is not so large",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a string",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping (indented 'key: value' lines)",
    "mapping_type": "a mapping (indented 'key: value' lines)",
    "model_type": "a mapping (indented 'key: value' lines)",
    "model_attributes_type": "a mapping (indented 'key: value' lines)",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_FILTER_PLACE = re.compile(r"filter((?:\.\w+|\[\d+\])*): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake: where, what, whether the key itself is meant, and which values it makes unusable."""

    path: KeyPath
    message: str
    about_key: bool = False
    spoils: tuple[KeyPath, ...] = ()


def mistake_from(error: ErrorDetails, values: Mapping[str, Any]) -> Mistake:
    """Translate one pydantic error about a file with these ``values``."""
    kind, context = error["type"], error.get("ctx", {})
    path = _key_path(error["loc"], values)
    if kind == "union_tag_invalid":
        path = (*path, "type")
    if kind == "value_error" and path[-1] == "[key]":
        return Mistake(path[:-1], str(context["error"]), about_key=True, spoils=(path[:-1],))
    if kind == "extra_forbidden":
        return Mistake(path, _unknown_key(path, values), about_key=True, spoils=(path,))
    if kind == "missing":
        return _missing(path, values)
    if kind == "contradiction":
        return _contradiction(path, [(*path, *key) for key in context["paths"]], context["message"], values)
    if path == ("retrieval", "filter") and kind == "value_error":
        return _filter_mistake(str(context["error"]))
    return Mistake(path, _sentence(kind, context, error), spoils=(path,))


def _contradiction(block: KeyPath, paths: Sequence[KeyPath], message: str, values: Mapping[str, Any]) -> Mistake:
    given = [path for path in paths if _is_given(path, values)]
    unset = dotted(paths[0][len(block) :]) if given and given[0] != paths[0] else None
    advice = f"; {unset} is not given, so its default holds: set it too" if unset else ""
    return Mistake(given[0] if given else block, message + advice, spoils=tuple(paths))


def _is_given(path: KeyPath, values: Mapping[str, Any]) -> bool:
    block = block_value(values, path[:-1])
    return isinstance(block, dict) and path[-1] in block


def _key_path(location: Sequence[str | int], values: Mapping[str, Any]) -> KeyPath:
    """The path in the file: pydantic's location without the names it gives to the members of a union."""
    path = tuple(location)
    if path and path[0] in PipelineConfig.FAMILIES:
        path = path[:1] + path[2:]
    elif path[:2] == ("sources", "paths"):
        return path[:3] + path[4:]
    kept: KeyPath = ()
    for part in path[:-1]:
        block = block_value(values, kept)
        # The members of a union inside a block are chosen by `type`; their names are no keys of the file.
        if isinstance(part, int) or not isinstance(block, dict) or part in block:
            kept = (*kept, part)
    return (*kept, *path[-1:])


def _sentence(kind: str, context: Mapping[str, Any], error: ErrorDetails) -> str:
    value = context.get("tag", error["input"])
    got = found(value)
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {got}{_quoting_advice(kind, error['input'])}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"expected {words} {_number(context[key])}, got {got}"
    if kind in ("literal_error", "union_tag_invalid"):
        expected = context.get("expected_tags") or context["expected"]
        return f"expected {expected}, got {got}{_nearest(value, expected)}"
    if kind == "string_too_short":
        return f"expected a string that is not empty, got {got}"
    if kind == "value_error":
        return str(context["error"])
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}, got {got}"


def found(value: Any) -> str:
    """A value as the user wrote it, short, with its type where that is the point."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return shorten(value)
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, (list, tuple)) else str(value)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _quoting_advice(kind: str, value: Any) -> str:
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        return "; put it in quotes"
    if kind in ("bool_type", "bool_parsing") and str(value).lower() in ("yes", "no", "on", "off", "y", "n"):
        return "; write true or false"
    if isinstance(value, str) and re.fullmatch(r"[-+]?[\d_]+(\.\d+)?|true|false", value, re.ASCII):
        return "; write it without quotes and underscores"
    return ""


def _nearest(value: Any, expected: str) -> str:
    return did_you_mean(value, re.findall(r"'([^']*)'", expected)) if isinstance(value, str) else ""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """``; did you mean 'x'?`` for the nearest of the known words, or nothing."""
    near = difflib.get_close_matches(word[:100].lower().replace("-", "_"), known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _unknown_key(path: KeyPath, values: Mapping[str, Any]) -> str:
    key = str(path[-1])
    block = block_at(path[:-1], values)
    known = list(block.model_fields) if block is not None else []
    where = dotted_block(path[:-1])
    advice = did_you_mean(key, known)
    if not advice and block is ThirdPartyConfig:
        advice = "; settings of a third party's type go under 'settings'."
    if not advice:
        elsewhere = [place for name, place in all_keys() if name == key and name != "type"]
        advice = f"; did you mean '{elsewhere[0]}'?" if elsewhere else ""
    listing = f" Known here: {', '.join(known)}." if known else " This block has no keys yet."
    return f"unknown key in {where}{advice or '.'}{listing}"


def dotted_block(path: KeyPath) -> str:
    """How a message names the block at ``path``."""
    return f"the block {dotted(path)!r}" if path else "the config"


def _missing(path: KeyPath, values: Mapping[str, Any]) -> Mistake:
    block = block_at(path[:-1], values)
    info = block.model_fields.get(str(path[-1])) if block is not None else None
    meaning = f": {info.description}" if info is not None and info.description else "."
    # With the key itself among what is spoilt, a key that was taken out as wrong is not called missing.
    spoils = (path[:-1], path)
    return Mistake(path[:-1], f"the key {path[-1]!r} is missing{meaning}", about_key=True, spoils=spoils)


def _filter_mistake(text: str) -> Mistake:
    """A message of the filter parser starts with the place inside the filter; make that a key path."""
    path: KeyPath = ("retrieval", "filter")
    match = _FILTER_PLACE.fullmatch(text)
    if match is None:
        return Mistake(path, text, spoils=(path,))
    inside = [int(part[1:-1]) if part[0] == "[" else part[1:] for part in re.findall(r"\.\w+|\[\d+\]", match[1])]
    return Mistake((*path, *inside), match[2], spoils=(path,))
