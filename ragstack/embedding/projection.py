"""The matrix by which a model's token vectors are shortened for storage. It belongs to the model, not to a corpus."""

from __future__ import annotations

import numpy as np

from ragstack.embedding.model_files import package_data
from ragstack.embedding.models import MODELS
from ragstack.errors import EmbeddingError
from ragstack.types import Float32Array


def token_projection(model_name: str) -> Float32Array | None:
    """The projection of a registered model, ``(dim, d) float32``, or None where no projection was fitted to it.

    Its columns are orthonormal: dot products of projected vectors approximate those of whole ones.
    Raises EmbeddingError when the shipped file is missing or damaged.
    """
    card = MODELS.get(model_name)
    if card is None or card.projection_file is None:
        return None
    path = package_data(card.projection_file)
    try:
        matrix = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise EmbeddingError(
            f"{path}: the token projection of {model_name} cannot be read: {error}.", hint="Reinstall ragstack."
        ) from error
    if matrix.ndim != 2 or matrix.shape[0] != card.dim or not 0 < matrix.shape[1] <= card.dim:
        raise EmbeddingError(
            f"{path}: the token projection has shape {matrix.shape}, expected ({card.dim}, d).",
            hint="Reinstall ragstack.",
        )
    projection: Float32Array = matrix.astype(np.float32)
    return projection
