"""The PyTorch backend against `transformers`' own run of each text alone, fp32, random weights of the true shapes."""

from __future__ import annotations

import gc
import inspect
import itertools
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from torch.nn.attention import varlen  # noqa: E402

from ragstack.errors import DeviceMemoryError, EmbeddingError, RerankingError  # noqa: E402
from ragstack.inference.architectures import PACKED, packs  # noqa: E402
from ragstack.inference.backend import TokenBatch  # noqa: E402
from ragstack.inference.opening import open_backend  # noqa: E402
from ragstack.inference.profile import REFERENCE, Profile  # noqa: E402
from ragstack.inference.role import EMBEDDER, RERANKER, ModelRole  # noqa: E402
from ragstack.inference.torch_attention import VarlenKernel, varlen_kernel  # noqa: E402
from ragstack.inference.torch_backend import TorchBackend  # noqa: E402
from tests.torch_kit import SHAPES, FolderWeights, edit_config, make_model, random_batch, row  # noqa: E402

FP32 = Profile("torch", "cpu", "fp32")
LENGTHS = (70, 70, 41, 17, 16, 5, 1)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def opened(folder: Path, role: ModelRole = EMBEDDER, profile: Profile = FP32, **weights: Any) -> TorchBackend:
    backend = open_backend(FolderWeights(folder, **weights), profile, "cpu", 1, "one_call", role)
    assert isinstance(backend, TorchBackend)
    return backend


def hidden(backend: TorchBackend, batch: TokenBatch) -> np.ndarray:
    return backend.to_host(backend.run(batch, "last_hidden_state"))


def logits(backend: TorchBackend, batch: TokenBatch) -> np.ndarray:
    return backend.to_host(backend.run(batch, "logits"))


def inputs(batch: TokenBatch, *, types: bool) -> dict[str, Any]:
    given = {"input_ids": torch.from_numpy(batch.ids)}
    if types:
        given["token_type_ids"] = torch.from_numpy(batch.type_ids)
    return given


def own_run(model: Any, batch: TokenBatch, *, types: bool = False) -> list[Any]:
    """What the model gives for each text alone: no padding, no packing."""
    with torch.inference_mode():
        return [model(**inputs(row(batch, index), types=types)) for index in range(len(batch.counts))]


@pytest.mark.parametrize("model_type", SHAPES)
def test_hidden_states_are_the_models_own_for_a_text_alone_and_in_a_batch(model_type: str, tmp_path: Path) -> None:
    model = make_model(tmp_path, model_type)
    backend = opened(tmp_path)
    batch = random_batch(LENGTHS)
    together = hidden(backend, batch)
    assert together.shape == (len(LENGTHS), 70, 32) and together.dtype == np.float32
    for index, own in enumerate(own_run(model, batch)):
        expected = own.last_hidden_state[0].numpy()
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(together[index, : LENGTHS[index]], expected, atol=2e-5, rtol=1e-4)
        np.testing.assert_allclose(hidden(backend, row(batch, index))[0], expected, atol=2e-5, rtol=1e-4)


def test_every_architecture_that_is_packed_is_tested_here() -> None:
    assert set(SHAPES) >= PACKED


