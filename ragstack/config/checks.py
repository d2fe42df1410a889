"""Checks of a config that one block cannot make alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ragstack.config.blocks import block_value, builtin_types
from ragstack.config.embedders import RemoteEmbedderConfig
from ragstack.config.messages import Mistake, did_you_mean, found
from ragstack.config.models import PipelineConfig
from ragstack.config.rerankers import STAGE_TYPES, CascadeConfig, LateInteractionConfig
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


def token_vector_mistakes(config: PipelineConfig, values: Mapping[str, Any]) -> Iterator[Mistake]:
    """Rerankers that compare token vectors, beside an embedder that has none. ``values`` are those of the file."""
    if not isinstance(config.embedder, RemoteEmbedderConfig):
        return
    message = "late_interaction compares token vectors, which an embedder of type remote does not give"
    advice = "none, remote or cross_encoder would do"
    if isinstance(config.reranker, LateInteractionConfig):
        is_given = block_value(values, ("reranker",)) is not None
        path: KeyPath = ("reranker", "type") if is_given else ("embedder", "type")
        default = "" if is_given else "the reranker is not given, and its default "
        yield Mistake(path, f"{default}{message}; set reranker.type: {advice}")
    elif isinstance(config.reranker, CascadeConfig):
        for number, stage in enumerate(config.reranker.stages):
            if isinstance(stage.reranker, LateInteractionConfig):
                yield Mistake(
                    ("reranker", "stages", number, "reranker", "type"), f"{message}; remote or cross_encoder would do"
                )


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


def field_weight_mistakes(config: PipelineConfig) -> Iterator[Mistake]:
    """Weights of fields that are not declared."""
    bm25 = getattr(config.embedder, "bm25", None)
    for name in getattr(bm25, "field_weights", {}):
        if name not in config.fields:
            advice = did_you_mean(name, list(config.fields)) or "; declare it under 'fields'."
            path = ("embedder", "bm25", "field_weights", name)
            yield Mistake(path, f"the field {found(name)} is not declared{advice}", about_key=True)


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
