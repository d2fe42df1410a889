"""How many tokens a batch takes where nobody says: what was measured to be fastest, for each runtime."""

from __future__ import annotations

from ragstack.inference.profile import BackendName, Profile

_ON_CPU: dict[BackendName, int] = {"onnxruntime": 512, "openvino": 1024, "torch": 2048}
_ON_GPU = 131_072


_PAIRS_ON_GPU = 32_768


def default_batch_tokens(profile: Profile) -> int:
    """The token budget of a batch, padding counted, for many texts at a time (docs/models.md)."""
    return _ON_CPU[profile.backend] if profile.device_type == "cpu" else _ON_GPU


def default_pair_tokens(profile: Profile) -> int:
    """The token budget of a batch of a query's pairs, padding counted."""
    return _ON_CPU[profile.backend] if profile.device_type == "cpu" else _PAIRS_ON_GPU
