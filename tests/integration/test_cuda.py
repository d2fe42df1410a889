"""What only a GPU can run: the PyTorch backend on CUDA against the same model on the CPU, fp32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstack.errors import DeviceMemoryError
from ragstack.inference.opening import open_backend
from ragstack.inference.profile import Precision, Profile
from ragstack.inference.role import EMBEDDER, RERANKER, ModelRole
from tests.torch_kit import SHAPES, FolderWeights, make_model, random_batch

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

LENGTHS = (190, 190, 120, 64, 17, 5, 1)
HEAD_DIM_64 = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 128, "initializer_range": 0.05}


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def run(
    folder: Path, device: str, precision: Precision, output: str = "last_hidden_state", **options: Any
) -> np.ndarray:
    role: ModelRole = options.get("role", EMBEDDER)
    profile = Profile("torch", "cpu" if device == "cpu" else "cuda", precision)
    backend = open_backend(FolderWeights(folder), profile, device, 2, "many_calls", role)
    found = backend.to_host(backend.run(random_batch(options.get("lengths", LENGTHS)), output))
    backend.close()
    return found


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("bf16", 0.999), ("fp16", 0.9999)])
@pytest.mark.parametrize("model_type", ["xlm-roberta", "modernbert", "llama", "qwen3", "mistral", "mpnet"])
def test_states_are_those_of_the_cpu(model_type: str, precision: Precision, least: float, tmp_path: Path) -> None:
    heads = {"num_key_value_heads": 1, "head_dim": 64} if "num_key_value_heads" in SHAPES[model_type] else {}
    make_model(tmp_path, model_type, **HEAD_DIM_64, **heads)
    expected, found = run(tmp_path, "cpu", "fp32"), run(tmp_path, "cuda:0", precision)
    for index, count in enumerate(LENGTHS):
        ours, theirs = found[index, :count].mean(axis=0), expected[index, :count].mean(axis=0)
        assert ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) >= least


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_are_those_of_the_cpu(precision: Precision, tmp_path: Path) -> None:
    make_model(tmp_path, "xlm-roberta", "classifier", num_labels=1, **HEAD_DIM_64)
    expected, found = (
        run(tmp_path, device, given, "logits", role=RERANKER)
        for device, given in (("cpu", "fp32"), ("cuda:0", precision))
    )
    np.testing.assert_allclose(found, expected, atol=1e-4 if precision == "fp32" else 5e-2)


def test_no_memory_left_is_said_and_the_next_batch_runs(tmp_path: Path) -> None:
    make_model(tmp_path, "bert", hidden_size=512, intermediate_size=4096)
    backend = open_backend(
        FolderWeights(tmp_path), Profile("torch", "cuda", "fp32"), "cuda:0", 2, "many_calls", EMBEDDER
    )
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2**30 / total))
    with pytest.raises(DeviceMemoryError, match="cuda:0 has no memory left"):
        backend.run(random_batch([199] * 2000), "last_hidden_state")
    assert backend.to_host(backend.run(random_batch((7,)), "last_hidden_state")).shape == (1, 7, 512)
    backend.close()
