"""Lengths of vectors, prompts, and dense layers: what lies between the pooled states and the vectors."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.embedding import model_options
from ragstack.embedding.dense_layers import read_dense_layer, read_safetensors
from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.embedding.model_files import resolve_model
from ragstack.embedding.model_options import with_options
from ragstack.embedding.models import MODELS
from ragstack.errors import EmbeddingError, InputError
from ragstack.inference.backend import TokenBatch
from ragstack.types import Float32Array
from tests.model_folder_kit import modules

TEXTS = ["The cat sat on the mat.", "Stock prices fell sharply.", "word " * 90]


@pytest.fixture(scope="module")
def whole() -> Iterator[EncoderEmbedder]:
    made = EncoderEmbedder(threads=1)
    yield made
    made.close()


def dense(embedder: EncoderEmbedder, texts: list[str] = TEXTS, kind: Any = "passage") -> Float32Array:
    found = embedder.embed(texts, kind).dense
    assert found is not None
    return found


def write_safetensors(path: Path, tensors: dict[str, Float32Array], dtype: str = "F32") -> None:
    """The format's own layout, by hand: ragstack does not need the library, nor do these tests."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in tensors.items():
        raw = {
            "F32": lambda t: t.astype("<f4").tobytes(),
            "F16": lambda t: t.astype("<f2").tobytes(),
            "BF16": lambda t: (t.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes(),
            "I64": lambda t: t.astype("<i8").tobytes(),
        }[dtype](tensor)
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


def write_dense(folder: Path, out: int, *, width: int = 384, seed: int = 0, **config: Any) -> tuple[Any, Any]:
    folder.mkdir()
    random = np.random.default_rng(seed)
    weight, bias = random.normal(size=(out, width)).astype(np.float32), random.normal(size=out).astype(np.float32)
    told = {"in_features": width, "out_features": out, "bias": True, **config}
    (folder / "config.json").write_text(json.dumps(told))
    write_safetensors(folder / "model.safetensors", {"linear.weight": weight, "linear.bias": bias})
    return weight, bias


# -- dimensions ----------------------------------------------------------------------------------------------------


def test_shorter_vectors_are_the_first_numbers_at_length_1(folder: Path, whole: EncoderEmbedder) -> None:
    short = EncoderEmbedder(str(folder), threads=1, dimensions=96)
    full = EncoderEmbedder(str(folder), threads=1)
    assert (short.info.dim, short.info.token_dim) == (96, 384)
    cut = dense(whole)[:, :96]
    assert dense(short) == pytest.approx(cut / np.linalg.norm(cut, axis=1, keepdims=True), abs=1e-5)
    tokens = short.embed(TEXTS[:1], "passage", ("tokens",)).tokens
    assert tokens is not None and tokens[0].vectors.shape[1] == 384
    assert short.info.fingerprint != full.info.fingerprint
    # Its own length changes nothing, and no index has to be built anew.
    assert EncoderEmbedder(str(folder), threads=1, dimensions=384).info.fingerprint == full.info.fingerprint


def test_lengths_that_a_model_does_not_have(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"all-MiniLM-L6-v2 was not trained for vectors of 100 numbers") as caught:
        EncoderEmbedder(dimensions=100)
    assert "Set it to 384" in caught.value.hint
    for size in (0, -1, 385):
        with pytest.raises(InputError, match=f"{size} is not between 1 and 384"):
            EncoderEmbedder(str(folder), dimensions=size)
    name = "all-MiniLM-L6-v2"
    monkeypatch.setitem(MODELS, name, replace(MODELS[name], matryoshka=(64, 128)))
    assert EncoderEmbedder(dimensions=128).info.dim == 128
    with pytest.raises(InputError, match="Set it to 64, 128 or 384, or leave it out"):
        EncoderEmbedder(dimensions=96)
    monkeypatch.setitem(MODELS, name, replace(MODELS[name], matryoshka=range(32, 384)))
    assert EncoderEmbedder(dimensions=33).info.dim == 33
    with pytest.raises(InputError, match="any from 32 to 384"):
        EncoderEmbedder(dimensions=31)


def test_a_length_that_no_file_speaks_of_is_believed_and_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    model_options._warn_once.cache_clear()
    for _ in range(2):
        EncoderEmbedder(str(folder), dimensions=128)
    assert caplog.text.count("cut from 384 to 128 numbers") == 1


# -- prompts -------------------------------------------------------------------------------------------------------


def test_prompts_of_the_config_go_before_the_models(folder: Path, whole: EncoderEmbedder) -> None:
    prompts = {"prompts": {"query": "q: ", "document": "d: ", "passage": "p: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    own = EncoderEmbedder(str(folder), threads=1)
    assert own.info.passage_prompt_tokens == 2
    assert dense(own) == pytest.approx(dense(whole, [f"d: {text}" for text in TEXTS]), abs=1e-5)
    given = EncoderEmbedder(str(folder), threads=1, query_prompt="ask: ", passage_prompt="")
    assert given.info.passage_prompt_tokens == 0
    assert dense(given) == pytest.approx(dense(whole), abs=1e-5)
    assert dense(given, kind="query") == pytest.approx(dense(whole, [f"ask: {text}" for text in TEXTS]), abs=1e-5)
    assert given.info.fingerprint != own.info.fingerprint


def test_an_instruction_takes_its_place_in_the_query_prompt(folder: Path) -> None:
    told = with_options(resolve_model(str(folder)), query_prompt="Instruct: Given a query, retrieve\nQuery:")
    found = with_options(told, instruction="Find the law\nthat applies")
    assert found.card.query_prompt == "Instruct: Find the law\nthat applies\nQuery:"
    with pytest.raises(InputError, match="my-model takes no instruction; its query prompt is ''"):
        EncoderEmbedder(str(folder), instruction="Find")
    with pytest.raises(InputError, match="query_prompt is set too"):
        with_options(told, instruction="Find", query_prompt="Instruct: x\nQuery:")
    qwen = replace(told, card=replace(MODELS["Qwen3-Embedding-0.6B"], name="qwen"))
    assert with_options(qwen, instruction="Find code").card.query_prompt == "Instruct: Find code\nQuery:"


@given(st.text(max_size=30))
def test_any_instruction_is_put_in_as_it_is(instruction: str) -> None:
    card = MODELS["Qwen3-Embedding-8B"]
    model = replace(_minilm(), card=card)
    assert with_options(model, instruction=instruction).card.query_prompt == f"Instruct: {instruction}\nQuery:"


def _minilm(made: list[Any] = []) -> Any:  # noqa: B006 - kept from one example to the next on purpose
    if not made:
        made.append(resolve_model("all-MiniLM-L6-v2"))
    return made[0]


# -- dense layers --------------------------------------------------------------------------------------------------


def test_dense_layers_are_computed(folder: Path, whole: EncoderEmbedder) -> None:
    (folder / "modules.json").write_text(modules("Transformer", "Pooling", "Dense", "Dense", "Normalize"))
    first = write_dense(folder / "2_Dense", 64)  # the hyperbolic tangent, where the file does not say
    second = write_dense(
        folder / "3_Dense", 32, width=64, seed=1, activation_function="torch.nn.modules.linear.Identity"
    )
    embedder = EncoderEmbedder(str(folder), threads=1)
    assert (embedder.info.dim, embedder.info.token_dim) == (32, 384)
    hidden = whole._engine.call(lambda backend: backend)  # the vectors' lengths matter to the tangent
    assert hidden is not None
    pooled = []
    for text in TEXTS:
        ids = np.array(whole.tokenizer.input_ids([text]), dtype=np.int64)
        states = hidden.run(TokenBatch(ids, np.array([ids.shape[1]])), hidden.outputs[0])
        pooled.append(np.asarray(states)[0].mean(axis=0))
    expected = np.tanh(np.array(pooled) @ first[0].T + first[1]) @ second[0].T + second[1]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert dense(embedder) == pytest.approx(expected, abs=1e-4)
    before = embedder.info.fingerprint
    write_safetensors(
        folder / "3_Dense" / "model.safetensors", {"linear.weight": second[0] * 2, "linear.bias": second[1]}
    )
    assert EncoderEmbedder(str(folder), threads=1).info.fingerprint != before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"activation_function": "torch.nn.modules.activation.GELU"}, "found torch.nn.modules.activation.GELU"),
        ({"use_residual": True}, "with a residual"),
        ({"module_input_name": "token_embeddings"}, "a layer that cannot be run"),
        ({"out_features": 0}, "out_features must be a positive"),
        ({"out_features": 63}, r"expected linear.weight \(63, 384\)"),
    ],
)
def test_dense_layers_that_cannot_be_run(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    write_dense(tmp_path / "layer", 64)
    told = {"in_features": 384, "out_features": 64, **config}
    (tmp_path / "layer" / "config.json").write_text(json.dumps(told))
    with pytest.raises(EmbeddingError, match=message):
        read_dense_layer(tmp_path / "layer")


def test_dense_layers_must_fit_one_another(folder: Path) -> None:
    (folder / "modules.json").write_text(modules("Transformer", "Pooling", "Dense"))
    write_dense(folder / "2_Dense", 64, width=100)
    with pytest.raises(EmbeddingError, match="reads 100 numbers, and gets 384"):
        resolve_model(str(folder))
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(EmbeddingError, match=r"the layer has no model\.safetensors"):
        resolve_model(str(folder))


@pytest.mark.parametrize(("dtype", "most"), [("F32", 0.0), ("F16", 1e-3), ("BF16", 1e-2)])
def test_safetensors_are_read(tmp_path: Path, dtype: str, most: float) -> None:
    made = {"a": np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32), "b": np.ones(2, np.float32)}
    write_safetensors(tmp_path / "x.safetensors", made, dtype)
    found = read_safetensors(tmp_path / "x.safetensors")
    assert set(found) == {"a", "b"} and found["a"].dtype == np.float32
    assert found["a"] == pytest.approx(made["a"], rel=most, abs=1e-6)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader_of_safetensors(data: bytes) -> None:
    path = Path(_scratch()) / "x.safetensors"
    for content in (data, struct.pack("<Q", len(data)) + data, struct.pack("<Q", 2**60) + data):
        path.write_bytes(content)
        try:
            read_safetensors(path)
        except EmbeddingError as error:
            assert "not a safetensors file" in error.message


def test_safetensors_of_other_numbers_are_refused(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x.safetensors", {"a": np.ones(2, np.float32)}, "I64")
    with pytest.raises(EmbeddingError, match="a tensor of I64"):
        read_safetensors(tmp_path / "x.safetensors")


def _scratch(made: list[str] = []) -> str:  # noqa: B006 - one folder for all examples
    if not made:
        made.append(tempfile.mkdtemp())
    return made[0]
