"""What is tried, what is chosen of it, and how it is put into a YAML file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.adapters.base import Hit
from ragstack.config.loader import LoadedConfig, parse_config
from ragstack.config.models import PipelineConfig
from ragstack.evaluation.dataset import DocumentSpan, Question
from ragstack.evaluation.tuning.recording import Recorded, recording_config
from ragstack.evaluation.tuning.refusal import choose_min_relevance
from ragstack.evaluation.tuning.selection import choose, folds_of, select
from ragstack.evaluation.tuning.space import chunk_sizes, own_settings, settings_for, with_values
from ragstack.evaluation.tuning.trials import Replay
from ragstack.evaluation.tuning.yaml_file import set_key, tuned_text

CONFIG = PipelineConfig()


def test_the_space_begins_with_the_config_and_holds_nothing_twice() -> None:
    tried = list(settings_for(CONFIG, 200))
    assert tried[0] == own_settings(CONFIG)
    assert tried[0].values(CONFIG) == {}
    identities = [json.dumps(s.__dict__, sort_keys=True) for s in tried]
    assert len(set(identities)) == len(tried) > 50
    for settings_ in tried:
        changed = with_values(LoadedConfig(CONFIG), settings_.values(CONFIG)).config
        assert changed.retrieval.rerank_k == settings_.rerank_k
        assert settings_.values(changed) == {}


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"reranker": {"type": "none"}}, 3),
        ({"reranker": {"type": "none"}, "retrieval": {"mode": "dense"}}, 1),
        ({"reranker": {"type": "someones"}}, 1),
    ],
)
def test_what_cannot_be_replayed_is_not_tried(values: dict[str, Any], count: int) -> None:
    config = PipelineConfig.model_validate(values)
    assert len(list(settings_for(config, 200))) == count


def test_a_weight_of_0_is_tried_around_its_default() -> None:
    config = PipelineConfig.model_validate({"reranker": {"maxsim_weight": 0}})
    assert {s.weights["maxsim"] for s in settings_for(config, 200)} == {0, 0.5, 1, 2}


def test_chunk_sizes() -> None:
    assert chunk_sizes(CONFIG, None, 512)[0] == [200, 100, 300]
    sizes, notes = chunk_sizes(CONFIG, [200, 80, 400], 256)
    assert sizes == [200, 80]
    assert notes == ["chunks of 400 tokens are longer than the embedder reads (256)"]
    overlapping = PipelineConfig.model_validate({"chunker": {"overlap_tokens": 60}})
    assert chunk_sizes(overlapping, [100, 120], 512)[0] == [200, 120]


def test_the_recording_is_deep_and_of_unit_weights() -> None:
    config = recording_config(LoadedConfig(CONFIG)).config
    assert (config.retrieval.top_k, config.retrieval.rerank_k) == (200, 200)
    assert config.reranker.sparse_weight == 1.0  # type: ignore[union-attr]
    deepest = PipelineConfig.model_validate({"retrieval": {"top_k": 5000, "rerank_k": 10, "top_n": 2}})
    assert recording_config(LoadedConfig(deepest)).config.retrieval.rerank_k == 1000


def recorded(parts: dict[str, list[float]], gold: str = "d1") -> Recorded:
    """Four chunks of three documents; c1 is first in the dense leg, c4 in the sparse one."""
    ids = ("c1", "c2", "c3", "c4")
    spans = tuple(DocumentSpan(d, 10 * i, 10 * i + 10) for i, d in enumerate(("d0", "d1", "d1", "d2")))
    legs = {
        "dense": (Hit("c1", 0.9), Hit("c2", 0.8), Hit("c3", 0.1)),
        "sparse": (Hit("c4", 9.0), Hit("c3", 5.0), Hit("c2", 1.0)),
    }
    question = Question("q", "?", {gold: 1}, pieces=((DocumentSpan(gold, 22, 28),),))
    columns = {name: np.array(values) for name, values in parts.items()}
    return Recorded(question, ids, spans, legs, columns, np.array([3.0, 2.0, 1.0, 0.0]))


def test_a_replay_is_the_reranker_at_other_weights() -> None:
    item = recorded({"dense": [0.9, 0.5, 0.1, 0.0], "maxsim": [0.0, 0.2, 0.3, 0.1], "sparse": [0, 0.1, 0.5, 1.0]})
    replay = Replay([item], CONFIG, "MRR@10")
    own = own_settings(CONFIG)
    assert replay.score(own) == {"q": 0.5}  # .90 .73 .55 .40
    heavy = own.__class__(200, 1, 1, 50, {"dense": 1.0, "maxsim": 4.0, "sparse": 0.3})
    assert replay.score(heavy) == {"q": 1.0}  # .90 1.33 1.45 .70
    words = own.__class__(200, 1, 1, 50, {"dense": 0.0, "maxsim": 0.0, "sparse": 1.0})
    assert replay.score(words) == {"q": 0.5}


def test_a_replay_at_another_depth_and_of_another_fusion() -> None:
    item = recorded({"dense": [0.9, 0.5, 0.1, 0.0], "maxsim": [0, 0, 0, 9.0], "sparse": [0, 0, 0, 0]}, gold="d2")
    own = own_settings(CONFIG)
    replay = Replay([item], CONFIG, "MRR@10")
    assert replay.score(own) == {"q": 1.0}
    # Fused c2, c3 are found by both legs; with one kept of each order, c4 is not reranked.
    shallow = own.__class__(200, 1, 1, 2, own.weights)
    assert replay.score(shallow) == {"q": 0.0}
    words_first = own.__class__(200, 0.0, 1.0, 1, own.weights)
    assert replay.score(words_first) == {"q": 1.0}


def test_a_replay_of_passages_and_of_what_was_not_reranked() -> None:
    item = recorded({"dense": [0.9, 0.5, np.nan, 0.0], "maxsim": [0, 0, np.nan, 0], "sparse": [0, 0, np.nan, 0]})
    assert Replay([item], CONFIG, "passage_recall@5").score(own_settings(CONFIG)) == {"q": 1.0}
    assert Replay([item], CONFIG, "MRR@10").score(own_settings(CONFIG)) == {"q": 0.5}


def test_the_fewest_changes_within_noise_win() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0, 1, 200)
    noise = rng.normal(0, 0.1, 200)
    table = np.stack([base, base + 0.0001 * noise, base + 0.2, base + 0.2 + 0.01 * noise])
    assert choose(table[:2], [0, 2]) == 0
    assert choose(table, [0, 2, 3, 1]) in (2, 3)
    tied = np.stack([base, base + 0.2, base + 0.2])
    assert choose(tied, [0, 3, 1]) == 2


def test_a_real_gain_is_better_and_luck_is_not() -> None:
    rng = np.random.default_rng(1)
    groups = [f"d{i // 3}" for i in range(150)]
    base = rng.uniform(0, 1, 150)
    better = np.stack([base, *(base + rng.normal(0, 0.2, 150) for _ in range(20)), base + 0.1])
    found = select(better, list(range(22)), groups, folds=5, seed=0)
    assert (found.choice, found.is_better) == (21, True)
    assert found.difference == pytest.approx(0.1, abs=0.03)
    fooled = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        base = rng.uniform(0, 1, 60)
        table = np.stack([base, *(base + rng.normal(0, 0.3, 60) for _ in range(30))])
        fooled += select(table, [0] + [1] * 30, [str(i) for i in range(60)], 5, seed).is_better
    assert fooled <= 4  # at 2.5%, one is expected


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40), st.integers(2, 6), st.integers(0, 3))
def test_a_group_is_in_one_fold(groups: list[str], folds: int, seed: int) -> None:
    found = folds_of(groups, folds, seed)
    assert len({(g, f) for g, f in zip(groups, found, strict=True)}) == len(set(groups))
    assert set(found) == set(range(min(folds, len(set(groups)))))
    assert found == folds_of(groups, folds, seed)


def test_a_threshold_between_the_two_kinds() -> None:
    relevance = [0.6 + i / 100 for i in range(20)] + [0.2 + i / 100 for i in range(20)]
    answerable = [True] * 20 + [False] * 20
    groups = [str(i) for i in range(40)]
    found = choose_min_relevance(relevance, answerable, [False] * 40, groups, 5, 0)
    assert found is not None
    assert 0.39 < found.min_relevance < 0.6
    assert (found.own, found.is_better) == (0.5, True)
    assert found.held_out == pytest.approx(1.0)
    good = choose_min_relevance(relevance, answerable, [not a for a in answerable], groups, 5, 0)
    assert good is not None
    assert not good.is_better
    assert choose_min_relevance(relevance[:23], answerable[:23], [False] * 23, groups[:23], 5, 0) is None


FILE = """\
# mine
version: 1
chunker:
    # four spaces
    type: recursive   # by name
    max_tokens: ${SIZE:-120}  # small

