"""PyTorch is imported by its profiles only, and its absence is named."""

from __future__ import annotations

import subprocess
import sys

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # as if it were not installed: importing it fails
from pathlib import Path
import ragstack.embedding.encoder, ragstack.reranking.cross_encoder, ragstack.assembly
assert not any(name.startswith(("transformers", "ragstack.inference.torch_")) for name in sys.modules)
from ragstack.errors import MissingExtraError
from ragstack.inference.opening import open_backend
from ragstack.inference.profile import Profile
from ragstack.inference.role import EMBEDDER
try:
    open_backend(None, Profile("torch", "cpu", "fp32"), "cpu", 1, "one_call", EMBEDDER)
except MissingExtraError as error:
    assert isinstance(error.__cause__, ImportError)
    print(error)
"""


def test_without_the_extra_only_torch_profiles_fail() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("pip install 'ragstack[torch]'")