@pytest.mark.parametrize(
    "model_type", ["bert", "electra", "xlm-roberta", "modernbert", "distilbert", "mpnet", "deberta-v2"]
)
def test_a_cross_encoders_logits_are_the_models_own(model_type: str, tmp_path: Path) -> None:
    types = SHAPES[model_type].get("type_vocab_size", 2) > 1 and model_type in ("bert", "electra")
    model = make_model(tmp_path, model_type, "classifier", num_labels=1)
    backend = opened(tmp_path, RERANKER)
    assert backend.reads_types == types
    batch = random_batch(LENGTHS, types=True)
    together = logits(backend, batch)
    assert together.shape == (len(LENGTHS), 1)
    for index, own in enumerate(own_run(model, batch, types=types)):
        np.testing.assert_allclose(together[index], own.logits[0].numpy(), atol=2e-5, rtol=1e-4)
        np.testing.assert_allclose(logits(backend, row(batch, index))[0], together[index], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("pad_token_id", [None, 299])
@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen3"])
def test_a_decoder_with_a_score_head_reads_the_last_token(
    model_type: str, pad_token_id: int | None, tmp_path: Path
) -> None:
    model = make_model(tmp_path, model_type, "classifier", num_labels=2, pad_token_id=pad_token_id)
    backend = opened(tmp_path, RERANKER)
    batch = random_batch(LENGTHS, padding=299)
    together = logits(backend, batch)
    for index, own in enumerate(own_run(model, batch)):
        np.testing.assert_allclose(together[index], own.logits[0].numpy(), atol=2e-5, rtol=1e-4)


def test_bidirectional_llama_sees_what_follows(tmp_path: Path) -> None:
    """As nv-embedqa-1b: a Llama whose causal mask is off, by its own name or by ``is_causal`` of the config."""
    causal = make_model(tmp_path / "named", "llama")
    make_model(tmp_path / "flagged", "llama")
    edit_config(tmp_path / "named", model_type="llama_bidirec", architectures=["LlamaBidirectionalModel"])
    edit_config(tmp_path / "flagged", is_causal=False)
    batch = random_batch(LENGTHS)
    named, flagged = (hidden(opened(tmp_path / name), batch) for name in ("named", "flagged"))
    np.testing.assert_allclose(named, flagged, atol=1e-6)
    for layer in causal.layers:
        layer.self_attn.is_causal = False
    causal.config.is_causal = False
    for index, own in enumerate(own_run(causal, batch)):
        np.testing.assert_allclose(
            named[index, : LENGTHS[index]], own.last_hidden_state[0].numpy(), atol=2e-5, rtol=1e-4
        )


def test_gemma_that_looks_ahead_does_so_within_its_windows(tmp_path: Path) -> None:
    """As EmbeddingGemma."""
    model = make_model(tmp_path, "gemma3_text", use_bidirectional_attention=True)
    batch = random_batch(LENGTHS)
    found = hidden(opened(tmp_path), batch)
    for index, own in enumerate(own_run(model, batch)):
        np.testing.assert_allclose(
            found[index, : LENGTHS[index]], own.last_hidden_state[0].numpy(), atol=5e-5, rtol=1e-4
        )


def test_nvidias_llama_reranker_scores_the_mean(tmp_path: Path) -> None:
    model = make_model(tmp_path, "llama", "classifier", num_labels=1)
    edit_config(tmp_path, model_type="llama_bidirec", temperature=0.5)
    found = logits(opened(tmp_path, RERANKER), random_batch(LENGTHS))
    model.config.is_causal = False
    for layer in model.model.layers:
        layer.self_attn.is_causal = False
    for index, own in enumerate(own_run(model.model, random_batch(LENGTHS))):
        with torch.inference_mode():
            expected = model.score(own.last_hidden_state[0].mean(dim=0)) / 0.5
        np.testing.assert_allclose(found[index], expected.numpy(), atol=5e-5, rtol=1e-4)


def test_a_causal_language_model_gives_the_logits_of_the_words_asked_for(tmp_path: Path) -> None:
    model = make_model(tmp_path, "qwen3", "causal")
    backend = opened(tmp_path, RERANKER, label_tokens=(41, 7))
    batch = random_batch(LENGTHS)
    found = logits(backend, batch)
    for index, own in enumerate(own_run(model, batch)):
        np.testing.assert_allclose(found[index], own.logits[0, -1, [41, 7]].numpy(), atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize(("model_type", "fused"), [("llama", True), ("qwen3", True), ("gemma3_text", False)])
def test_norms_are_one_kernel_where_it_computes_the_same(model_type: str, fused: bool, tmp_path: Path) -> None:
    make_model(tmp_path, model_type)
    model = opened(tmp_path)._model
    assert model is not None
    norms = [part for part in model._compute.modules() if type(part).__name__.endswith("RMSNorm")]
    assert norms and all(isinstance(norm, torch.nn.RMSNorm) == fused for norm in norms)


def test_a_padding_token_within_a_text_has_the_position_that_the_model_gives_it(tmp_path: Path) -> None:
    model = make_model(tmp_path, "xlm-roberta")
    batch = random_batch((12, 9))
    batch.ids[0, 4] = batch.ids[1, 8] = model.config.pad_token_id
    found = hidden(opened(tmp_path), batch)
    for index, own in enumerate(own_run(model, batch)):
        np.testing.assert_allclose(
            found[index, : batch.counts[index]], own.last_hidden_state[0].numpy(), atol=2e-5, rtol=1e-4
        )


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [("qwen3", "causal"), ("bert", "classifier"), ("llama", "causal"), ("modernbert", "classifier")],
)
def test_an_encoder_is_found_in_a_checkpoint_of_a_larger_model(model_type: str, kind: str, tmp_path: Path) -> None:
    """As Qwen3-Embedding, which is published as a language model."""
    model = make_model(tmp_path, model_type, kind)
    batch = random_batch(LENGTHS)
    found = hidden(opened(tmp_path), batch)
    for index, own in enumerate(own_run(model.base_model, batch)):
        np.testing.assert_allclose(
            found[index, : LENGTHS[index]], own.last_hidden_state[0].numpy(), atol=5e-5, rtol=1e-4
        )


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_shards_of_any_precision_are_read(stored: torch.dtype, tmp_path: Path) -> None:
    model = make_model(tmp_path / "whole", "xlm-roberta").to(stored)
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    batch = random_batch(LENGTHS)
    found = hidden(opened(tmp_path / "shards"), batch)
    for index, own in enumerate(own_run(model.to(torch.float32), batch)):
        np.testing.assert_allclose(
            found[index, : LENGTHS[index]], own.last_hidden_state[0].numpy(), atol=2e-5, rtol=1e-4
        )


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.999), ("fp16", 0.99999)])
def test_half_precision_stays_close(precision: Any, least: float, tmp_path: Path) -> None:
    make_model(tmp_path, "xlm-roberta", initializer_range=0.05)
    batch = random_batch(LENGTHS)
    exact = hidden(opened(tmp_path), batch)
    backend = opened(tmp_path, profile=Profile("torch", "cpu", precision))
    found = hidden(backend, batch)
    assert found.dtype == np.float32
    for index, count in enumerate(LENGTHS):
        ours, theirs = found[index, :count].mean(axis=0), exact[index, :count].mean(axis=0)
        assert ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) >= least


