"""An embedder for load trials: passages' vectors are put together from ones that the real model gave before.

A passage is tokenised as ever. Each of its tokens gets a vector that the model gave that very word piece in another
text, turned a little by noise, and the dense vector is their mean. So numbers, lengths, word pieces and
distributions are real, and only the meaning is not; an index of 100,000 chunks takes minutes instead of hours.
Queries go to the model itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragstack.embedding.base import Embeddings, InputType, ModelInfo, Output
from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.embedding.tokenizer import TextTokenizer
from ragstack.types import Float32Array, TokenVectors

NOISE = 0.3
"""Length of the noise beside a token vector of length 1."""

_EXAMPLES = 8


class ReplayedEmbedder:
    """An :class:`ragstack.embedding.base.Embedder`; ``texts`` are what the model is given to learn its vectors from."""

    def __init__(self, model: EncoderEmbedder, texts: Sequence[str], seed: int = 3) -> None:
        self._model = model
        self._rng = np.random.default_rng(seed)
        found = model.embed(texts, "passage", ("tokens",)).tokens or ()
        vectors = np.concatenate([tokens.vectors for tokens in found])
        ids = np.concatenate([tokens.token_ids for tokens in found])
        size = len(model.tokenizer.vocabulary)
        # Pieces that the texts do not have get vectors of others.
        self._examples = self._rng.integers(0, len(vectors), (size, _EXAMPLES))
        order = self._rng.permutation(len(ids))
        for column in range(_EXAMPLES):
            self._examples[ids[order], column] = order
            order = np.roll(order, len(order) // _EXAMPLES)
        self._vectors = vectors
        self._noise = self._rng.standard_normal((4096, vectors.shape[1])).astype(np.float32)
        self._noise *= NOISE / np.linalg.norm(self._noise, axis=1, keepdims=True)

    @property
    def info(self) -> ModelInfo:
        """The real model's: an index of these vectors is asked with the real model."""
        return self._model.info

    @property
    def tokenizer(self) -> TextTokenizer:
        """The real model's."""
        return self._model.tokenizer

    def embed(self, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output] = ("dense",)) -> Embeddings:
        """See the module; ``sparse`` is not offered."""
        if input_type == "query":
            return self._model.embed(texts, input_type, outputs)
        found = [self._passage(ids, spans) for ids, spans in self.tokenizer.ids_and_spans(texts)]
        means = np.stack([tokens.vectors.mean(axis=0) for tokens in found]) if found else np.zeros((0, self.info.dim))
        dense = (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)
        return Embeddings(dense=dense, tokens=tuple(found) if "tokens" in outputs else None)

    def close(self) -> None:
        """The real model belongs to the caller."""

    def _passage(self, ids: list[int], spans: np.ndarray) -> TokenVectors:
        own = np.array(ids[self.tokenizer.content(len(ids))], dtype=np.int32)
        rows = self._examples[own, self._rng.integers(0, _EXAMPLES, len(own))]
        noise = self._noise[self._rng.integers(0, len(self._noise), len(own))]
        vectors: Float32Array = self._vectors[rows] + noise
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return TokenVectors(vectors, own, spans.astype(np.int32))
