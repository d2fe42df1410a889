"""Loads the pipeline config: a file, or the built-in default; every mistake in it at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ragstack.config.block import ConfigBlock
from ragstack.config.blocks import block_for, block_value, blocks_in, installed_types
from ragstack.config.checks import (
    cascade_mistakes,
    expansion_mistakes,
    field_weight_mistakes,
    filter_mistakes,
    token_vector_mistakes,
    type_mistakes,
)
from ragstack.config.messages import Mistake, mistake_from
from ragstack.config.models import PipelineConfig
from ragstack.config.yaml_source import MAX_FILE_BYTES, KeyPath, Place, YamlSource, dotted, read_yaml
from ragstack.errors import ConfigError, ConfigProblem

DEFAULT_FILE = "ragstack.yaml"
DEFAULT_ORIGIN = "built-in default"
_HINT = "'ragstack config schema' prints every key with its type; docs/config.md explains them."


@dataclass(frozen=True)
class LoadedConfig:
    """A config, and where each part of it was written.

    ``origin`` is the file as the user named it, or ``built-in default``; ``path`` is None for the
    latter. ``places`` has the line and column of every key that the file gives.
    """

    config: PipelineConfig
    origin: str = DEFAULT_ORIGIN
    path: Path | None = None
    places: Mapping[KeyPath, Place] = field(default_factory=dict)

    def problem(self, key_path: str, message: str) -> ConfigProblem:
        """A mistake at a dotted key path (``chunker.max_tokens``), for checks made after loading.

        It points at the key, or at the nearest block around it that the file gives, or at the file
        as a whole when the values are defaults.
        """
        known = {dotted(path): place for path, place in self.places.items()}
        nearest = key_path
        while nearest and nearest not in known:
            nearest = re.sub(r"(?:\.|^)[^.\[\]]*\Z|\[\d+\]\Z", "", nearest)
        line, column = _position(known.get(nearest), about_key=nearest != key_path)
        return ConfigProblem(self.origin, line, column, key_path, message)

    def error(self, key_path: str, message: str, *, hint: str = "") -> ConfigError:
        """A ConfigError of one problem, see :meth:`problem`."""
        return ConfigError([self.problem(key_path, message)], hint=hint)


def load_config(path: Path | None, env: Mapping[str, str], *, directory: Path | None = None) -> LoadedConfig:
    """Load ``path``; without it ``ragstack.yaml`` in ``directory`` (the working directory); else the default.

    ``env`` gives the values of ``${VAR}``. Raises ConfigError with every problem of the file, in file
    order; a file that is named and cannot be read is one problem.
    """
    if path is None:
        found = (directory or Path()) / DEFAULT_FILE
        # A dangling link is a mistake to report, not a reason to take the default.
        if not os.path.lexists(found):
            return LoadedConfig(PipelineConfig())
        path = found
    return parse_config(_read(path), str(path), env, path=path)


def parse_config(
    data: bytes,
    origin: str,
    env: Mapping[str, str],
    *,
    path: Path | None = None,
    installed: Callable[[str], Sequence[str]] = installed_types,
) -> LoadedConfig:
    """Parse the bytes of a config file; ``origin`` is what messages call it.

    ``installed`` gives the names that packages add to a family. Raises ConfigError.
    """
    source = read_yaml(data, origin, env)
    if source.problems and not source.values:
        raise ConfigError(source.problems, hint=_HINT)
    config = _validated(source, installed)
    if config is None or source.problems:
        raise ConfigError(_in_file_order(source.problems), hint=_HINT)
    return LoadedConfig(config, origin, path, source.places)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", error)
        problem = ConfigProblem(str(path), 0, 0, "", f"the config cannot be read: {reason}")
        raise ConfigError([problem], hint="Check the path, or write a config with: ragstack init") from error


def _validated(source: YamlSource, installed: Callable[[str], Sequence[str]]) -> PipelineConfig | None:
    """Check the values. What is found wrong is taken out and the rest checked again, so that all mistakes show."""
    values = _without_empty_blocks(source.values, PipelineConfig)
    spoiled = {path for path in source.broken if path}
    spoiled.update(_remove(values, spoiled))
    _note(source, type_mistakes(values, installed), values, spoiled)
    # Each round takes out at least one value; the bound is against a mistake that spoils nothing.
    for _ in range(100):
        outcome = _validate_once(values)
        if isinstance(outcome, PipelineConfig):
            _note(source, _filter_mistakes(outcome, values, spoiled), values, spoiled)
            _note(source, expansion_mistakes(outcome), values, spoiled)
            if not _doubtful_depths(spoiled):
                _note(source, cascade_mistakes(outcome), values, spoiled)
            if not any(path[:1] in (("embedder",), ("reranker",)) for path in spoiled):
                _note(source, token_vector_mistakes(outcome, values), values, spoiled)
            if not any(path[0] == "fields" for path in spoiled):
                _note(source, field_weight_mistakes(outcome), values, spoiled)
            return outcome
        _note(source, outcome, values, spoiled)
    return None


def _doubtful_depths(spoiled: set[KeyPath]) -> bool:
    """True when what decides how many candidates each reranker reads was found wrong already."""
    deciding = {("reranker",), ("reranker", "stages"), ("retrieval",), ("retrieval", "rerank_k")}
    return any(path[:2] in deciding for path in spoiled)


def _validate_once(values: dict[str, Any]) -> PipelineConfig | list[Mistake]:
    try:
        return PipelineConfig.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        return [mistake_from(details, values) for details in error.errors(include_url=False)]


def _filter_mistakes(config: PipelineConfig, values: dict[str, Any], spoiled: set[KeyPath]) -> list[Mistake]:
    """Mistakes of ``retrieval.filter``, without those about fields whose declaration was found wrong."""
    tree = config.retrieval.parsed_filter()
    if tree is None or ("fields",) in spoiled:
        return []
    unsure = {path[1] for path in spoiled if path[0] == "fields" and len(path) > 1}
    mistakes = filter_mistakes(tree, config.field_types(), ("retrieval", "filter"))
    return [m for m in mistakes if block_value(values, (*m.path[:-1], "field")) not in unsure]


def _note(source: YamlSource, mistakes: Iterable[Mistake], values: dict[str, Any], spoiled: set[KeyPath]) -> None:
    """Report mistakes, except contradictions with a value that was wrong already, and take out what they spoil."""
    for mistake in list(mistakes):
        doubtful = len(mistake.spoils) > 1 and any(path in spoiled for path in mistake.spoils)
        if not doubtful:
            line, column = _position(_place(source.places, mistake.path), about_key=mistake.about_key)
            source.problems.append(ConfigProblem(source.file, line, column, dotted(mistake.path), mistake.message))
        spoiled.update(mistake.spoils)
        spoiled.update(_remove(values, mistake.spoils))


def _place(places: Mapping[KeyPath, Place], path: KeyPath) -> Place | None:
    while path and path not in places:
        path = path[:-1]
    return places.get(path)


def _position(place: Place | None, *, about_key: bool) -> tuple[int, int]:
    """A value's place when it stands on the line of its key, else the key's: blocks begin at their key."""
    if place is None:
        return 0, 0
    if about_key or place.line != place.key_line:
        return place.key_line, place.key_column
    return place.line, place.column


def _remove(values: dict[str, Any], paths: Iterable[KeyPath]) -> Iterator[KeyPath]:
    """Take out the values at these paths; a whole list goes with its item, so that the others keep their index.

    Gives what was taken out.
    """
    for path in list(paths):
        first_index = next((i for i, part in enumerate(path) if isinstance(part, int)), len(path))
        *parents, last = path[:first_index] or (None,)
        block: Any = values
        for part in parents:
            block = block.get(part) if isinstance(block, dict) else None
        if isinstance(block, dict) and last is not None:
            block.pop(last, None)
            yield path[:first_index]


def _without_empty_blocks(values: dict[str, Any], block: type[ConfigBlock]) -> dict[str, Any]:
    """A copy in which a block with nothing under it (all its lines commented out) is left out: its defaults hold."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        info = block.model_fields.get(key)
        inner = blocks_in(info.annotation) if info is not None else []
        if inner and value is None:
            continue
        if inner and isinstance(value, dict) and key != "fields":
            result[key] = _without_empty_blocks(value, block_for(inner, value))
        else:
            result[key] = _copy(value)
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _in_file_order(problems: Iterable[ConfigProblem]) -> list[ConfigProblem]:
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column))
