from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.errors import EmbeddingError, MissingExtraError, RerankingError
from ragstack.inference.backend import TokenBatch
from ragstack.inference.opening import Use, open_backend
from ragstack.inference.profile import Profile, WeightsFormat
from ragstack.inference.role import EMBEDDER, RERANKER

FP32 = Profile("openvino", "cpu", "fp32")
TEXTS = [
    "The cat sat on the mat.",
    "",
    "How do I rotate an expired TLS certificate without downtime?",
    "Stock prices fell. " * 30,
    "def add(a: int, b: int) -> int:\n    return a + b",
    "猫 café 👩‍👧",
]


@pytest.fixture(scope="module")
def embedder() -> Iterator[EncoderEmbedder]:
    made = EncoderEmbedder(threads=2, profile="openvino-cpu-fp32")
    yield made
    made.close()


def test_agrees_with_the_reference(embedder: EncoderEmbedder) -> None:
    reference = EncoderEmbedder(threads=2, profile="onnxruntime-cpu-fp32")
    expected = reference.embed(TEXTS, "passage", ("dense", "tokens"))
    found = embedder.embed(TEXTS, "passage", ("dense", "tokens"))
    assert found.dense is not None and expected.dense is not None
    assert (found.dense * expected.dense).sum(axis=1).min() >= 0.99999
    assert found.tokens is not None and expected.tokens is not None
    for ours, theirs in zip(found.tokens, expected.tokens, strict=True):
        assert ours.byte_spans.tolist() == theirs.byte_spans.tolist()
        if len(ours):
            assert (ours.vectors * theirs.vectors).sum(axis=1).min() >= 0.9999
    # One model, whatever runs it: an index made with the one is searched with the other.
    assert embedder.info == reference.info
    assert (embedder.profile, embedder.device) == ("openvino-cpu-fp32", "cpu")
    reference.close()


def test_agrees_on_four_bit_weights_too() -> None:
    # OpenVINO rounds where ONNX Runtime shifts bytes, which a graph for both must not rest on.
    vectors = []
    for profile in ("onnxruntime-cpu-fp32", "openvino-cpu-fp32"):
        made = EncoderEmbedder("multilingual-e5-small", threads=2, profile=profile)
        vectors.append(made.embed(["Wie hoch ist der Eiffelturm?", "東京都の天気はどうですか。"], "query").dense)
        made.close()
    assert vectors[0] is not None and vectors[1] is not None
    assert (vectors[0] * vectors[1]).sum(axis=1).min() >= 0.99999


@pytest.fixture(scope="module")
def int8_embedder() -> Iterator[EncoderEmbedder]:
    made = EncoderEmbedder(threads=2, profile="openvino-cpu-int8")
    yield made
    made.close()


def test_arithmetic_in_int8_is_close(embedder: EncoderEmbedder, int8_embedder: EncoderEmbedder) -> None:
    found, expected = int8_embedder.embed(TEXTS, "passage").dense, embedder.embed(TEXTS, "passage").dense
    assert found is not None and expected is not None
    assert (found * expected).sum(axis=1).min() >= 0.99


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@settings(max_examples=8)
@given(texts=st.lists(st.text("abcdef ghij.é猫", min_size=1, max_size=400), min_size=2, max_size=12))
def test_a_text_gets_the_same_vector_alone_and_in_any_batch(
    embedder: EncoderEmbedder, int8_embedder: EncoderEmbedder, precision: str, texts: list[str]
) -> None:
    made = embedder if precision == "fp32" else int8_embedder
    batched = made.submit(texts, "passage").result().dense
    assert batched is not None
    for row, text in enumerate(texts):
        alone = made.embed([text], "passage").dense
        assert alone is not None and batched[row] @ alone[0] >= 0.99999


def test_calls_from_many_threads_do_not_mix(embedder: EncoderEmbedder) -> None:
    texts = [f"text {n} of some words" + " and more" * n for n in range(24)]
    expected = [embedder.embed([text], "query").dense for text in texts]
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda text: embedder.embed([text], "query").dense, texts * 4))
    for one, other in zip(expected * 4, found, strict=True):
        assert one is not None and other is not None
        assert one[0] @ other[0] >= 0.99999


class Weights:
    """An ONNX file's bytes as a model's weights."""

    sha256 = ""
    formats: frozenset[WeightsFormat] = frozenset({"onnx"})

    def __init__(self, data: bytes) -> None:
        self._data = data

    def onnx(self) -> bytes | Path:
        return self._data

    def folder(self) -> Path:
        raise AssertionError


def test_a_file_that_is_no_model() -> None:
    with pytest.raises(EmbeddingError, match="OpenVINO cannot load the model") as raised:
        open_backend(Weights(b"not a model"), FP32, "cpu", 1, "one_call", EMBEDDER)
    assert "embedder.profile to onnxruntime-cpu-fp32" in raised.value.hint


def small_model(inputs: dict[str, list[int | str]]) -> bytes:
    """A model that gives ids as numbers: ``(n, t, 1)``."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=kinds.FLOAT),
        helper.make_node("Unsqueeze", ["ids", "last"], ["last_hidden_state"]),
    ]
    if len(inputs) > 1:
        nodes[0] = helper.make_node("Add", list(inputs), ["sum"])
        nodes.insert(1, helper.make_node("Cast", ["sum"], ["ids"], to=kinds.FLOAT))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, kinds.INT64, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("last_hidden_state", kinds.FLOAT, ["n", "t", 1])],
        [helper.make_tensor("last", kinds.INT64, [1], [-1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(("use", "calls"), [("many_calls", 2), ("one_call", 1)])
def test_runs_on_the_threads_it_is_given(use: Use, calls: int) -> None:
    backend = open_backend(Weights(small_model({"input_ids": ["n", "t"]})), FP32, "cpu", 2, use, EMBEDDER)
    assert (backend.parallel_calls, backend.device, backend.outputs) == (calls, "cpu", ("last_hidden_state",))
    assert not backend.reads_types
    ids = np.array([[3, 4], [5, 0]], dtype=np.int64)
    found = backend.run(TokenBatch(ids, np.array([2, 1])), "last_hidden_state")
    assert backend.to_host(found).tolist() == [[[3], [4]], [[5], [0]]]
    # The next call must not write over what the last one gave.
    backend.run(TokenBatch(ids + 7, np.array([2, 1])), "last_hidden_state")
    assert backend.to_host(found).tolist() == [[[3], [4]], [[5], [0]]]
    backend.close()
    backend.close()


def test_inputs_that_nobody_can_give() -> None:
    weights = Weights(small_model({"input_ids": ["n", "t"], "pixel_values": ["n", "t"]}))
    with pytest.raises(RerankingError, match="the model reads input_ids, pixel_values; expected input_ids with any of"):
        open_backend(weights, FP32, "cpu", 1, "one_call", RERANKER)


def test_a_batch_that_fails_says_so_and_the_next_one_runs() -> None:
    weights = Weights(small_model({"input_ids": ["n", 4]}))
    backend = open_backend(weights, FP32, "cpu", 1, "one_call", EMBEDDER)
    for _ in range(3):
        with pytest.raises(EmbeddingError, match="OpenVINO failed on a batch of 1 x 3 tokens"):
            backend.run(TokenBatch(np.zeros((1, 3), dtype=np.int64), np.array([3])), "last_hidden_state")
    backend.run(TokenBatch(np.zeros((1, 4), dtype=np.int64), np.array([4])), "last_hidden_state")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "ragstack.inference.openvino_backend", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'ragstack\[openvino\]'"):
        import_module("ragstack.inference.openvino_backend")
