"""A profile: which runtime runs a model, on what kind of device, in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

BackendName: TypeAlias = Literal["tensorrt", "onnxruntime", "openvino", "torch"]
DeviceType: TypeAlias = Literal["cuda", "cpu"]
Precision: TypeAlias = Literal["fp32", "bf16", "fp16", "fp8", "int8"]
WeightsFormat: TypeAlias = Literal["onnx", "safetensors"]


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to run a model. ``precision`` is that of the arithmetic, not of the stored weights."""

    backend: BackendName
    device_type: DeviceType
    precision: Precision

    @property
    def name(self) -> str:
        """What configs, messages and the log call it: ``onnxruntime-cpu-fp32``."""
        return f"{self.backend}-{self.device_type}-{self.precision}"


REFERENCE = Profile("onnxruntime", "cpu", "fp32")
"""What every installation can run."""


class ModelWeights(Protocol):
    """A model's files as backends need them; nothing is read before it is asked for."""

    @property
    def sha256(self) -> str:
        """What names the weights."""

    @property
    def formats(self) -> frozenset[WeightsFormat]:
        """The forms in which they are at hand."""

    @property
    def max_tokens(self) -> int:
        """The most tokens of one input, special ones included."""

    @property
    def parameters(self) -> int:
        """How many numbers they hold; 0 where nobody knows."""

    @property
    def label_tokens(self) -> tuple[int, ...]:
        """Of a causal language model that answers with one word: those words' tokens.

        Their logits after a text's last token are then the output ``logits`` ``(n, labels)``, and no others are made.
        Empty: the model has the head that its role asks for.
        """

    def onnx(self) -> bytes | Path:
        """The graph with its weights, checked: bytes, or a path where the tensors lie in a file beside it."""

    def folder(self) -> Path:
        """A folder with ``config.json`` and ``model.safetensors`` (or its shards), as ``transformers`` reads it."""