def test_a_batch_gives_the_same_bits_every_time(tmp_path: Path) -> None:
    make_model(tmp_path, "modernbert")
    backend, batch = opened(tmp_path), random_batch(LENGTHS)
    np.testing.assert_array_equal(hidden(backend, batch), hidden(backend, batch))


def test_several_threads_may_run_at_once(tmp_path: Path) -> None:
    make_model(tmp_path, "bert")
    backend = opened(tmp_path)
    batches = [random_batch((40, 20 + seed, 3), seed=seed) for seed in range(8)]
    expected = [hidden(backend, batch) for batch in batches]
    before = torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: hidden(backend, batch), batches))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert torch.get_num_threads() == before


def test_backends_of_one_model_share_its_weights_until_the_last_is_closed(tmp_path: Path) -> None:
    make_model(tmp_path, "bert")
    first, second = opened(tmp_path), opened(tmp_path)
    assert first._model is second._model
    first.close()
    first.close()
    hidden(second, random_batch((3,)))
    with pytest.raises(EmbeddingError, match="closed"):
        first.run(random_batch((3,)), "last_hidden_state")


@pytest.mark.parametrize("model_type", ["xlm-roberta", "qwen3", "mpnet"])
def test_weights_are_gone_when_the_last_backend_is_closed(model_type: str, tmp_path: Path) -> None:
    make_model(tmp_path, model_type)
    backend = opened(tmp_path)
    hidden(backend, random_batch((4, 3)))
    assert backend._model is not None
    weights = weakref.ref(next(backend._model._compute.parameters()))
    gc.disable()  # which would find them later; a device's memory is needed now
    try:
        backend.close()
        assert weights() is None
    finally:
        gc.enable()


def test_many_calls_share_the_cores(tmp_path: Path) -> None:
    make_model(tmp_path, "bert")
    backend = open_backend(FolderWeights(tmp_path), FP32, "cpu", 3, "many_calls", EMBEDDER)
    seen: set[int] = set()
    assert isinstance(backend, TorchBackend) and backend._model is not None
    forward = backend._model._compute.encoder.encoder.forward

    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.add(torch.get_num_threads())
        return forward(*args, **kwargs)

    backend._model._compute.encoder.encoder.forward = noting
    thread = threading.Thread(target=backend.run, args=(random_batch((9,)), "last_hidden_state"))
    thread.start()
    thread.join()
    assert backend.parallel_calls == 3 and seen == {1}


def test_no_memory_left_is_said_so_that_a_smaller_batch_may_follow(tmp_path: Path) -> None:
    make_model(tmp_path, "bert")
    backend = opened(tmp_path)
    assert backend._model is not None
    encoder = backend._model._compute.encoder.encoder
    forward = encoder.forward

    def needs_much(input_ids: Any, **kwargs: Any) -> Any:
        if input_ids.numel() > 20:
            torch.empty(1 << 60, dtype=torch.uint8)  # the real allocator's refusal
        return forward(input_ids, **kwargs)

    encoder.forward = needs_much
    with pytest.raises(DeviceMemoryError, match="cpu has no memory left for a batch of 2 x 15 tokens") as raised:
        backend.run(random_batch((15, 15)), "last_hidden_state")
    assert raised.value.__context__ is None  # whose frames would keep the batch's tensors
    assert hidden(backend, random_batch((15,))).shape == (1, 15, 32)


