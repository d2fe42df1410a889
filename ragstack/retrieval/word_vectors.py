"""Words compared by their spelling: what stands in for token vectors where the embedding model gives none.

The quotes of an answer are looked for, and their support is measured, by comparing the words of a sentence with those
of the passages (MaxSim). A model on this machine gives vectors for that which know what words mean; a model behind an
API gives one vector a text. Then equal words agree wholly, related ones (``pump``, ``pumps``) in part, others not.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ragstack.embedding.terms import MARKS, UNSPACED
from ragstack.types import Float32Array, TokenVectors

WORD_DIM = 256
"""Dimensions of a word's vector: two words with nothing in common have a cosine of about 0 ± 0.06."""

_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}][^\W{UNSPACED}{MARKS}]*(?:[{MARKS}]+[^\W{UNSPACED}]*)*")
_MAX_WORD_CHARS = 64


def word_tokens(text: str) -> TokenVectors:
    """The words of a text as its tokens, ``(t, 256) float32``; of scripts without spaces, each character."""
    spans: list[tuple[int, int]] = []
    words: list[str] = []
    position = byte = 0
    for match in _WORD.finditer(text):
        byte += len(text[position : match.start()].encode("utf-8"))
        end = byte + len(match.group().encode("utf-8"))
        spans.append((byte, end))
        words.append(match.group().casefold()[:_MAX_WORD_CHARS])
        position, byte = match.end(), end
    return TokenVectors(
        vectors=np.stack([_vector(word) for word in words]) if words else np.empty((0, WORD_DIM), dtype=np.float32),
        token_ids=np.array([_identity(word) for word in words], dtype=np.int32),
        byte_spans=np.array(spans, dtype=np.int32).reshape(-1, 2),
    )


def spelling_vector(word: str, dim: int) -> Float32Array:
    """A word's vector of length 1, ``(dim,) float32``: of the hashes of the word and of its character trigrams."""
    padded = f"<{word}>"
    parts = [_random_direction(padded, dim)]
    parts += [0.5 * _random_direction(padded[i : i + 3], dim) for i in range(len(padded) - 2)]
    total = np.sum(parts, axis=0)
    unit: Float32Array = (total / np.linalg.norm(total)).astype(np.float32)
    return unit


def digest(text: str, size: int) -> bytes:
    """The first ``size`` bytes of a hash that is equal on every machine."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()


@lru_cache(maxsize=20_000)  # about 25 MB
def _vector(word: str) -> Float32Array:
    return spelling_vector(word, WORD_DIM)


def _identity(word: str) -> int:
    return int.from_bytes(digest(word, 4), "little") & 0x7FFFFFFF


def _random_direction(text: str, dim: int) -> NDArray[np.float64]:
    """A vector of length 1 whose signs are bits of the text's hash; equal on every machine."""
    data = b"".join(digest(f"{block}\x00{text}", 64) for block in range(-(-dim // 512)))
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))[:dim]
    direction: NDArray[np.float64] = (bits.astype(np.float64) * 2 - 1) / np.sqrt(dim)
    return direction
