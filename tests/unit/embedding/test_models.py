from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstack.embedding import model_files
from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.embedding.model_files import package_data, resolve_model
from ragstack.embedding.models import MODELS, ModelCard, PackagedFiles
from ragstack.embedding.token_compression import token_compression
from ragstack.errors import EmbeddingError, InputError
from ragstack.inference.backend import TokenBatch
from ragstack.inference.onnx_backend import open_onnx
from ragstack.inference.role import EMBEDDER
from ragstack.inference.threads import _cgroup_quota, usable_cores
from ragstack.types import sha256_hex
from tests.model_folder_kit import modules, packaged_weights


def test_registered_model_is_pinned_and_licensed() -> None:
    card = MODELS["all-MiniLM-L6-v2"]
    assert isinstance(card.files, PackagedFiles)
    assert sha256_hex(packaged_weights().read_bytes()) == card.files.weights_sha256
    assert sha256_hex(package_data(card.files.vocab_file).read_bytes()) == card.files.vocab_sha256
    assert packaged_weights().stat().st_size == card.size_bytes
    assert "Apache" in package_data("NOTICE").read_text(encoding="utf-8")


def test_folder_gives_the_vectors_of_the_same_weights(folder: Path) -> None:
    texts = ["The cat sat on the mat.", "word " * 200]
    embedder = EncoderEmbedder(str(folder), threads=1)
    assert embedder.info.name == "my-model" and embedder.info.dim == 384 and embedder.info.max_tokens == 254
    found, expected = embedder.embed(texts, "passage").dense, EncoderEmbedder(threads=1).embed(texts, "passage").dense
    assert found is not None and expected is not None
    assert (found * expected).sum(axis=1).min() > 0.99999
    with pytest.raises(EmbeddingError, match="reads at most 254"):
        embedder.embed(["word " * 255], "passage")


def test_folder_with_cls_pooling_and_prompts(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    prompts = {"prompts": {"query": "query: ", "document": "pässage: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    embedder = EncoderEmbedder(str(folder), threads=1)
    plain = EncoderEmbedder(threads=1)
    query, passage = (embedder.embed(["black cats"], kind, ("dense", "tokens")) for kind in ("query", "passage"))
    assert query.dense is not None and passage.dense is not None and passage.tokens is not None
    assert query.dense[0] @ passage.dense[0] < 0.999
    whole = plain.embed(["pässage: black cats"], "passage", ("tokens",)).tokens
    assert whole is not None
    assert passage.tokens[0].byte_spans.tolist() == [[0, 5], [6, 10]]
    assert (passage.tokens[0].vectors * whole[0].vectors[-2:]).sum(axis=1).min() > 0.99999
    assert embedder.info.fingerprint != EncoderEmbedder(str(folder.parent / "my-model"), threads=1).info.name


def test_folder_path_may_be_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent.parent)
    for name in ("org/my-model", "./org/my-model"):
        assert resolve_model(name).card.name == "my-model"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("onnx/model.onnx", None, "neither model.onnx nor onnx/model.onnx nor model.safetensors"),
        ("config.json", None, "config.json: cannot be read"),
        ("config.json", "{", "config.json: not JSON"),
        ("config.json", "[]", "expected a JSON object"),
        ("config.json", '{"hidden_size": "x"}', "max_position_embeddings must be|hidden_size must be"),
        ("tokenizer.json", None, "tokenizer.json: a file of the embedding model cannot be read"),
        ("tokenizer.json", "{}", "not a tokenizer"),
        ("modules.json", modules("Transformer", "Pooling", "CNN"), "the layer CNN"),
        ("modules.json", modules("Transformer", "Normalize", "Pooling"), "in the order Transformer, Normalize"),
        ("modules.json", '[{"type": "custom_st.Transformer"}]', "layer custom_st.Transformer, which is code"),
        ("modules.json", '{"a": 1}', "not a list of modules"),
        ("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}', "found pooling_mode_max_tokens"),
        ("1_Pooling/config.json", '{"pooling_mode": "weightedmean"}', "found pooling_mode_weightedmean"),
        ("1_Pooling/config.json", '{"pooling_mode": ["mean", "cls"]}', "found pooling_mode_mean and pooling_mode_cls"),
        ("1_Pooling/config.json", '{"pooling_mode": "mean", "include_prompt": false}', "leaves the prompt out"),
        ("config_sentence_transformers.json", '{"prompts": ["a"]}', "prompts must be an object"),
    ],
)
def test_names_what_is_wrong_with_a_folder(folder: Path, file: str, content: str | None, message: str) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(EmbeddingError, match=message):
        resolve_model(str(folder))


def test_refuses_weights_that_cannot_run(folder: Path) -> None:
    (folder / "onnx" / "model.onnx").write_bytes(b"no model")
    with pytest.raises(EmbeddingError, match="cannot load the model"):
        EncoderEmbedder(str(folder)).embed(["a"], "query")


def test_refuses_a_dimension_that_is_not_the_files(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"hidden_size": 128, "max_position_embeddings": 512}))
    with pytest.raises(EmbeddingError, match="gives 384 dimensions; its files say 128"):
        EncoderEmbedder(str(folder)).embed(["a"], "query")


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "forged_model").mkdir()
    (tmp_path / "forged_model" / "__init__.py").write_text("")
    data = bytearray(packaged_weights().read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "forged_model" / "model.onnx").write_bytes(data)
    monkeypatch.syspath_prepend(str(tmp_path))
    card = MODELS["all-MiniLM-L6-v2"]
    assert isinstance(card.files, PackagedFiles)
    files = replace(card.files, package="forged_model")
    monkeypatch.setitem(MODELS, "forged", ModelCard("forged", files, 384, 510, "mean", ("en",), "Apache-2.0", 1))
    with pytest.raises(EmbeddingError, match=r"SHA-256 is [0-9a-f]{64}, expected 8199be6f"):
        EncoderEmbedder("forged").embed(["a"], "query")


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    files = PackagedFiles("no_such_weights_package", "model.onnx", "0" * 64, "v", "0" * 64, "g", "0" * 64)
    monkeypatch.setitem(MODELS, "absent", ModelCard("absent", files, 384, 510, "mean", (), "x", 1))
    with pytest.raises(EmbeddingError, match="no package no_such_weights_package"):
        resolve_model("absent")


