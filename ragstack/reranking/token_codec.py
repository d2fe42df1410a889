"""Token vectors as bytes: shortened, 8 bits a number, about 102 bytes a token at 96 dimensions.

A blob is a header, then arrays of one number per token, little-endian, one after another:

====================  ==========================================================
header                ``<4sIIHBB``: magic, CRC-32 of what follows the header, tokens, dimensions,
                      bytes of a token id, bytes of an offset
vectors               ``int8 (t, d)``, in units of 1/127 of the row's largest magnitude
token ids             ``uint16`` or ``uint32 (t,)``, as the largest id needs
starts, lengths       ``uint16`` or ``uint32 (t,)`` each: byte spans
====================  ==========================================================

Rows are brought to length 1 after decoding, so the unit of a row need not be kept.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from ragstack.errors import IndexFormatError
from ragstack.types import Float32Array, TokenVectors

_HEADER = struct.Struct("<4sIIHBB")
_MAGIC = b"rtv1"
_WIDTHS: dict[int, np.dtype[np.uint16] | np.dtype[np.uint32]] = {2: np.dtype("<u2"), 4: np.dtype("<u4")}


def project(vectors: Float32Array, projection: Float32Array | None) -> Float32Array:
    """Vectors ``(t, dim)`` times ``projection`` ``(dim, d)``, rows brought to length 1; ``(t, d) float32``.

    Without a projection the rows keep their dimension. A row that the projection maps to zero stays zero.
    """
    projected = vectors if projection is None else vectors @ projection
    return _unit(np.asarray(projected, dtype=np.float32))


def encode(tokens: TokenVectors, projection: Float32Array | None) -> bytes:
    """One text's token vectors, projected and compressed. Raises ValueError when the arrays do not belong together."""
    count = len(tokens.token_ids)
    if tokens.vectors.shape[:1] != (count,) or tokens.byte_spans.shape != (count, 2):
        raise ValueError(
            f"token arrays of one text differ in length: vectors {tokens.vectors.shape}, "
            f"token_ids {tokens.token_ids.shape}, byte_spans {tokens.byte_spans.shape}"
        )
    vectors = project(tokens.vectors, projection)
    largest = np.abs(vectors).max(axis=1, initial=0.0)
    largest[largest == 0] = 1
    rounded = np.rint(vectors * (127 / largest)[:, None]).astype(np.int8)
    starts = tokens.byte_spans[:, 0].astype(np.int64)
    lengths = tokens.byte_spans[:, 1].astype(np.int64) - starts
    if count and min(int(starts.min()), int(lengths.min()), int(tokens.token_ids.min())) < 0:
        raise ValueError("token ids and byte spans must not be negative")
    id_width = _width(tokens.token_ids)
    span_width = max(_width(starts), _width(lengths))
    body = b"".join(
        (
            rounded.tobytes(),
            tokens.token_ids.astype(_WIDTHS[id_width]).tobytes(),
            starts.astype(_WIDTHS[span_width]).tobytes(),
            lengths.astype(_WIDTHS[span_width]).tobytes(),
        )
    )
    return _HEADER.pack(_MAGIC, zlib.crc32(body), count, vectors.shape[1], id_width, span_width) + body


def decode(blob: bytes, *, where: str) -> TokenVectors:
    """The inverse of :func:`encode`: vectors ``(t, d) float32`` of length 1, in the projected space.

    Raises IndexFormatError, naming ``where``, for bytes that are not such a blob.
    """
    if len(blob) < _HEADER.size:
        raise _damaged(where, f"{len(blob)} bytes")
    magic, checksum, count, dim, id_width, span_width = _HEADER.unpack_from(blob)
    expected = _HEADER.size + count * (dim + id_width + 2 * span_width)
    if magic != _MAGIC or id_width not in _WIDTHS or span_width not in _WIDTHS or len(blob) != expected:
        raise _damaged(where, f"{len(blob)} bytes that begin with {blob[:8].hex()}")
    offset = _HEADER.size
    if zlib.crc32(memoryview(blob)[offset:]) != checksum:
        raise _damaged(where, "the checksum does not hold")
    quantised = np.frombuffer(blob, dtype=np.int8, count=count * dim, offset=offset).reshape(count, dim)
    offset += count * dim
    ids = np.frombuffer(blob, dtype=_WIDTHS[id_width], count=count, offset=offset)
    offset += count * id_width
    bounds = np.frombuffer(blob, dtype=_WIDTHS[span_width], count=2 * count, offset=offset).reshape(2, count)
    spans = np.empty((count, 2), dtype=np.int32)
    spans[:, 0] = bounds[0]
    spans[:, 1] = bounds[0] + bounds[1]
    return TokenVectors(_unit(quantised.astype(np.float32)), ids.astype(np.int32), spans)


def _unit(vectors: Float32Array) -> Float32Array:
    norms = np.sqrt(np.einsum("td,td->t", vectors, vectors))
    norms[norms == 0] = 1
    unit: Float32Array = vectors / norms[:, None]
    return unit


def _width(values: NDArray[np.int32] | NDArray[np.int64]) -> int:
    return 2 if not values.size or int(values.max()) < 1 << 16 else 4


def _damaged(where: str, found: str) -> IndexFormatError:
    return IndexFormatError(
        f"{where}: the stored token vectors are damaged ({found}).",
        hint="Mend the index with: ragstack fsck --repair",
    )
