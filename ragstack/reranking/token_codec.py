"""Token vectors as bytes: whole words, projected, 4 bits a number; about 55 bytes a word at 96 dimensions.

A blob is a header, then arrays of one entry per word, little-endian, one after another:

====================  ==========================================================
header                ``<4sIIHBBBB``: magic, CRC-32 of what follows the header, words, dimensions,
                      bits of a number, bytes of an id, of a start, of a length
vectors               4 bits: ``uint8 (t, d / 2)``, the first half of the dimensions in the low halves of the bytes,
                      the second in the high ones; the level ``n`` (0 to 15) stands for ``(n - 7.5) * step``, with
                      a step for each dimension. 8 bits: ``int8 (t, d)``, in units of 1/127 of the row's largest
                      magnitude. 0 bits: no vectors and no spans
ids                   ``uint16`` or ``uint32 (t,)``, as the largest needs
starts                ``uint8``, ``uint16`` or ``uint32 (t,)``: bytes from the start of the word before (from 0)
lengths               ``uint8``, ``uint16`` or ``uint32 (t,)``: bytes from the start of the word to its end
====================  ==========================================================

Rows are brought to length 1 after decoding, so no length need be kept.
"""

from __future__ import annotations

import struct
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragstack.errors import IndexFormatError
from ragstack.reranking.token_words import whole_words
from ragstack.types import Float32Array, TokenVectors, canonical_json, sha256_hex

_HEADER = struct.Struct("<4sIIHBBBB")
_MAGIC = b"rtv2"
_WIDTHS: dict[int, np.dtype[Any]] = {1: np.dtype("u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4")}
_MIDDLE = np.float32(7.5)


