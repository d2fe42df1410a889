"""The reranker block: cross-encoders, remote rerankers, cascades."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from ragstack.assembly import build_reranker, keeps_token_vectors, text_reranker
from ragstack.config.loader import LoadedConfig, parse_config
from ragstack.config.models import PipelineConfig
from ragstack.config.show import effective_values, json_schema, to_yaml
from ragstack.errors import ConfigError
from ragstack.reranking.cascade import CascadeReranker
from ragstack.reranking.memory_token_vectors import MemoryTokenVectorStore

CASCADE = """
reranker:
  type: cascade
  stages:
    - reranker: {type: late_interaction, sparse_weight: 0.5}
    - reranker: {type: remote, api: tei, base_url: "http://h:80", api_key: sk-1, on_error: keep_order}
      rerank_k: 20
    - reranker: {type: mine, settings: {api_key: sk-2, depth: 3}}
      rerank_k: 5
"""


def load(text: str) -> LoadedConfig:
    return parse_config(text.encode(), "f.yaml", {}, installed=lambda family: ("mine", "none", "late_interaction"))


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return [f"{p.line} {p.key_path}: {p.message}" for p in caught.value.problems]


def stages(*lines: str, before: str = "") -> str:
    return f"{before}\nreranker:\n  type: cascade\n  stages:\n" + "".join(f"    - {line}\n" for line in lines)


def test_a_cascade_is_shown_with_its_secrets_masked_and_loads_again() -> None:
    loaded = load(CASCADE)
    shown = to_yaml(loaded)
    assert "sk-1" not in shown and "sk-2" not in shown
    again = load(shown).config
    assert keeps_token_vectors(again)
    masked = effective_values(loaded)["reranker"]["stages"]
    assert masked[2]["reranker"] == {"type": "mine", "settings": {"api_key": "**********", "depth": 3}}
    assert effective_values(load(shown))["reranker"] == effective_values(loaded)["reranker"]


def test_the_schema_takes_what_the_loader_takes() -> None:
    schema = Draft202012Validator(json_schema())
    plain = load(CASCADE).config.model_dump(mode="json")
    assert not list(schema.iter_errors(json.loads(json.dumps(plain))))
    for wrong in ("cascade", "none"):
        plain["reranker"]["stages"][0]["reranker"] = {"type": wrong}
        assert list(schema.iter_errors(plain))


LI = "{reranker: {type: late_interaction}"
CE = "{reranker: {type: cross_encoder, model: ./m}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "reranker: {type: cross_encoder}",
            [
                "1 reranker: the key 'model' is missing: Registered name (`ragstack models`), folder, or Hugging Face"
                " id."
            ],
        ),
        (
            "reranker: {type: cross_encoder, model: m, long_passages: cut, max_tokens: 3}",
            [
                "1 reranker.long_passages: expected 'windows' or 'error', got \"cut\"",
                "1 reranker.max_tokens: expected at least 16, got 3",
            ],
        ),
        (
            stages(LI + "}"),
            ["4 reranker.stages: expected two stages or more, got 1"],
        ),
        (
            stages(LI + "}", CE + "}"),
            ["6 reranker.stages[1].reranker: stage 2 needs rerank_k: how many of the best so far it reads"],
        ),
        (
            stages(LI + "}", CE + ", rerank_k: 50}"),
            [
                "6 reranker.stages[1].rerank_k: rerank_k (50) of the second stage must be less than"
                " retrieval.rerank_k (50)"
            ],
        ),
        (
            stages(LI + ", rerank_k: 40}", CE + ", rerank_k: 20}"),
            [
                "5 reranker.stages[0].rerank_k: rerank_k (40) of the first stage must be retrieval.rerank_k (50),"
                " or left out"
            ],
        ),
        (
            stages(LI + "}", CE + ", rerank_k: 20}", before="retrieval: {rerank_k: 10, top_n: 5}"),
            [
                "6 reranker.stages[1].rerank_k: rerank_k (20) of the second stage must be less than"
                " retrieval.rerank_k (10)"
            ],
        ),
        (
            stages(LI + "}", CE + ", rerank_k: 20}", CE + ", rerank_k: 20}"),
            [
                "7 reranker.stages[2].rerank_k: rerank_k (20) of stage 3 must be less than that of the stage"
                " before (20)"
            ],
        ),
        (
            stages("{reranker: {type: cascade, stages: []}}", "{reranker: {type: crossencoder}, rerank_k: 3}"),
            [
                '5 reranker.stages[0].reranker.type: unknown reranker "cascade".'
                " Known: late_interaction, cross_encoder, llm_yes_no, remote, mine.",
                "6 reranker.stages[1].reranker.type: unknown reranker \"crossencoder\"; did you mean 'cross_encoder'?"
                " Known: late_interaction, cross_encoder, llm_yes_no, remote, mine.",
            ],
        ),
        (
            stages("{reranker: {type: late_interaction, dense_weight: x}}", CE + ", rerank_k: 0, depth: 3}"),
            [
                '5 reranker.stages[0].reranker.dense_weight: expected a number, got "x"',
                "6 reranker.stages[1].rerank_k: expected at least 1, got 0",
                "6 reranker.stages[1].depth: unknown key in the block 'reranker.stages[1]'."
                " Known here: reranker, rerank_k.",
            ],
        ),
        (
            'reranker: {type: remote, api: nim, base_url: "http://u:p@h", on_error: ignore}',
            [
                "1 reranker.base_url: the URL must hold no user, password, query or fragment; a key belongs into"
                " api_key",
                "1 reranker.on_error: expected 'fail' or 'keep_order', got \"ignore\"",
            ],
        ),
        (
            'reranker: {type: remote, api: nim, base_url: "http://h"}',
            ["1 reranker.api: api: nim needs model, the name of the model; model is not given, so its default holds:"
             " set it too"],
        ),
        (
            'reranker: {type: remote, api: cohere, base_url: "http://h", truncate: END}',
            ["1 reranker.truncate: api: cohere does not know truncate; its own settings go into extra_body"],
        ),
        (
            'reranker: {type: remote, api: tei, base_url: "http://h", extra_body: {texts: []}}',
            ["1 reranker.extra_body: 'texts' is set by ragstack itself; extra_body is for other keys"],
        ),
    ],
)  # fmt: skip
def test_mistakes(text: str, expected: list[str]) -> None:
    assert problems(text) == expected


def test_a_key_that_no_header_can_hold_is_not_repeated() -> None:
    [problem] = problems('reranker: {type: remote, api: tei, base_url: "http://h", api_key: "sk-secret\\n"}')
    assert "visible ASCII" in problem
    assert "sk-secret" not in problem


@pytest.mark.parametrize(
    ("text", "name", "kept", "of_texts"),
    [
        ("{type: late_interaction}", "late_interaction", True, "late_interaction"),
        ("{type: none}", "none", False, "none"),
        ('{type: remote, api: tei, base_url: "http://h"}', "remote:tei", False, "remote"),
        ('{type: remote, api: nim, model: m, base_url: "http://h"}', "remote:m", False, "remote"),
        (
            '{type: remote, api: tei, base_url: "http://h", on_error: keep_order}',
            "cascade(none, remote:tei)",
            False,
            "remote",
        ),
        (
            '{type: cascade, stages: [{reranker: {type: remote, api: tei, base_url: "http://h", on_error: keep_order}},'
            " {reranker: {type: late_interaction}, rerank_k: 5}]}",
            "cascade(none, remote:tei, late_interaction)",
            True,
            "late_interaction",
        ),
    ],
)
def test_what_is_built(text: str, name: str, kept: bool, of_texts: str) -> None:
    config: PipelineConfig = load(f"reranker: {text}").config
    reranker = build_reranker(config, MemoryTokenVectorStore())
    assert reranker.name == name
    assert keeps_token_vectors(config) is kept
    assert text_reranker(config).type == of_texts
    if isinstance(reranker, CascadeReranker):
        reranker.close()
