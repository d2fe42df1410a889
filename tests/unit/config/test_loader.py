"""Loading a config: defaults, files, and every mistake at its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragstack.config.loader import DEFAULT_ORIGIN, LoadedConfig, load_config, parse_config
from ragstack.config.models import PipelineConfig
from ragstack.errors import ConfigError, ConfigProblem


def installed(family: str) -> tuple[str, ...]:
    return ("mine",) if family == "embedders" else ()


def load(text: str, **env: str) -> LoadedConfig:
    return parse_config(text.encode(), "f.yaml", env, installed=installed)


def problems(text: str) -> list[ConfigProblem]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert caught.value.exit_status == 2
    return list(caught.value.problems)


def only(text: str) -> tuple[int, int, str, str]:
    [problem] = problems(text)
    return problem.line, problem.column, problem.key_path, problem.message


def test_without_a_file_the_default_holds(tmp_path: Path) -> None:
    loaded = load_config(None, {}, directory=tmp_path)
    assert (loaded.config, loaded.origin, loaded.path) == (PipelineConfig(), DEFAULT_ORIGIN, None)


def test_ragstack_yaml_in_the_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "ragstack.yaml").write_text("retrieval: {top_n: 3}\n")
    loaded = load_config(None, {}, directory=tmp_path)
    assert loaded.config.retrieval.top_n == 3
    assert loaded.path == tmp_path / "ragstack.yaml"


def test_a_dangling_ragstack_yaml_is_no_default(tmp_path: Path) -> None:
    (tmp_path / "ragstack.yaml").symlink_to(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        load_config(None, {}, directory=tmp_path)


def test_a_named_file_must_be_readable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: the config cannot be read: there is no such file"):
        load_config(tmp_path / "absent.yaml", {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path, {})
    with pytest.raises(ConfigError, match="null"):
        load_config(Path("a\0b"), {})


def test_every_ready_made_config_loads(repository: Path) -> None:
    files = sorted((repository / "ragstack" / "configs").glob("*.yaml"))
    assert {file.name for file in files} >= {"default.yaml", "code.yaml", "dense-only.yaml"}
    for file in files:
        load_config(file, {})


def test_default_yaml_equals_the_built_in_default_and_gives_every_key(repository: Path) -> None:
    loaded = load_config(repository / "ragstack" / "configs" / "default.yaml", {})
    assert loaded.config == PipelineConfig()

    def keys(value: object, prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        if not isinstance(value, dict):
            return set()
        return {(*prefix, key) for key in value} | {p for key in value for p in keys(value[key], (*prefix, key))}

    assert keys(json.loads(PipelineConfig().model_dump_json())) <= set(loaded.places)


def test_all_mistakes_are_reported_at_once_in_file_order() -> None:
    text = """\
version: 2
sorces: {paths: [a]}
chunker:
  max_tokens: "200"
  overlap_tokens: -1
embedder:
  type: onx
  model: x
  whatever: 3
retrieval:
  top_k: ${K}
  mode: hybird
  filter: {field: yeer, op: eq, value: 1}
fields:
  year: {type: number}
  seq: {type: bool}
  a b: {type: keyword}
indexer:
  lock_timeout_s: no