retrieval: {top_n: 5, fusion: {k: 30}}  # flow
reranker:
  # all commented out
  # sparse_weight: 1

generator:
  type: extractive
# the end"""


def test_only_the_values_change() -> None:
    values = {
        "chunker.max_tokens": 300,
        "retrieval.rerank_k": 20,
        "retrieval.fusion.sparse_weight": 0.5,
        "reranker.maxsim_weight": 2.0,
        "indexer.group_chunks": 7,
    }
    loaded = parse_config(FILE.encode(), "f.yaml", {})
    text = tuned_text(loaded, FILE, values, ["why"])
    assert text.splitlines() == [
        "# why",
        "# mine",
        "version: 1",
        "chunker:",
        "    # four spaces",
        "    type: recursive   # by name",
        "    max_tokens: 300  # small",
        "",
        "retrieval: {top_n: 5, fusion: {k: 30, sparse_weight: 0.5}, rerank_k: 20}  # flow",
        "reranker:",
        "  maxsim_weight: 2.0",
        "  # all commented out",
        "  # sparse_weight: 1",
        "",
        "generator:",
        "  type: extractive",
        "indexer:",
        "  group_chunks: 7",
        "# the end",
    ]


def test_the_line_ends_and_the_mark_of_a_windows_file_stay() -> None:
    original = "\ufeffversion: 1\r\nchunker:\r\n  max_tokens: 100\r\n"
    loaded = parse_config(original.encode(), "f.yaml", {})
    text = tuned_text(loaded, original, {"chunker.max_tokens": 50, "retrieval.top_n": 3}, ["why"])
    assert text == "\ufeff# why\r\nversion: 1\r\nchunker:\r\n  max_tokens: 50\r\nretrieval:\r\n  top_n: 3\r\n"


