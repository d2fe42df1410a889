from __future__ import annotations

import hashlib
import runpy
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.embedding.model_files import package_data, resolve_model
from ragstack.embedding.packaged_graph import with_graph


def hidden_states(model: bytes | Path, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return np.asarray(session.run(None, feed)[0])


def test_the_graph_computes_what_the_one_beside_the_weights_does() -> None:
    model = resolve_model("all-MiniLM-L6-v2")
    ids = np.random.default_rng(5).integers(1000, 30_000, (3, 200))
    mask = np.ones_like(ids)
    mask[1, 150:] = mask[2, 1:] = 0
    expected, found = hidden_states(model.path.read_bytes(), ids, mask), hidden_states(model.onnx(), ids, mask)
    read = mask.astype(bool)
    assert np.abs(found[read] - expected[read]).max() < 1e-4


def test_the_script_writes_the_graph_that_ships(repository: Path) -> None:
    pytest.importorskip("onnx")
    data = runpy.run_path(str(repository / "scripts" / "minilm_graph.py"))["build"]()
    shipped = package_data("all-MiniLM-L6-v2.onnx").read_bytes()
    assert hashlib.sha256(data).hexdigest() == hashlib.sha256(shipped).hexdigest()


def test_all_weights_are_in_the_new_model() -> None:
    onnx = pytest.importorskip("onnx")
    model = resolve_model("all-MiniLM-L6-v2")
    merged, own = onnx.load_from_string(model.onnx()), onnx.load(str(model.path))
    tensors = {tensor.name: tensor.SerializeToString() for tensor in merged.graph.initializer}
    assert all(tensors[tensor.name] == tensor.SerializeToString() for tensor in own.graph.initializer)
    read = {name for node in merged.graph.node for name in node.input}
    made = {name for node in merged.graph.node for name in node.output} | {item.name for item in merged.graph.input}
    assert read - made <= set(tensors)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_protobuf_are_told(data: bytes) -> None:
    try:
        merged = with_graph(data, b"")
    except ValueError as error:
        assert str(error).startswith("byte ")
    else:
        assert merged.startswith(b"\x3a")  # field 7, a message


@pytest.mark.parametrize("data", [b"\x3a", b"\x3a\x05ab", b"\xff" * 12, b"\x3b\x00"])
def test_a_file_that_is_cut_short(data: bytes) -> None:
    with pytest.raises(ValueError, match="byte"):
        with_graph(data, b"")
