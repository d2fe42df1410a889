"""An index is asked with the model it was made with, run as the machine that asks can run it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ragstack.config.embedders import LocalEmbedderConfig
from ragstack.config.models import PipelineConfig
from ragstack.retrieval.generation_parts import as_indexed


def asked(indexed: dict[str, Any], configured: dict[str, Any]) -> LocalEmbedderConfig:
    built = PipelineConfig.model_validate({"version": 1, "embedder": indexed}).model_dump(mode="json")
    snapshot: Any = SimpleNamespace(
        config={"config": {name: built[name] for name in ("chunker", "embedder", "reranker")}}
    )
    config = PipelineConfig.model_validate({"version": 1, "embedder": configured})
    found = as_indexed(config, snapshot).embedder
    assert isinstance(found, LocalEmbedderConfig)
    return found


def test_how_the_model_runs_is_this_machines_affair() -> None:
    made_on = {"model": "./m", "device": "cuda:1", "profile": "torch-cuda-bf16", "threads": 64}
    found = asked({**made_on, "passage_prompt": "passage: "}, {"model": "./m", "device": "cpu", "max_batch_tokens": 99})
    assert (found.device, found.profile, found.threads, found.max_batch_tokens) == ("cpu", None, None, 99)
    assert found.passage_prompt == "passage: "  # the vectors' affair


def test_another_model_of_the_config_says_nothing_about_the_indexed_one() -> None:
    found = asked({"model": "./old", "device": "cpu"}, {"model": "./new", "device": "cuda", "profile": "0" * 64})
    assert (found.model, found.device, found.profile) == ("./old", "cpu", None)
