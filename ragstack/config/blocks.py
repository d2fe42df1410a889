"""What the config's models say about themselves: which keys each block has, and which types are built in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, get_args, get_origin

from ragstack.config.block import ConfigBlock
from ragstack.config.models import PipelineConfig
from ragstack.config.third_party import ThirdPartyConfig
from ragstack.config.yaml_source import KeyPath
from ragstack.registry import registered_names


def blocks_in(annotation: Any) -> list[type[ConfigBlock]]:
    """The block classes that a value of this annotation may be, in order."""
    if isinstance(annotation, type) and issubclass(annotation, ConfigBlock):
        return [annotation]
    return [block for argument in get_args(annotation) for block in blocks_in(argument)]


def types_of(block: type[ConfigBlock]) -> tuple[str, ...]:
    """The values of ``type`` that choose this block; none for a block that is not chosen by type."""
    info = block.model_fields.get("type")
    return get_args(info.annotation) if info is not None and get_origin(info.annotation) is Literal else ()


def block_for(candidates: list[type[ConfigBlock]], value: Any) -> type[ConfigBlock]:
    """The candidate that ``value`` is read as: by its ``type``, the first one by default."""
    name = value.get("type", None) if isinstance(value, dict) else None
    if name is None or len(candidates) == 1:
        return candidates[0]
    return next((block for block in candidates if name in types_of(block)), ThirdPartyConfig)


def block_at(path: KeyPath, values: Any) -> type[ConfigBlock] | None:
    """The block class at ``path`` in a file with these values; None where the config has no block."""
    block: type[ConfigBlock] | None = PipelineConfig
    candidates: list[type[ConfigBlock]] = []
    for depth, part in enumerate(path, start=1):
        value = block_value(values, path[:depth])
        if block is not None:
            info = block.model_fields.get(str(part))
            candidates = blocks_in(info.annotation) if info is not None else []
        # Below a list or a mapping of blocks (sources.paths, fields) the block is one level further down.
        is_container = isinstance(value, list) or (block is PipelineConfig and part == "fields")
        block = None if is_container or not candidates else block_for(candidates, value)
    return block


def block_value(values: Any, path: KeyPath) -> Any:
    """The value at ``path``, or None when there is none."""
    for part in path:
        if isinstance(values, dict):
            values = values.get(part)
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            return None
    return values


def all_keys(block: type[ConfigBlock] = PipelineConfig, prefix: str = "") -> Iterator[tuple[str, str]]:
    """``(key, dotted path)`` of every key of the config, once per place."""
    for name, info in block.model_fields.items():
        yield name, prefix + name
        for inner in blocks_in(info.annotation):
            if inner is not ThirdPartyConfig:
                yield from all_keys(inner, f"{prefix}{name}.")


@cache
def builtin_types(key: str) -> tuple[str, ...]:
    """The built-in values of ``type`` in the top-level block ``key``."""
    blocks = blocks_in(PipelineConfig.model_fields[key].annotation)
    return tuple(name for block in blocks for name in types_of(block))


def installed_types(family: str) -> tuple[str, ...]:
    """The names registered in a family: built in, added to its registry, or an installed package's entry points."""
    return registered_names(family)
