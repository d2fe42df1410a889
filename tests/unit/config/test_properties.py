"""Whatever stands in the file: a config, or a ConfigError with places inside the file."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ragstack.config.loader import LoadedConfig, parse_config
from ragstack.config.models import PipelineConfig
from ragstack.config.show import to_yaml
from ragstack.errors import ConfigError

DEFAULTS: dict[str, Any] = json.loads(PipelineConfig().model_dump_json())
KEYS = sorted({
    "version", "sources", "paths", "path", "label", "fields", "type", "settings", "filter", "retrieval",
    "top_k", "rerank_k", "chunker", "max_tokens", "embedder", "bm25", "language", "and", "not", "field",
    "op", "value", "server", "store", "reranker", "generator", "indexer", "[key]", "local", "root",
})  # fmt: skip


def outcome(text: str) -> LoadedConfig | ConfigError:
    data = text.encode("utf-8", "surrogatepass")
    try:
        return parse_config(data, "f.yaml", {"SET": "1"}, installed=lambda _: ("mine",))
    except ConfigError as error:
        return error


def assert_places_are_inside(error: ConfigError, text: str) -> None:
    lines = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").splitlines() or [""]
    for problem in error.problems:
        assert 0 <= problem.line <= len(lines) + 1
        assert problem.message


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path


def blocks(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and path not in (("fields",), ("embedder", "bm25", "field_weights")):
        yield path
        for key, item in value.items():
            yield from blocks(item, (*path, key))


def set_at(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    tree = copy.deepcopy(DEFAULTS)
    block = tree
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    return tree


def line_of(text: str, path: tuple[str, ...]) -> int:
    """The line of a key in a block-style dump: the last part of its path at its depth, below its parents."""
    line = 0
    lines = text.splitlines()
    for depth, key in enumerate(path):
        while not lines[line].startswith("  " * depth + key + ":"):
            line += 1
    return line + 1


@given(st.text(max_size=200))
@example("\ud800")
@example("a: \x85b: c")
@example("%YAML 9.9\n---\na: 1")
@example("? \n: \n? \n:")
@example("retrieval: {filter: {'': }}")
def test_any_text_gives_a_config_or_a_config_error(text: str) -> None:
    found = outcome(text)
    if isinstance(found, ConfigError):
        assert_places_are_inside(found, text)


@given(st.text(alphabet="abty:-[]{}#&*!|>'\"%@`,?~$ \n\t01.<=\\", max_size=80))
@settings(max_examples=300)
def test_any_yaml_like_text_gives_a_config_or_a_config_error(text: str) -> None:
    found = outcome(text)
    if isinstance(found, ConfigError):
        assert_places_are_inside(found, text)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["${SET}", "${NOT}", "$${", "local", "mine", "hybrid", "eq", "seq", "year", "none", "keyword"]),
)  # fmt: skip
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(DEFAULTS)) | st.sampled_from(KEYS), trees, max_size=4), st.booleans())
@settings(max_examples=300)
def test_any_tree_gives_a_config_or_a_config_error(tree: dict[str, Any], flow: bool) -> None:
    text = yaml.safe_dump(tree, default_flow_style=flow, allow_unicode=True)
    found = outcome(text)
    if isinstance(found, ConfigError):
        assert_places_are_inside(found, text)
    else:
        again = outcome(to_yaml(found))
        assert isinstance(again, LoadedConfig)
        assert again.config == found.config or "**********" in to_yaml(found)


STRINGS = (
    *("model", "revision", "query_prompt", "passage_prompt", "instruction"),
    *("path", "state_dir", "host", "upload_dir", "label"),
)
"""Keys that take any text."""


@given(st.sampled_from(sorted(leaves(DEFAULTS))), st.sampled_from([{"a": {"b": 1}}, [[1]], "\u00e9\u00e9"]))
def test_a_wrong_type_at_any_path_is_reported_there_and_nowhere_else(path: tuple[str, ...], wrong: Any) -> None:
    fits_a_string = isinstance(wrong, str) and path[-1] in STRINGS
    if fits_a_string or path[-1] == "filter":
        return
    text = yaml.safe_dump(set_at(path, wrong), sort_keys=False, allow_unicode=True)
    found = outcome(text)
    assert isinstance(found, ConfigError), text
    # A list's wrong item, and a mapping's wrong key, stand below the key.
    allowed = range(line_of(text, path), line_of(text, path) + 3)
    assert all(problem.line in allowed for problem in found.problems)
    assert all(problem.key_path.startswith(".".join(path)) for problem in found.problems)


@given(st.sampled_from(sorted(blocks(DEFAULTS))), st.from_regex(r"zq[a-z]{1,8}", fullmatch=True))
def test_an_unknown_key_in_any_block_is_reported_at_its_line(block: tuple[str, ...], key: str) -> None:
    path = (*block, key)
    text = yaml.safe_dump(set_at(path, 1), sort_keys=False)
    found = outcome(text)
    assert isinstance(found, ConfigError)
    [problem] = found.problems
    assert (problem.line, problem.column) == (line_of(text, path), 2 * len(block) + 1)
    assert problem.key_path == ".".join(path)
    assert "unknown key" in problem.message
