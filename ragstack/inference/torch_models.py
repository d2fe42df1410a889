"""From a folder with ``config.json`` and safetensors to a module that gives hidden states or logits."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
)
from transformers import __version__ as transformers_version
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions
from transformers.utils import logging as transformers_logging

from ragstack.errors import DeviceMemoryError
from ragstack.inference.architectures import BIDIRECTIONAL, PACKED, base_architecture
from ragstack.inference.model_files import read_json
from ragstack.inference.profile import ModelWeights
from ragstack.inference.role import EMBEDDER, ModelRole
from ragstack.inference.torch_attention import PACKED_ATTENTION, Packing


@dataclass(frozen=True, eq=False)
class TextModel:
    """A loaded model. ``output`` is what :meth:`forward` gives: ``last_hidden_state`` or ``logits``.

    ``packs``: it computes no padding. ``pad_id`` is what its rows are filled up with.
    """

    output: str
    reads_types: bool
    packs: bool
    pad_id: int
    _compute: torch.nn.Module

    def forward(
        self, ids: torch.Tensor, real: torch.Tensor, types: torch.Tensor | None, packing: Packing | None
    ) -> torch.Tensor:
        """``(n, longest, dim)`` or ``(n, labels)`` of ids ``(n, longest)``; ``real`` is false in the padding."""
        # Numbers, as tokenizers give them: some architectures subtract the mask from 1.
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": real.to(torch.int64)}
        if types is not None:
            inputs["token_type_ids"] = types
        if packing is not None:
            inputs["packing"] = packing
        computed: torch.Tensor = self._compute(inputs)
        return computed


# Those that multiply by their weights, as torch.nn.RMSNorm does; Gemma's multiply by one more.
_PLAIN_RMS_NORMS = frozenset({"EuroBertRMSNorm", "LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"})

_models: weakref.WeakValueDictionary[tuple[str, ...], TextModel] = weakref.WeakValueDictionary()
_loading = threading.Lock()


def load_model(weights: ModelWeights, device: torch.device, dtype: torch.dtype, role: ModelRole) -> TextModel:
    """The model on a device; all who ask for the same one while it is in use share it.

    Raises DeviceMemoryError where the device has no room for it, and the role's error for files that can't be run.
    """
    key = (weights.sha256, role.key, str(weights.label_tokens), str(device), str(dtype))
    with _loading:
        found = _models.get(key)
        if found is None:
            _models[key] = found = _load(weights, device, dtype, role)
        return found


def _load(weights: ModelWeights, device: torch.device, dtype: torch.dtype, role: ModelRole) -> TextModel:
    folder = weights.folder()
    config, written = _read_config(folder, role)
    packs = config.model_type in PACKED
    hidden_only = role is EMBEDDER and not weights.label_tokens
    mapping = MODEL_MAPPING if hidden_only else MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    if weights.label_tokens:
        mapping = MODEL_FOR_CAUSAL_LM_MAPPING
    module = _read_weights(folder, config, mapping, PACKED_ATTENTION if packs else None, dtype, role)
    encoder = module.base_model
    # Asked for before the encoder is replaced: a model looks at its parts to tell where its words' rows are.
    words = _words(module, weights.label_tokens) if weights.label_tokens else None
    parameters = inspect.signature(encoder.forward).parameters
    reads_types = "token_type_ids" in parameters and getattr(config, "type_vocab_size", 0) > 1
    pad_id = config.pad_token_id
    if pad_id is None:
        # No token's id, so that heads which look for a text's last token find it. Packed, padding is never read.
        module.config.pad_token_id = pad_id = -1 if packs else 0
    if getattr(config, "is_causal", None) is False:
        for part in module.modules():
            if hasattr(part, "is_causal"):
                part.is_causal = False
    _fuse_norms(module)
    if packs:
        packed = _PackedEncoder(encoder)
        if encoder is not module:
            setattr(module, module.base_model_prefix, packed)
        encoder = packed
    compute = _head(module, encoder, words, written, hidden_only=hidden_only)
    output = "last_hidden_state" if hidden_only else "logits"
    return TextModel(output, reads_types, packs, pad_id, _on_device(compute, device, role).eval())


def _on_device(module: torch.nn.Module, device: torch.device, role: ModelRole) -> torch.nn.Module:
    try:
        return module.to(device)
    except torch.OutOfMemoryError as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0]
    # Outside of the handler, whose error holds on to what was copied so far.
    module.to("cpu")
    torch.cuda.empty_cache()
    raise DeviceMemoryError(
        f"{device} has no memory for the weights: {reason}", hint=f"Set {role.key}.device, or choose a smaller model."
    )


def _head(
    module: Any, encoder: Any, words: _Words | None, written: Mapping[str, Any], *, hidden_only: bool
) -> torch.nn.Module:
    """What of a model is run: nothing that only makes values which nobody asked for."""
    if hidden_only:
        return _HiddenStates(encoder)
    if words is not None:
        return _WordLogits(encoder, words)
    if written.get("model_type") == "llama_bidirec":
        temperature = written.get("temperature")
        return _MeanPooledLogits(encoder, module.score, float(temperature) if temperature else 1.0)
    return _Logits(module)


def _read_config(folder: Path, role: ModelRole) -> tuple[Any, dict[str, Any]]:
    """What ``config.json`` says: as ``transformers`` has it, and as it is written."""
    path = folder / "config.json"
    written = read_json(path, role)
    kind = str(written.get("model_type"))
    known = {key: value for key, value in written.items() if key not in ("auto_map", "model_type", "architectures")}
    if base_architecture(kind) not in CONFIG_MAPPING:
        raise role.error(
            f"{path}: transformers {transformers_version} knows no model of type {kind!r}.",
            hint="Install a newer transformers, or choose a model that needs no code of its own.",
        )
    try:
        config = CONFIG_MAPPING[base_architecture(kind)].from_dict(known)
    except Exception as error:  # the library checks settings in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise role.error(f"{path}: not settings of a {kind} model: {reason}", hint="Download it again.") from error
    if kind in BIDIRECTIONAL:
        config.is_causal = False
    config.use_cache = False
    return config, written


def _read_weights(
    folder: Path, config: Any, mapping: Any, attention: str | None, dtype: torch.dtype, role: ModelRole
) -> Any:
    if type(config) not in mapping:
        raise role.error(
            f"{folder}: transformers has no model of type {config.model_type!r} for {role.task}.",
            hint="Choose another model.",
        )
    kind = mapping[type(config)]
    options: dict[str, Any] = {}
    # Only some heads read what the pooler makes, and many checkpoints come without one.
    if mapping is MODEL_MAPPING and "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
        options["add_pooling_layer"] = False
    try:
        with _quiet():
            module, report = kind.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except Exception as error:  # files may be damaged in any way, and the library raises what it stumbles over
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise role.error(
            f"{folder}: the weights cannot be loaded: {reason}",
            hint="The folder needs config.json and model.safetensors (or its shards) that belong together.",
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise role.error(
            f"{folder}: {len(missing)} of the tensors that {kind.__name__} needs are missing, {missing[0]} for one.",
            hint=f"Choose a model that was trained for {role.task}; what is missing would be random.",
        )
    return module


def _fuse_norms(module: torch.nn.Module) -> None:
    """Norms as one kernel of PyTorch's instead of the six operations that `transformers` writes out."""
    for parent in list(module.modules()):
        children: list[tuple[str, Any]] = list(parent.named_children())
        for name, norm in children:
            if type(norm).__name__ in _PLAIN_RMS_NORMS:
                fused = torch.nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon, device="meta")
                fused.weight = norm.weight
                setattr(parent, name, fused)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and warnings: what matters of them is checked and raised."""
    log: Any = transformers_logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


class _PackedEncoder(torch.nn.Module):
    """Stands where a model has its encoder: takes and gives padded rows, and runs them as one row without padding."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self,
        input_ids: torch.Tensor,
        packing: Packing,
        token_type_ids: torch.Tensor | None = None,
        **_: Any,  # masks and what heads hand on; the packing says it all
    ) -> Any:
        indices = packing.indices
        inputs = {"input_ids": input_ids.flatten()[indices][None], "position_ids": self._positions(input_ids, indices)}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids.flatten()[indices][None]
        hidden = self.encoder(**inputs, packing=packing).last_hidden_state[0]
        rows = hidden.new_zeros(input_ids.numel(), hidden.shape[-1])
        rows[indices] = hidden
        padded = rows.unflatten(0, tuple(input_ids.shape))
        pooler = getattr(self.encoder, "pooler", None)
        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=padded, pooler_output=None if pooler is None else pooler(padded)
        )

    def _positions(self, input_ids: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        embeddings: Any = getattr(self.encoder, "embeddings", None)
        if not hasattr(embeddings, "create_position_ids_from_input_ids"):
            return (indices % input_ids.shape[1])[None]
        # RoBERTa's kind: the first position is not 0, and a padding token in the text has none.
        own: torch.Tensor = embeddings.create_position_ids_from_input_ids(input_ids, embeddings.padding_idx)
        return own.flatten()[indices][None]


class _HiddenStates(torch.nn.Module):
    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: Mapping[str, Any]) -> Any:
        return self.encoder(**inputs).last_hidden_state