def test_without_a_file_there_are_the_changed_keys_alone() -> None:
    text = tuned_text(LoadedConfig(CONFIG), "", {"retrieval.fusion.k": 30}, ["why"])
    assert text == "# why\nversion: 1\nretrieval:\n  fusion:\n    k: 30\n"


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("", "a", "a: 1\n"),
        ("# only this", "a.b", "# only this\na:\n  b: 1\n"),
        ("a: {}", "a.b", "a: {b: 1}"),
        ("a: {c: 2,}", "a.b", "a: {c: 2, b: 1}"),
        ("a: {\n  c: 2\n}\n", "a.b", "a: {\n  c: 2, b: 1\n}\n"),
        ("a:\n  c: |\n    text\n    more\nz: 1\n", "a.b", "a:\n  c: |\n    text\n    more\n  b: 1\nz: 1\n"),
        ("a:\n  c: [1,\n    2]  # two\nz: 1\n", "a.b", "a:\n  c: [1,\n    2]  # two\n  b: 1\nz: 1\n"),
        ("a:\n  c:\n  - x\n  - y\n# end\n", "a.b", "a:\n  c:\n  - x\n  - y\n  b: 1\n# end\n"),
        ("a:\n  c:\nz: 1\n", "a.b", "a:\n  c:\n  b: 1\nz: 1\n"),
        ("a:  # why\n", "a", "a: 1  # why\n"),
        ('a: "two"  # why\n', "a", "a: 1  # why\n"),
        ("{a: 2, c: 3}", "b", "{a: 2, c: 3, b: 1}"),
    ],
)
def test_one_key(text: str, path: str, expected: str) -> None:
    assert set_key(text, path.split("."), 1) == expected


def test_every_config_that_ships_takes_every_value(repository: Path) -> None:
    values = {
        "chunker.max_tokens": 150,
        "retrieval.rerank_k": 20,
        "retrieval.fusion.dense_weight": 0.5,
        "retrieval.min_relevance": 0.4,
    }
    environment = {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": "http://localhost/v1"}
    for file in sorted((repository / "ragstack" / "configs").glob("*.yaml")):
        original = file.read_text("utf-8")
        loaded = parse_config(original.encode(), file.name, {**os.environ, **environment})
        text = original
        # The second stage of the cascade reads 20.
        chosen = values | ({"retrieval.rerank_k": 30} if file.name == "cascade.yaml" else {})
        for key, value in chosen.items():
            text = set_key(text, key.split("."), value)
        found = parse_config(text.encode(), file.name, {**os.environ, **environment}).config
        assert found == with_values(loaded, chosen).config, file.name
        kept = set(original.splitlines())
        assert len([line for line in text.splitlines() if line not in kept]) <= 8


keys = st.sampled_from(["a", "b", "c", "d"])
trees = st.recursive(
    st.integers(0, 9), lambda inner: st.dictionaries(keys, inner, min_size=1, max_size=3), max_leaves=8
)


@given(st.dictionaries(keys, trees, min_size=1, max_size=4), st.lists(keys, min_size=1, max_size=3), st.data())
def test_a_key_is_set_in_any_tree(tree: dict[str, Any], path: list[str], data: st.DataObject) -> None:
    import yaml

    flow = data.draw(st.sampled_from([None, False, True]))
    text = "# head\n" + yaml.safe_dump(tree, default_flow_style=flow, sort_keys=False)
    block: Any = tree
    for name in path[:-1]:
        if isinstance(block.get(name, {}), int):
            return  # a number where a block should be is no config
        block = block.setdefault(name, {})
    if isinstance(block.get(path[-1]), dict):
        return  # nor is a block where a number should be
    block[path[-1]] = 42
    assert yaml.safe_load(set_key(text, path, 42)) == tree
