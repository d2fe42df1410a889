"""From a profile to a loaded model. A runtime is imported only when one of its profiles is opened."""

from __future__ import annotations

from importlib import import_module
from typing import Literal, Protocol, TypeAlias, cast

from ragstack.inference.backend import Backend
from ragstack.inference.profile import BackendName, ModelWeights, Profile
from ragstack.inference.role import ModelRole

Use: TypeAlias = Literal["many_calls", "one_call"]
"""Whether a backend works on batch after batch, as many at a time as suit it, or on a single one now and then."""

BACKEND_MODULES: dict[BackendName, str] = {
    "onnxruntime": "ragstack.inference.onnx_backend",
    "openvino": "ragstack.inference.openvino_backend",
    "torch": "ragstack.inference.torch_backend",
    "tensorrt": "ragstack.inference.tensorrt_backend",
}


class _Opener(Protocol):
    def __call__(
        self, weights: ModelWeights, profile: Profile, device: str, threads: int, use: Use, role: ModelRole
    ) -> Backend: ...


def open_backend(
    weights: ModelWeights, profile: Profile, device: str, threads: int, use: Use, role: ModelRole
) -> Backend:
    """Load a model on a ``device`` (``cpu``, ``cuda:0``) with ``threads`` CPU threads in all.

    Raises MissingExtraError where the profile's runtime is not installed, and the role's error for a model that cannot
    be run.
    """
    opener = cast(_Opener, getattr(import_module(BACKEND_MODULES[profile.backend]), "open_backend"))  # noqa: B009
    return opener(weights, profile, device, threads, use, role)