@pytest.mark.parametrize(
    ("model", "revision", "message"),
    [
        ("all-minilm-l6-v2", None, "Did you mean 'all-MiniLM-L6-v2'"),
        ("./no/such/folder", None, "there is no folder"),
        ("/no/such/folder", None, "there is no folder"),
        ("org/model", None, "must be pinned, but has no revision"),
        ("org/model", "main", "the branch 'main'"),
        ("all-MiniLM-L6-v2", "v1", "is not a Hugging Face id"),
        ("no model at all", None, "unknown model"),
        ("no model at all", "v1", "unknown model"),
    ],
)
def test_refuses_what_names_no_model(model: str, revision: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_model(model, revision)


@pytest.mark.parametrize("offline", [True, False])
def test_hub_that_cannot_be_reached_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    import huggingface_hub.constants

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("network is unreachable")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(EmbeddingError) as caught:
        resolve_model("no-such-org/no-such-model", "v1.0")
    assert "'no-such-org/no-such-model' at revision 'v1.0' could not be downloaded" in caught.value.message
    assert "set embedder.model to that folder" in caught.value.hint and "HF_HUB_OFFLINE" in caught.value.hint
    assert caught.value.__cause__ is not None


def test_hub_model_is_run_from_its_snapshot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def snapshot_download(repo_id: str, *, revision: str, allow_patterns: list[str]) -> str:
        asked.append((repo_id, revision))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    found = resolve_model("org/some-model", "abc123")
    assert asked == [("org/some-model", "abc123")] and found.card.name == "org/some-model"


def test_token_compression_belongs_to_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "all-MiniLM-L6-v2"
    found = token_compression(name)
    assert found is not None and found.projection.shape == (384, 96) and found.projection.dtype == np.float32
    assert np.abs(found.projection.T @ found.projection - np.eye(96)).max() < 2e-3
    assert found.steps.shape == (96,) and (found.steps > 0).all()
    vocabulary = EncoderEmbedder(name).tokenizer.vocabulary
    assert len(vocabulary) == len(found.pieces) == 30_522
    kinds = dict(zip(vocabulary, found.pieces.tolist(), strict=True))
    assert [kinds[entry] for entry in ("house", "##ing", "the", ",", "7")] == [0, 1, 2, 2, 0]
    assert token_compression("some/other-model") is None

    monkeypatch.setattr("ragstack.embedding.token_compression.package_data", lambda name: tmp_path / name)
    with pytest.raises(EmbeddingError, match="cannot be read"):
        token_compression(name)
    (tmp_path / f"{name}.tokens.npz").write_bytes(b"PK no archive")
    with pytest.raises(EmbeddingError, match="cannot be read"):
        token_compression(name)
    np.savez(tmp_path / f"{name}.tokens.npz", projection=np.zeros((3, 2)), steps=np.ones(2), pieces=np.zeros(9))
    with pytest.raises(EmbeddingError, match=r"projection \(3, 2\) and steps \(2,\), expected \(384, d\)"):
        token_compression(name)


def test_an_onnx_backend_takes_a_path() -> None:
    backend = open_onnx(packaged_weights(), 1, EMBEDDER)
    hidden = backend.run(TokenBatch(np.array([[101, 4937, 102, 0]]), np.array([3])), backend.outputs[0])
    assert hidden.shape == (1, 4, 384) and hidden.dtype == np.float32


def test_usable_cores_respects_the_quota(tmp_path: Path) -> None:
    assert usable_cores() >= 1
    membership, mount = tmp_path / "cgroup", tmp_path / "fs"
    group = mount / "a" / "b"
    group.mkdir(parents=True)
    assert _cgroup_quota(membership, mount) is None
    membership.write_text("0::/a/b\n")
    assert _cgroup_quota(membership, mount) is None
    (group / "cpu.max").write_text("max 100000\n")
    assert _cgroup_quota(membership, mount) is None
    (group.parent / "cpu.max").write_text("150000 100000\n")
    assert _cgroup_quota(membership, mount) == 1.5
    (mount / "cpu" / "c").mkdir(parents=True)
    membership.write_text("4:memory:/c\n3:cpu,cpuacct:/c\n")
    (mount / "cpu,cpuacct" / "c").mkdir(parents=True)
    (mount / "cpu,cpuacct" / "c" / "cpu.cfs_quota_us").write_text("200000")
    (mount / "cpu,cpuacct" / "c" / "cpu.cfs_period_us").write_text("100000")
    assert _cgroup_quota(membership, mount) == 2.0


def test_unpinned_names_do_not_import_the_hub_client() -> None:
    import subprocess
    import sys

    code = (
        "import sys, ragstack.embedding.model_files as m; m.resolve_model('all-MiniLM-L6-v2');"
        "sys.exit('huggingface_hub' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert model_files.__name__ == "ragstack.embedding.model_files"