class _Logits(torch.nn.Module):
    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Mapping[str, Any]) -> Any:
        return self.module(**inputs).logits


@dataclass(frozen=True)
class _Words:
    """What makes logits of a few words: ``rows`` ``(labels, dim)`` and ``bias`` ``(labels,)`` of the output layer.

    ``cap`` is what the model holds its logits below; None: nothing.
    """

    rows: torch.Tensor
    bias: torch.Tensor | None
    cap: float | None


def _words(module: Any, tokens: Sequence[int]) -> _Words:
    layer, kept = module.get_output_embeddings(), list(tokens)
    # In fp32: the answer is a small difference of two large numbers, of which bf16 keeps three digits.
    rows, bias = (
        None if values is None else values[kept].detach().float().clone() for values in (layer.weight, layer.bias)
    )
    assert rows is not None
    return _Words(rows, bias, getattr(module.config, "final_logit_softcapping", None))


class _WordLogits(torch.nn.Module):
    """The logits of a few words after the last token of each text, in fp32."""

    rows: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, encoder: Any, words: _Words) -> None:
        super().__init__()
        self.encoder = encoder
        self.cap = words.cap
        self.register_buffer("rows", words.rows)
        self.register_buffer("bias", words.bias)

    def forward(self, inputs: Mapping[str, Any]) -> Any:
        hidden = self.encoder(**inputs).last_hidden_state
        last = inputs["attention_mask"].sum(dim=1) - 1
        logits = linear(hidden[torch.arange(len(last), device=last.device), last].float(), self.rows, self.bias)
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


class _MeanPooledLogits(torch.nn.Module):
    """The head of NVIDIA's bidirectional Llama rerankers: a linear layer over the mean of the hidden states."""

    def __init__(self, encoder: Any, score: Any, temperature: float) -> None:
        super().__init__()
        self.encoder, self.score, self.temperature = encoder, score, temperature

    def forward(self, inputs: Mapping[str, Any]) -> Any:
        hidden, real = self.encoder(**inputs).last_hidden_state, inputs["attention_mask"].bool()
        mean = torch.where(real[:, :, None], hidden, 0).sum(dim=1, dtype=torch.float32) / real.sum(dim=1)[:, None]
        return self.score(mean.to(hidden.dtype)) / self.temperature
