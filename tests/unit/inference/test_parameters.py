from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.embedding.model_files import resolve_model
from ragstack.errors import EmbeddingError
from ragstack.inference.parameters import count_parameters
from ragstack.inference.role import EMBEDDER


def test_numbers_are_counted_by_the_headers_of_safetensors(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros(5, np.float32)}, tmp_path / "1", {"format": "pt"})
    save_file({"c": np.zeros((), np.int8)}, tmp_path / "2")
    assert count_parameters(None, [tmp_path / "1", tmp_path / "2"], EMBEDDER) == 3 * 4 + 5 + 1


def test_without_safetensors_the_size_of_the_graph_is_taken(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(bytes(400))
    assert count_parameters(tmp_path / "model.onnx", (), EMBEDDER) == 100
    (tmp_path / "model.onnx_data").write_bytes(bytes(4000))
    assert count_parameters(tmp_path / "model.onnx", (), EMBEDDER) == 1100
    assert count_parameters(None, (), EMBEDDER) == 0
    assert resolve_model("all-MiniLM-L6-v2").parameters > 5_000_000


def with_length(value: object) -> bytes:
    header = json.dumps(value).encode()
    return len(header).to_bytes(8, "little") + header


JSON = st.recursive(st.none() | st.integers() | st.text(), st.lists)


@given(st.binary(max_size=40) | JSON.map(with_length))
def test_what_is_no_safetensors_is_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(EmbeddingError, match="no safetensors file"):
        count_parameters(None, [path], EMBEDDER)
