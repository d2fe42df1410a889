"""How many tokens a batch takes where nobody says: the defaults of all uses and devices, in one place."""

from __future__ import annotations

from typing import Literal, TypeAlias

from ragstack.inference.profile import BackendName, Profile

BatchUse: TypeAlias = Literal["offline", "online", "reranking"]
"""Many texts at a time (the index path), those of many clients (a server), pairs of a query and passages."""

_ON_CPU: dict[BackendName, int] = {"onnxruntime": 512, "openvino": 512, "torch": 2048}
"""Of a call, for every use: what was measured to be fastest, for each runtime (docs/models.md)."""

_ON_GPU: dict[BatchUse, int] = {"offline": 131_072, "online": 65_536, "reranking": 32_768}
"""Large batches keep a GPU busy; those of a server are smaller, for every client in one waits for all of it."""

_ONLINE_PER_CORE = 1024
"""What a server hands to a model on a CPU at a time: smaller ones leave cores idle, larger ones embed no more texts a
second and keep short requests waiting (docs/model-server.md)."""


def default_batch_tokens(profile: Profile, use: BatchUse = "offline") -> int:
    """The token budget of one call of a model, padding counted."""
    if profile.device_type == "cpu":
        return _ON_CPU[profile.backend]
    return _ON_GPU[use]


def shared_batch_tokens(device: str, use: BatchUse, cores: int) -> int:
    """How many tokens of all clients a server hands to a model at a time, which runs on ``device`` (``cuda:0``)."""
    return _ON_GPU[use] if device.startswith("cuda") else _ONLINE_PER_CORE * cores
