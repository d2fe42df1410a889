"""Checks of a config that one block cannot make alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ragstack.config.blocks import block_value, builtin_types
from ragstack.config.messages import Mistake, did_you_mean, found
from ragstack.config.models import PipelineConfig
from ragstack.config.rerankers import STAGE_TYPES, CascadeConfig
from ragstack.config.yaml_source import KeyPath
from ragstack.errors import FilterError
from ragstack.filters import COMPARISONS, Condition, FieldType, Filter, Not, bind_filter


def type_mistakes(values: Mapping[str, Any], installed: Callable[[str], Sequence[str]]) -> Iterator[Mistake]:
    """A ``type:`` that is neither built in nor the name of an installed entry point."""
    for path, family, built_in in _typed_blocks(values):
        block = block_value(values, path)
        if not isinstance(block, dict) or "type" not in block or block["type"] in built_in:
            continue
        everywhere = builtin_types(str(path[0]))
        name, third_party = block["type"], [name for name in installed(family) if name not in everywhere]
        known = (*built_in, *third_party)
        if not isinstance(name, str):
            message = f"expected the name of a type, got {found(name)}. Known: {', '.join(known)}."
        elif name not in third_party:
            message = f"unknown {path[-1]} {found(name)}{did_you_mean(name, known) or '.'} Known: {', '.join(known)}."
        else:
            continue
        # Which keys the block may have depends on its type, so the rest of it can't be judged.
        yield Mistake((*path, "type"), message, spoils=(path,))


def _typed_blocks(values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str, tuple[str, ...]]]:
    """Where a third party's type may be named: the block's path, its family, and the types that are built in there."""
    for key, family in PipelineConfig.FAMILIES.items():
        yield (key,), family, builtin_types(key)
    stages = block_value(values, ("reranker", "stages"))
    for index in range(len(stages) if isinstance(stages, list) else 0):
        yield ("reranker", "stages", index, "reranker"), "rerankers", STAGE_TYPES


def cascade_mistakes(config: PipelineConfig) -> Iterator[Mistake]:
    """Stages of a cascade that do not fit how many candidates are reranked."""
    if not isinstance(config.reranker, CascadeConfig):
        return
    total = config.retrieval.rerank_k
    first, second = (stage.rerank_k for stage in config.reranker.stages[:2])
    if first is not None and first != total:
        message = f"rerank_k ({first}) of the first stage must be retrieval.rerank_k ({total}), or left out"
        yield Mistake(("reranker", "stages", 0, "rerank_k"), message)
    elif second is not None and second >= total:
        message = f"rerank_k ({second}) of the second stage must be less than retrieval.rerank_k ({total})"
        yield Mistake(("reranker", "stages", 1, "rerank_k"), message)


def expansion_mistakes(config: PipelineConfig) -> Iterator[Mistake]:
    """Passages that are to grow, but are as large as they may be from the start."""
    retrieval, max_tokens = config.retrieval, getattr(config.chunker, "max_tokens", 0)
    if retrieval.expand != "none" and retrieval.expand_tokens <= max_tokens:
        yield Mistake(
            ("retrieval", "expand_tokens"),
            f"expand_tokens ({retrieval.expand_tokens}) must be larger than chunker.max_tokens ({max_tokens}) for"
            f" expand: {retrieval.expand} to add anything",
        )


def filter_mistakes(filter: Filter, fields: Mapping[str, FieldType], path: KeyPath) -> Iterator[Mistake]:
    """Conditions on undeclared fields, and values that are not of the field's type."""
    if isinstance(filter, Condition):
        yield from _condition_mistakes(filter, fields, path)
    elif isinstance(filter, Not):
        yield from filter_mistakes(filter.part, fields, (*path, "not"))
    else:
        combiner = type(filter).__name__.lower()
        for index, part in enumerate(filter.parts):
            yield from filter_mistakes(part, fields, (*path, combiner, index))


def _condition_mistakes(test: Condition, fields: Mapping[str, FieldType], path: KeyPath) -> Iterator[Mistake]:
    try:
        bind_filter(test, fields)
    except FilterError as error:
        if test.field not in fields:
            advice = did_you_mean(test.field, list(fields)) or "; declare it under 'fields'."
            yield Mistake((*path, "field"), f"the field {found(test.field)} is not declared{advice}")
        else:
            untyped = test.op in COMPARISONS and fields[test.field] in ("keyword", "bool")
            yield Mistake((*path, "op" if untyped else "value"), str(error))
