"""The registries of models: what issue and design ask of each card, and how a registered model is found."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ragstack.cli.main import main
from ragstack.embedding.model_files import resolve_model
from ragstack.embedding.models import MODELS, HubFiles, card_of
from ragstack.errors import EmbeddingError, InputError
from ragstack.inference.model_cards import memory_bytes
from ragstack.languages import NAMES
from ragstack.reranking.cross_encoder_files import find_cross_encoder
from ragstack.reranking.model_prompts import INSTRUCTION
from ragstack.reranking.models import RERANKER_MODELS, reranker_card

COMMIT = "0123456789abcdef0123456789abcdef01234567"

EMBEDDERS = {
    "all-MiniLM-L6-v2": (384, ()),
    "multilingual-e5-small": (384, ()),
    "multilingual-e5-base": (768, ()),
    "multilingual-e5-large": (1024, ()),
    "nv-embedqa-e5-v5": (1024, ()),
    "llama-3.2-nv-embedqa-1b-v2": (2048, (384, 512, 768, 1024)),
    "Qwen3-Embedding-0.6B": (1024, range(32, 1024)),
    "Qwen3-Embedding-4B": (2560, range(32, 2560)),
    "Qwen3-Embedding-8B": (4096, range(32, 4096)),
    "bge-m3": (1024, ()),
    "bge-large-en-v1.5": (1024, ()),
    "jina-embeddings-v4": (2048, (128, 256, 512, 1024)),
}
RERANKERS = {
    "nv-rerankqa-mistral-4b-v3": 512,
    "llama-3.2-nv-rerankqa-1b-v2": 8192,
    "Qwen3-Reranker-0.6B": 32_768,
    "Qwen3-Reranker-4B": 32_768,
    "bge-reranker-v2-m3": 8192,
    "jina-reranker-v2-base-multilingual": 1024,
    "ms-marco-MiniLM-L-12-v2": 512,
}


def test_every_model_that_is_promised_has_a_card() -> None:
    assert {name: (card.dim, card.matryoshka) for name, card in MODELS.items()} == EMBEDDERS
    assert {name: card.max_tokens for name, card in RERANKER_MODELS.items()} == RERANKERS
    assert len(MODELS["llama-3.2-nv-embedqa-1b-v2"].languages) == 26
    assert MODELS["bge-m3"].outputs == ("dense", "sparse", "multi-vector")
    assert MODELS["jina-embeddings-v4"].task_adapters == ("retrieval", "text-matching", "code")


@pytest.mark.parametrize("card", [*MODELS.values(), *RERANKER_MODELS.values()], ids=lambda card: card.name)
def test_a_card_is_whole_and_holds_together(card: object) -> None:
    assert card.licence and card.description and card.architecture and card.parameters  # type: ignore[attr-defined]
    assert card.source.startswith("https://")  # type: ignore[attr-defined]
    languages = card.languages  # type: ignore[attr-defined]
    assert len(set(languages)) == len(languages) and all(re.fullmatch("[a-z]{2,3}", code) for code in languages)
    if card.files is None:  # type: ignore[attr-defined]
        assert card.remote and card.not_local  # type: ignore[attr-defined]
    elif isinstance(card.files, HubFiles):  # type: ignore[attr-defined]
        assert card.files.formats and re.fullmatch(r"[\w.-]+/[\w.-]+", card.files.repo_id)  # type: ignore[attr-defined]
        assert card.files.example_revision is None or re.fullmatch(  # type: ignore[attr-defined]
            "[0-9a-f]{40}",
            card.files.example_revision,  # type: ignore[attr-defined]
        )


def test_lists_import_no_runtime() -> None:
    code = (
        "import sys, ragstack.embedding.models, ragstack.reranking.models\n"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'openvino', 'tokenizers', 'huggingface_hub', 'numpy'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_memory_of_weights() -> None:
    assert memory_bytes(595_776_512) == {"fp32": 2_383_106_048, "bf16": 1_191_553_024}


@pytest.mark.parametrize("model", ["bge-m3", "BAAI/bge-m3"])
def test_a_hub_model_must_be_pinned(model: str) -> None:
    with pytest.raises(InputError, match="must be pinned, but have no revision") as caught:
        resolve_model(model)
    assert "embedder.revision" in caught.value.hint and "5617a9f61b028005a4858fdac845db406aefb181" in caught.value.hint
    with pytest.raises(InputError, match="which moves"):
        resolve_model(model, "main")


def test_a_hub_reranker_must_be_pinned() -> None:
    with pytest.raises(InputError, match="must be pinned") as caught:
        find_cross_encoder("bge-reranker-v2-m3")
    assert "reranker.revision" in caught.value.hint
    with pytest.raises(InputError, match="unknown model 'bge-reranker'") as caught:
        find_cross_encoder("bge-reranker")
    assert "Did you mean 'bge-reranker-v2-m3'" in caught.value.hint


@pytest.mark.parametrize("model", ["nv-embedqa-e5-v5", "nvidia/nv-embedqa-e5-v5"])
@pytest.mark.parametrize("revision", [None, COMMIT])
def test_a_remote_model_says_how_it_is_reached(model: str, revision: str | None) -> None:
    with pytest.raises(InputError, match=r"nv-embedqa-e5-v5 cannot be run here") as caught:
        resolve_model(model, revision)
    assert "api: nim, model: nvidia/nv-embedqa-e5-v5" in caught.value.hint
    with pytest.raises(InputError, match=r"task adapters need code of its repository"):
        resolve_model("jina-embeddings-v4", revision)
    with pytest.raises(InputError, match=r"nv-rerankqa-mistral-4b-v3 cannot be run here"):
        find_cross_encoder("nv-rerankqa-mistral-4b-v3", revision)


@pytest.fixture
def fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, list[str]]]:
    """What was asked of the hub, which answers with ``folder``."""
    asked: list[tuple[str, str, list[str]]] = []

    def snapshot_download(repo_id: str, *, revision: str, allow_patterns: list[str]) -> str:
        asked.append((repo_id, revision, allow_patterns))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize("model", ["bge-large-en-v1.5", "BAAI/bge-large-en-v1.5"])
def test_a_pinned_hub_model_is_what_its_card_says(
    model: str, folder: Path, fetched: list[tuple[str, str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EmbeddingError, match=r"gives 384 dimensions; bge-large-en-v1\.5 has 1024"):
        resolve_model(model, COMMIT)
    name = "bge-large-en-v1.5"
    monkeypatch.setitem(MODELS, name, replace(MODELS[name], dim=384))
    found = resolve_model(model, COMMIT)
    assert {(repo, revision) for repo, revision, _ in fetched} == {("BAAI/bge-large-en-v1.5", COMMIT)}
    assert (found.card.name, found.card.pooling, found.card.languages) == (name, "cls", ("en",))
    # The files say that less is read than the card does.
    assert found.card.max_tokens == 254 and found.card.query_prompt.startswith("Represent this sentence")


def test_safetensors_are_fetched_where_they_can_be_run(
    fetched: list[tuple[str, str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for runs in (True, False):
        monkeypatch.setattr("ragstack.inference.model_files.runs_safetensors", lambda runs=runs: runs)
        resolve_model("org/some-model", COMMIT)
    assert ["model.safetensors" in patterns for *_, patterns in fetched] == [True, False]


def test_a_folder_of_a_registered_name_is_meant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    shutil.copytree(folder, "bge-m3")
    found = resolve_model("bge-m3")
    assert found.card.dim == 384 and found.card.files is None


def test_cards_are_found_by_name_and_repository() -> None:
    assert card_of("Qwen/Qwen3-Embedding-4B") is MODELS["Qwen3-Embedding-4B"] is card_of("Qwen3-Embedding-4B")
    assert reranker_card("cross-encoder/ms-marco-MiniLM-L12-v2") is RERANKER_MODELS["ms-marco-MiniLM-L-12-v2"]
    assert card_of("nvidia/llama-3.2-nv-embedqa-1b-v2") is card_of("nvidia/llama-nemotron-embed-1b-v2") is not None
    assert card_of("qwen3") is None and reranker_card("bge-m3") is None


def test_the_instruction_of_a_card_is_the_one_that_is_given() -> None:
    instructed = {card.instruction for card in RERANKER_MODELS.values() if card.type == "llm_yes_no"}
    assert instructed == {INSTRUCTION}


def test_languages_that_are_told_apart_are_known_to_the_large_models() -> None:
    # What the detector names and a card does not would be warned of.
    assert set(NAMES) - set(MODELS["bge-m3"].languages) == set()
    assert set(NAMES) - set(MODELS["multilingual-e5-large"].languages) == {"ckb"}


def test_the_command_lists_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    assert set(rows) == set(EMBEDDERS) | set(RERANKERS)
    assert rows["Qwen3-Embedding-0.6B"]["dimensions"] == {"min": 32, "max": 1024}
    assert rows["llama-3.2-nv-embedqa-1b-v2"]["dimensions"] == [384, 512, 768, 1024, 2048]
    assert rows["bge-m3"]["runs_here"] and not rows["nv-embedqa-e5-v5"]["runs_here"]
    assert rows["Qwen3-Reranker-4B"]["kind"] == "reranker" and rows["Qwen3-Reranker-4B"]["type"] == "llm_yes_no"
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(rows)
    assert next(line for line in lines if line.startswith("Qwen3-Embedding-8B")).split()[:5] == [
        *("Qwen3-Embedding-8B", "embedder", "4096", "32", "to")
    ]


def test_the_command_shows_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "Qwen3-Embedding-0.6B"]) == 0
    shown = capsys.readouterr().out
    assert '"Instruct: Given a web search query' in shown and "fp32 2.4 GB, bf16 1.2 GB" in shown
    assert main(["models", "Qwen/Qwen3-Reranker-4B", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["instruction"].startswith("Given a web search query")
    assert main(["models", "bge"]) == 2
    assert "Did you mean" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("embedder: {model: bge-m3}", "must be pinned"),
        ("embedder: {dimensions: 100}", "was not trained for vectors of 100 numbers"),
        ("embedder: {model: jina-embeddings-v4}", "cannot be run here"),
        ("reranker: {type: cross_encoder, model: bge-reranker-v2-m3}", "must be pinned"),
        ("reranker: {type: cross_encoder, model: nv-rerankqa-mistral-4b-v3}", "NVIDIA serves it as a NIM only"),
        ("reranker: {type: cross_encoder, model: Qwen3-Reranker-4B}", "Set reranker.type to llm_yes_no"),
    ],
)
def test_a_config_that_no_query_could_use_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str, message: str
) -> None:
    (tmp_path / "ragstack.yaml").write_text(f"version: 1\n{config}\n")
    assert main(["config", "check", str(tmp_path / "ragstack.yaml")]) == 2
    assert message in capsys.readouterr().err
    assert main(["doctor", "-c", str(tmp_path / "ragstack.yaml")]) == 1
    assert message in capsys.readouterr().out