"""
    found = [(p.line, p.column, p.key_path) for p in problems(text)]
    assert found == [
        (1, 10, "version"),
        (2, 1, "sorces"),
        (4, 15, "chunker.max_tokens"),
        (5, 19, "chunker.overlap_tokens"),
        (7, 9, "embedder.type"),
        (11, 10, "retrieval.top_k"),
        (12, 9, "retrieval.mode"),
        (13, 19, "retrieval.filter.field"),
        (15, 16, "fields.year.type"),
        (16, 3, "fields.seq"),
        (17, 3, "fields.a b"),
        (19, 19, "indexer.lock_timeout_s"),
    ]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("chunker:\n  max_tokens: abc", (2, 15, "chunker.max_tokens"), 'expected an integer, got "abc"'),
        ("chunker:\n  max_tokens: '20'", (2, 15, "chunker.max_tokens"), "write it without quotes"),
        ("chunker:\n  max_tokens: 20.0", (2, 15, "chunker.max_tokens"), "expected an integer, got 20.0"),
        ("chunker:\n  max_tokens: true", (2, 15, "chunker.max_tokens"), "expected an integer, got true"),
        ("chunker:\n  max_tokens: 1", (2, 15, "chunker.max_tokens"), "expected at least 8, got 1"),
        ("chunker:\n  max_tokens: [1]", (2, 15, "chunker.max_tokens"), "got a list"),
        ("chunker:\n  max_tokens:", (2, 14, "chunker.max_tokens"), "got nothing (null)"),
        ("sources: {use_gitignore: yes}", (1, 26, "sources.use_gitignore"), "write true or false"),
        ("sources: {include: '*.md'}", (1, 20, "sources.include"), "expected a list"),
        ("sources: {include: [a, 5]}", (1, 24, "sources.include[1]"), "put it in quotes"),
        ("sources: {paths: [{label: x}]}", (1, 19, "sources.paths[0]"), "the key 'path' is missing"),
        ("sources: {paths: [{path: a, label: a/b}]}", (1, 36, "sources.paths[0].label"), "one part of a path"),
        ("retrieval: {min_relevance: .nan}", (1, 28, "retrieval.min_relevance"), "expected a finite number"),
        ("retrieval: 5", (1, 12, "retrieval"), "expected a mapping"),
        ("retrieval: {expand: parents}", (1, 21, "retrieval.expand"), "'neighbours'"),
        ("retrieval: {mmr_lambda: 2}", (1, 25, "retrieval.mmr_lambda"), "at most 1"),
        (
            "retrieval: {expand: section, expand_tokens: 99}",
            (1, 45, "retrieval.expand_tokens"),
            "larger than chunker.max",
        ),
        ("fields: [a]", (1, 9, "fields"), "expected a mapping"),
        ("embedder: {type: 5, x: 1}", (1, 18, "embedder.type"), "expected the name of a type, got 5. Known: local"),
        ("store: {type: }", (1, 14, "store.type"), "expected the name of a type, got nothing"),
        ("embedder: {bm25: {language: klingon}}", (1, 29, "embedder.bm25.language"), "'english'"),
        (
            "fields: {title: {type: keyword}}\nembedder:\n  bm25:\n    field_weights: {titel: 3}",
            (4, 21, "embedder.bm25.field_weights.titel"),
            "did you mean 'title'?",
        ),
        ("top_k: 5", (1, 1, "top_k"), "did you mean 'retrieval.top_k'?"),
        ("retrieval: {topk: 5}", (1, 13, "retrieval.topk"), "did you mean 'top_k'?"),
        ("server: {prot: 5}", (1, 10, "server.prot"), "did you mean 'port'?"),
        ("server: {limits: {burst: 0}}", (1, 26, "server.limits.burst"), "at least 1"),
        ("embedder: {type: mine, dim: 3}", (1, 24, "embedder.dim"), "under 'settings'"),
        (
            "embedder: {type: mien}",
            (1, 18, "embedder.type"),
            "did you mean 'mine'? Known: local, remote, hashing, mine.",
        ),
        ("chunker: {type: mine}", (1, 17, "chunker.type"), "Known: auto, recursive, markdown"),
        ("retrieval: {filter: {and: [{field: seq}]}}", (1, 28, "retrieval.filter.and[0]"), "exactly the keys"),
        ("retrieval: {filter: {field: seq, op: eq, value: x}}", (1, 49, "retrieval.filter.value"), "of type integer"),
        ("retrieval: {filter: {field: source_id, op: gt, value: x}}", (1, 44, "retrieval.filter.op"), "cannot compare"),
    ],
)
def test_one_mistake_gives_one_sentence_at_its_place(text: str, place: tuple[int, int, str], words: str) -> None:
    line, column, key, message = only(text)
    assert (line, column, key) == place
    assert words in message
    assert "Input should" not in message


def test_a_contradiction_points_at_a_line_of_the_file() -> None:
    assert only("retrieval:\n  rerank_k: 30\n  top_k: 20\n  top_n: 2")[:3] == (2, 13, "retrieval.rerank_k")
    line, _, key, message = only("retrieval:\n  top_k: 20\n")
    assert (line, key) == (2, "retrieval.top_k")
    assert "rerank_k is not given, so its default holds" in message
    assert only("chunker: {max_tokens: 20, overlap_tokens: 11}")[2] == "chunker.overlap_tokens"


def test_a_contradiction_with_a_wrong_value_is_not_reported() -> None:
    assert only("retrieval:\n  top_k: 20\n  rerank_k: many\n")[2] == "retrieval.rerank_k"


def test_a_block_whose_lines_are_commented_out_keeps_its_defaults() -> None:
    loaded = load("chunker:\n#  type: code\nretrieval:\n  fusion:\nfields:\nembedder: {bm25: }\n")
    assert loaded.config == PipelineConfig()


def test_a_third_partys_settings_are_kept() -> None:
    loaded = load("embedder: {type: mine, settings: {url: '${URL}', n: 3}}", URL="x")
    assert loaded.config.model_dump()["embedder"] == {"type": "mine", "settings": {"url": "x", "n": 3}}


def test_later_checks_can_point_into_the_file() -> None:
    loaded = load("chunker:\n  max_tokens: 300\nsources:\n  paths:\n    - a\n")
    assert str(loaded.problem("chunker.max_tokens", "too long")) == "f.yaml:2:15: chunker.max_tokens: too long"
    assert str(loaded.problem("chunker.type", "bad")) == "f.yaml:1:1: chunker.type: bad"
    assert str(loaded.problem("sources.paths[0]", "bad")) == "f.yaml:5:7: sources.paths[0]: bad"
    assert str(loaded.problem("store.path", "bad")) == "f.yaml: store.path: bad"
    assert str(LoadedConfig(PipelineConfig()).problem("store.path", "bad")) == "built-in default: store.path: bad"
    assert loaded.error("store.path", "bad", hint="h").problems == (loaded.problem("store.path", "bad"),)


@pytest.mark.parametrize(
    ("block", "key_path", "message"),
    [
        ("{type: milvus, index: {type: HNSW, m: 0}}", "store.index.m", "expected at least 4, got 0"),
        (
            "{type: weaviate, index: {type: flat, quantizer: {type: bq, rescore: 1}}}",
            "store.index.quantizer.rescore",
            "unknown key in the block 'store.index.quantizer'; did you mean 'rescore_limit'?",
        ),
        (
            "{type: weaviate, index: {type: dynamic, hnsw: {ef: 0}}}",
            "store.index.hnsw.ef",
            "expected at least 1, got 0",
        ),
        ("{type: weaviate, index: {type: flatt}}", "store.index.type", "did you mean 'flat'?"),
    ],
)
def test_a_block_that_is_chosen_by_type_inside_another(block: str, key_path: str, message: str) -> None:
    _, _, found, told = only(f"store: {block}\n")
    assert found == key_path
    assert message in told