def test_a_model_that_does_not_fit_is_told_from_one_that_cannot_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(tmp_path, "bert")
    move = torch.nn.Module.to

    def full(module: Any, device: Any) -> Any:
        if isinstance(device, torch.device):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return move(module, device)

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(DeviceMemoryError, match="no memory for the weights: CUDA out of memory"):
        opened(tmp_path)


def test_other_failures_name_the_batch(tmp_path: Path) -> None:
    make_model(tmp_path, "bert")
    batch = random_batch((4, 2))
    batch.ids[0, 0] = 10_000
    with pytest.raises(EmbeddingError, match="2 x 4 tokens: IndexError"):
        opened(tmp_path).run(batch, "last_hidden_state")


def test_tensors_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    make_model(tmp_path, "bert")
    with pytest.raises(RerankingError, match="classifier"):
        opened(tmp_path, RERANKER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "quantum_bert"}, "no model of type 'quantum_bert'"),
        ({"hidden_size": 48}, "cannot be loaded"),
        ({"hidden_size": "wide"}, "not settings of a bert model|cannot be loaded"),
    ],
)
def test_files_that_do_not_fit_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    make_model(tmp_path, "bert")
    edit_config(tmp_path, **changes)
    with pytest.raises(EmbeddingError, match=message) as raised:
        opened(tmp_path)
    assert str(tmp_path) in raised.value.message and raised.value.hint


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    make_model(tmp_path, "bert")
    (tmp_path / "model.safetensors").write_bytes(b"\x08" + b"\0" * 64)
    with pytest.raises(EmbeddingError, match="cannot be loaded"):
        opened(tmp_path)


def test_loading_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_model(tmp_path, "bert")
    capfd.readouterr()
    opened(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    make_model(tmp_path, "bert")
    with pytest.raises(EmbeddingError, match="does not run int8"):
        opened(tmp_path, profile=Profile("torch", "cpu", "int8"))
    with pytest.raises(EmbeddingError, match="cannot use cuda:97"):
        open_backend(FolderWeights(tmp_path), Profile("torch", "cuda", "bf16"), "cuda:97", 2, "many_calls", EMBEDDER)


def test_which_profiles_pack_is_known_before_anything_is_loaded(tmp_path: Path) -> None:
    make_model(tmp_path / "bert", "bert")
    make_model(tmp_path / "mpnet", "mpnet")
    assert packs(FolderWeights(tmp_path / "bert"), FP32, EMBEDDER)
    assert not packs(FolderWeights(tmp_path / "mpnet"), FP32, EMBEDDER)
    assert not packs(FolderWeights(tmp_path / "bert"), REFERENCE, EMBEDDER)


def varlen_stand_in(*args: Any, **kwargs: Any) -> Any:
    """What PyTorch's kernel, which runs on GPUs only, is documented to do; the arguments must fit its signature."""
    given = inspect.signature(varlen.varlen_attn).bind(*args, **kwargs).arguments
    query, key, value, starts = (given[name] for name in ("query", "key", "value", "cu_seq_q"))
    assert starts.dtype == torch.int32 and starts is given["cu_seq_k"] and given["max_q"] == given["max_k"]
    left, right = given["window_size"]
    if given.get("enable_gqa"):
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    assert query.shape == key.shape == value.shape
    out = torch.empty_like(query)
    for begin, end in itertools.pairwise(starts.tolist()):
        assert end - begin <= given["max_q"]
        at = torch.arange(end - begin)
        ahead = at - at[:, None]
        sees = ((right < 0) | (ahead <= right)) & ((left < 0) | (-ahead <= left))
        scores = torch.einsum("qhd,khd->hqk", query[begin:end], key[begin:end]) * given["scale"]
        weights = scores.masked_fill(~sees, -torch.inf).softmax(dim=-1)
        out[begin:end] = torch.einsum("hqk,khd->qhd", weights, value[begin:end])
    return out


@pytest.mark.parametrize("groups_heads", [True, False])
@pytest.mark.parametrize("model_type", ["bert", "modernbert", "qwen3", "mistral"])
def test_the_gpus_kernel_is_asked_for_the_same_attention(model_type: str, groups_heads: bool, tmp_path: Path) -> None:
    make_model(tmp_path, model_type)
    backend, batch = opened(tmp_path), random_batch(LENGTHS)
    expected = hidden(backend, batch)
    backend._kernel = VarlenKernel(varlen_stand_in, groups_heads, {"num_splits": 1})
    np.testing.assert_allclose(hidden(backend, batch), expected, atol=2e-5, rtol=1e-4)


def test_the_kernel_is_for_gpus_and_half_precision() -> None:
    assert varlen_kernel(torch.device("cpu"), torch.bfloat16) is None
    assert varlen_kernel(torch.device("cuda:0"), torch.float32) is None