class _Header(NamedTuple):
    magic: bytes
    checksum: int
    words: int
    dim: int
    bits: int
    id_width: int
    start_width: int
    length_width: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of the arrays."""
        widths = (self.id_width, self.start_width, self.length_width)
        return (self.words * self.dim * self.bits // 8, *(self.words * width for width in widths))


@dataclass(frozen=True, eq=False)
class TokenCodec:
    """How the token vectors of one model are kept.

    ``pieces`` ``(v,) uint8`` joins word pieces to words (:func:`ragstack.reranking.token_words.whole_words`); None
    keeps every piece. ``projection`` ``(dim, d) float32`` shortens vectors; None keeps their dimensions. ``steps``
    ``(d,) float32`` are the distances of the levels of 4 bits, ``d`` even; None keeps 8 bits a number. Without
    ``keeps_vectors`` a blob holds ids alone, for indexes that recompute vectors and still count words.

    Raises ValueError for arrays that do not fit each other.
    """

    projection: Float32Array | None = None
    steps: Float32Array | None = None
    pieces: NDArray[np.uint8] | None = None
    keeps_vectors: bool = True

    def __post_init__(self) -> None:
        if self.steps is not None and (self.steps.size % 2 or not (self.steps > 0).all()):
            raise ValueError("steps must be positive and of an even number")
        if self.steps is not None and self.projection is not None and self.projection.shape[1] != self.steps.size:
            raise ValueError(f"a projection to {self.projection.shape[1]} dimensions has {self.steps.size} steps")

    @cached_property
    def fingerprint(self) -> str:
        """Names everything that changes what is kept for the same vectors (64 hex digits)."""
        arrays = {"projection": self.projection, "steps": self.steps, "pieces": self.pieces}
        parts: dict[str, object] = {
            name: None if array is None else [list(array.shape), sha256_hex(np.ascontiguousarray(array).tobytes())]
            for name, array in arrays.items()
        }
        return sha256_hex(canonical_json({**parts, "format": "rtv2", "vectors": self.keeps_vectors}).encode())

    @property
    def bits(self) -> int:
        """Bits of a number: 4, 8, or 0 where vectors are not kept."""
        return (8 if self.steps is None else 4) if self.keeps_vectors else 0

    def prepare(self, tokens: TokenVectors) -> TokenVectors:
        """A passage's or a query's token vectors as they are compared: whole words, projected, rows of length 1."""
        # Sums before products: the projection is linear, and there are half as many words as pieces.
        words = tokens if self.pieces is None else whole_words(tokens, self.pieces)
        vectors = words.vectors if self.projection is None else words.vectors @ self.projection
        return TokenVectors(_unit(np.asarray(vectors, dtype=np.float32)), words.token_ids, words.byte_spans)

    def encode(self, words: TokenVectors) -> bytes:
        """What :meth:`prepare` gave, as bytes. Raises ValueError when the arrays do not belong together."""
        count = len(words.token_ids)
        if words.vectors.shape[:1] != (count,) or words.byte_spans.shape != (count, 2):
            raise ValueError(
                f"token arrays of one text differ in length: vectors {words.vectors.shape}, "
                f"token_ids {words.token_ids.shape}, byte_spans {words.byte_spans.shape}"
            )
        if not self.keeps_vectors:
            ids = _packed(words.token_ids, "token ids")
            return _blob(count, 0, 0, b"", ids, (0, b""), (0, b""))
        starts = np.diff(words.byte_spans[:, 0], prepend=np.int32(0))
        return _blob(
            count,
            words.vectors.shape[1],
            self.bits,
            self._quantised(words.vectors).tobytes(),
            _packed(words.token_ids, "token ids"),
            _packed(starts, "the distances of the tokens' starts"),
            _packed(words.byte_spans[:, 1] - words.byte_spans[:, 0], "token lengths"),
        )

    def decode(self, blobs: Sequence[tuple[str, bytes]]) -> list[TokenVectors]:
        """The inverse of :meth:`encode` for several (place, blob): vectors ``(t, d) float32`` of length 1.

        Raises IndexFormatError, naming the place, for bytes that are not a blob of this codec.
        """
        # Numbers are decoded for all blobs of a form at once: a query reads fifty, nearly always of one form.
        forms: dict[tuple[int, ...], list[int]] = defaultdict(list)
        headers = [self._header(where, blob) for where, blob in blobs]
        for index, header in enumerate(headers):
            forms[header[3:]].append(index)
        found: list[TokenVectors | None] = [None] * len(blobs)
        for indices in forms.values():
            parts = self._decoded([headers[i] for i in indices], [blobs[i][1] for i in indices])
            for index, tokens in zip(indices, parts, strict=True):
                found[index] = tokens
        return [tokens for tokens in found if tokens is not None]

    def _header(self, where: str, blob: bytes) -> _Header:
        if len(blob) < _HEADER.size:
            raise _damaged(where, f"{len(blob)} bytes")
        header = _Header(*_HEADER.unpack_from(blob))
        known = header.magic == _MAGIC and header.bits == self.bits
        if self.bits == 4 and self.steps is not None:
            known = known and header.dim == self.steps.size
        if not known or len(blob) != _HEADER.size + sum(header.sizes) or not _is_form(header):
            raise _damaged(where, f"{len(blob)} bytes that begin with {blob[:8].hex()}")
        if zlib.crc32(memoryview(blob)[_HEADER.size :]) != header.checksum:
            raise _damaged(where, "the checksum does not hold")
        return header

    def _decoded(self, headers: Sequence[_Header], blobs: Sequence[bytes]) -> list[TokenVectors]:
        """The words of blobs whose headers are alike but for their counts."""
        form = headers[0]
        arrays: list[list[memoryview]] = [[], [], [], []]
        for header, blob in zip(headers, blobs, strict=True):
            view, at = memoryview(blob), _HEADER.size
            for array, size in zip(arrays, header.sizes, strict=True):
                array.append(view[at : at + size])
                at += size
        numbers, ids, starts, lengths = (b"".join(parts) for parts in arrays)
        counts = np.array([header.words for header in headers])
        total = int(counts.sum())
        spans = np.zeros((total, 2), dtype=np.int32)
        if form.bits:
            ends = np.cumsum(counts)
            running = np.cumsum(np.frombuffer(starts, _WIDTHS[form.start_width]), dtype=np.int64)
            before = np.concatenate(([0], running))[ends - counts]
            spans[:, 0] = running - np.repeat(before, counts)
            spans[:, 1] = spans[:, 0] + np.frombuffer(lengths, _WIDTHS[form.length_width])
        vectors = self._restored(numbers, total, form.dim)
        token_ids = np.frombuffer(ids, _WIDTHS[form.id_width]).astype(np.int32)
        found, first = [], 0
        for header in headers:
            rows = slice(first, first + header.words)
            found.append(TokenVectors(vectors[rows], token_ids[rows], spans[rows]))
            first = rows.stop
        return found

    def _quantised(self, vectors: Float32Array) -> NDArray[Any]:
        if self.steps is None:
            largest = np.abs(vectors).max(axis=1, initial=0.0)
            largest[largest == 0] = 1
            rounded: NDArray[np.int8] = np.rint(vectors * (127 / largest)[:, None]).astype(np.int8)
            return rounded
        if vectors.shape[1] != self.steps.size:
            raise ValueError(f"vectors of {vectors.shape[1]} dimensions, steps for {self.steps.size}")
        levels = np.clip(np.floor(vectors / self.steps) + 8, 0, 15).astype(np.uint8)
        half = self.steps.size // 2
        packed: NDArray[np.uint8] = levels[:, :half] | (levels[:, half:] << 4)
        return packed

    def _restored(self, numbers: bytes, count: int, dim: int) -> Float32Array:
        if not count or not dim:
            return np.zeros((count, dim), dtype=np.float32)
        if self.steps is None:
            return _unit(np.frombuffer(numbers, np.int8).reshape(count, dim).astype(np.float32))
        packed = np.frombuffer(numbers, np.uint8).reshape(count, dim // 2)
        # Shifts of whole arrays into one that is made once: looking bytes up in a table takes four times as long.
        vectors = np.empty((count, dim), dtype=np.float32)
        np.subtract(packed & 15, _MIDDLE, out=vectors[:, : dim // 2])
        np.subtract(packed >> 4, _MIDDLE, out=vectors[:, dim // 2 :])
        vectors *= self.steps
        vectors /= _norms(vectors)
        return vectors


def _is_form(header: _Header) -> bool:
    widths = (header.start_width, header.length_width)
    if header.bits == 0:
        return header.dim == 0 and header.id_width in _WIDTHS and widths == (0, 0)
    return header.id_width in _WIDTHS and all(width in _WIDTHS for width in widths)


def _blob(count: int, dim: int, bits: int, numbers: bytes, *arrays: tuple[int, bytes]) -> bytes:
    body = b"".join((numbers, *(data for _, data in arrays)))
    return _HEADER.pack(_MAGIC, zlib.crc32(body), count, dim, bits, *(width for width, _ in arrays)) + body


def _packed(values: NDArray[np.int32], what: str) -> tuple[int, bytes]:
    """Whole numbers in as few bytes each as the largest needs: the width, and the bytes."""
    if values.size and int(values.min()) < 0:
        raise ValueError(f"{what} must not be negative")
    largest = int(values.max()) if values.size else 0
    width = next(width for width in (1, 2, 4) if largest < 1 << 8 * width)
    return width, values.astype(_WIDTHS[width]).tobytes()


def _unit(vectors: Float32Array) -> Float32Array:
    unit: Float32Array = vectors / _norms(vectors)
    return unit


def _norms(vectors: Float32Array) -> Float32Array:
    """The lengths of rows, ``(t, 1)``; 1 for those of length 0."""
    norms: Float32Array = np.sqrt(np.einsum("td,td->t", vectors, vectors))[:, None]
    norms[norms == 0] = 1
    return norms


def _damaged(where: str, found: str) -> IndexFormatError:
    return IndexFormatError(
        f"{where}: the stored token vectors are damaged ({found}).",
        hint="Mend the index with: ragstack fsck --repair",
    )
