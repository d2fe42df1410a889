"""What is known of model architectures (``model_type`` of ``config.json``), for those who may not import a runtime."""

from __future__ import annotations

from ragstack.inference.model_files import read_json
from ragstack.inference.profile import ModelWeights, Profile
from ragstack.inference.role import ModelRole

BIDIRECTIONAL = {"llama_bidirec": "llama"}
"""Architectures that are a known one with its causal mask off; their own code, which comes with them, is not run."""

PACKED = frozenset(
    {
        *("bert", "camembert", "distilbert", "electra", "ernie", "eurobert", "gemma3_text", "llama", "mistral"),
        *("modernbert", "nomic_bert", "qwen2", "qwen3", "roberta", "xlm-roberta"),
    }
)
"""Architectures in which a token looks at others in attention only, so that PyTorch can run texts without padding.

Each has a test against `transformers` own padded run.
"""


def base_architecture(model_type: str) -> str:
    """The architecture as `transformers` knows it."""
    return BIDIRECTIONAL.get(model_type, model_type)


def packs(weights: ModelWeights, profile: Profile, role: ModelRole) -> bool:
    """Whether a profile computes a batch without its padding. Raises the role's error for files it can't read."""
    if profile.backend != "torch":
        return False
    config = read_json(weights.folder() / "config.json", role)
    return base_architecture(str(config.get("model_type"))) in PACKED
