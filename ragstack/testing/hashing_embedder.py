"""A deterministic embedder without a model, whose vectors depend on the text so that ranking can be tested."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import get_args

import numpy as np

from ragstack.embedding.base import Embeddings, InputType, ModelInfo, Output
from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.errors import EmbeddingError, InputError, TextError
from ragstack.retrieval.word_vectors import digest, spelling_vector
from ragstack.types import Float32Array, Int32Array, TokenVectors, canonical_json, sha256_hex

_FORMAT = 1
_TOKEN = re.compile(r"\w+|[^\w\s]")
_MAX_TOKEN_CHARS = 12
_CACHE_LIMIT = 10_000  # about 18 MB at 384 dimensions


class HashingTokenizer:
    """Words of at most 12 characters and single marks, behind the Tokenizer protocol. Longer words are cut."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text."""
        return [len(self.char_spans(text)) for text in texts]

    def token_byte_spans(self, text: str) -> Int32Array:
        """Byte offsets (UTF-8 of ``text``) of each token: ``(n, 2) int32``, half-open, sorted."""
        spans = self.char_spans(text)
        if text.isascii():
            return np.array(spans, dtype=np.int32).reshape(-1, 2)
        found, position, offset = [], 0, 0
        for start, end in spans:
            offset += len(text[position:start].encode("utf-8"))
            length = len(text[start:end].encode("utf-8"))
            found.append((offset, offset + length))
            position, offset = end, offset + length
        return np.array(found, dtype=np.int32).reshape(-1, 2)

    def char_spans(self, text: str) -> list[tuple[int, int]]:
        """Character offsets of each token."""
        return [
            (start, min(start + _MAX_TOKEN_CHARS, match.end()))
            for match in _TOKEN.finditer(text)
            for start in range(match.start(), match.end(), _MAX_TOKEN_CHARS)
        ]


class HashingEmbedder:
    """An :class:`ragstack.embedding.base.Embedder` for tests and load trials, not for answers.

    A token's vector is made of the hashes of the word (in lower case) and of its character trigrams, so that equal
    words agree wholly and related ones in part; a text's dense vector is the normalised sum over its
    tokens. ``dim`` is the dimension of both, ``max_tokens`` the longest text that is read. Texts
    without tokens get a fixed vector. Results do not depend on the batch, the machine or the process.
    """

    def __init__(self, dim: int = 64, max_tokens: int = 8192, bm25: Bm25Encoder | None = None) -> None:
        if dim < 8 or max_tokens < 1:
            raise InputError(f"embedder: dim must be at least 8 and max_tokens at least 1; got {dim} and {max_tokens}.")
        self._dim = dim
        self._max_tokens = max_tokens
        self.bm25 = bm25 or Bm25Encoder()
        self.tokenizer = HashingTokenizer()
        self._vectors: dict[str, tuple[int, Float32Array]] = {}
        self._closed = False

    @cached_property
    def info(self) -> ModelInfo:
        """What the pipeline must know of the model."""
        identity = {"format": _FORMAT, "dim": self._dim, "sparse": self.bm25.fingerprint}
        return ModelInfo(
            name="hashing",
            dim=self._dim,
            max_tokens=self._max_tokens,
            token_dim=self._dim,
            languages=(),
            licence="Apache-2.0",
            fingerprint=sha256_hex(canonical_json(identity).encode("utf-8")),
        )

    def embed(self, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output] = ("dense",)) -> Embeddings:
        """Vectors of ``texts``, in their order; see :class:`ragstack.embedding.base.Embedder`."""
        if self._closed:
            raise EmbeddingError("the hashing embedder was closed.", hint="Make a new one.")
        if isinstance(texts, str) or input_type not in get_args(InputType) or not set(outputs) <= set(get_args(Output)):
            raise InputError(
                f"embed takes a list of texts, input_type query or passage, and outputs among dense, sparse, tokens; "
                f"got {type(texts).__name__}, {input_type!r}, {list(outputs)!r}."
            )
        tokens = tuple(self._token_vectors(index, text) for index, text in enumerate(texts))
        dense = None
        if "dense" in outputs:
            dense = np.zeros((len(texts), self._dim), dtype=np.float32)
            for row, found in enumerate(tokens):
                total = found.vectors.sum(axis=0)
                norm = float(np.linalg.norm(total))
                dense[row] = total / norm if norm > 1e-6 else self._vector("")[1]
        encode = self.bm25.encode_passage if input_type == "passage" else self.bm25.encode_query_terms
        sparse = tuple(encode(text) for text in texts) if "sparse" in outputs else None
        return Embeddings(dense=dense, sparse=sparse, tokens=tokens if "tokens" in outputs else None)

    def close(self) -> None:
        """Idempotent; embedding afterwards raises EmbeddingError."""
        self._closed = True

    def _token_vectors(self, index: int, text: str) -> TokenVectors:
        spans = self.tokenizer.char_spans(text)
        if len(spans) > self._max_tokens:
            raise TextError(
                index,
                f"{len(spans)} tokens; the hashing embedder reads at most {self._max_tokens}.",
                hint="Cut the text, or lower chunker.max_tokens.",
            )
        found = [self._vector(text[start:end].casefold()) for start, end in spans]
        return TokenVectors(
            vectors=np.stack([v for _, v in found]) if found else np.empty((0, self._dim), dtype=np.float32),
            token_ids=np.array([i for i, _ in found], dtype=np.int32),
            byte_spans=self.tokenizer.token_byte_spans(text),
        )

    def _vector(self, word: str) -> tuple[int, Float32Array]:
        known = self._vectors.get(word)
        if known is None:
            if len(self._vectors) >= _CACHE_LIMIT:
                self._vectors = {}
            identity = int.from_bytes(digest(word, 4), "little") & 0x7FFFFFFF
            known = self._vectors[word] = (identity, spelling_vector(word, self._dim))
        return known
