"""What is known of a model's token vectors so that they can be kept small. It belongs to the model, not to a corpus."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragstack.embedding.model_files import package_data
from ragstack.embedding.models import MODELS
from ragstack.errors import EmbeddingError
from ragstack.types import Float32Array


@dataclass(frozen=True, eq=False)
class TokenCompression:
    """Arrays fitted to a model by ``benchmarks/fit_token_codec.py``.

    ``projection`` ``(dim, d) float32``: its columns are orthonormal, so dot products of projected vectors approximate
    those of whole ones. ``steps`` ``(d,) float32``: the distance of two neighbouring levels of 4 bits in each
    projected dimension. ``pieces`` ``(v,) uint8``: for each id of the vocabulary, whether it begins a word (0), goes
    on with one (1), or is a stop word or punctuation and left out when it stands alone (2).
    """

    projection: Float32Array
    steps: Float32Array
    pieces: NDArray[np.uint8]


def token_compression(model_name: str) -> TokenCompression | None:
    """The compression of a registered model, or None where none was fitted to it.

    Raises EmbeddingError when the shipped file is missing or damaged.
    """
    card = MODELS.get(model_name)
    if card is None or card.token_compression_file is None:
        return None
    return _read(package_data(card.token_compression_file), model_name, card.dim)


@cache
def _read(path: Path, model_name: str, dim: int) -> TokenCompression:
    # Kept: a server asks for it with each request that ranks texts.
    try:
        with np.load(path, allow_pickle=False) as arrays:
            projection, steps, pieces = arrays["projection"], arrays["steps"], arrays["pieces"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise EmbeddingError(
            f"{path}: the token compression of {model_name} cannot be read: {error}.", hint="Reinstall ragstack."
        ) from error
    d = steps.size
    fits = projection.shape == (dim, d) and steps.shape == (d,) and 0 < d <= dim and pieces.ndim == 1
    if not fits:
        raise EmbeddingError(
            f"{path}: the token compression has a projection {projection.shape} and steps {steps.shape}, "
            f"expected ({dim}, d) and (d,).",
            hint="Reinstall ragstack.",
        )
    return TokenCompression(projection.astype(np.float32), steps.astype(np.float32), pieces.astype(np.uint8))
