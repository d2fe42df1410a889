"""The weights of one ONNX file in the graph of another: protobuf's own rules are all that it takes."""

from __future__ import annotations

from collections.abc import Iterator

_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def with_graph(model: bytes, graph: bytes) -> bytes:
    """``graph``, an ONNX model without weights, with the weights (initializers) of ``model``, serialised.

    Two protobuf messages, one after the other, are their merger: the weights join the graph's own constants. Raises
    ValueError when ``model`` is not protobuf.
    """
    view = memoryview(model)
    parts = [
        field
        for number, content, _ in _fields(view)
        if number == _MODEL_GRAPH
        for inner, _, field in _fields(content)
        if inner == _GRAPH_INITIALIZER
    ]
    length = sum(map(len, parts))
    return b"".join([graph, _varint(_MODEL_GRAPH << 3 | _BYTES), _varint(length), *parts])


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Number and content of each field of a message, and the whole field with its key and length."""
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        wire_type = key & 7
        size = 0
        if wire_type == _BYTES:
            size, at = _read_varint(message, at)
        elif wire_type == _VARINT:
            _, end = _read_varint(message, at)
            size = end - at
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"byte {start}: no protobuf field begins with {key}")
        if at + size > len(message):
            raise ValueError(f"byte {start}: a field of {size} bytes is cut short")
        yield key >> 3, message[at : at + size], message[start : at + size]
        at += size


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError(f"byte {at}: a number is cut short")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
