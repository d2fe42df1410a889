"""Write a faster graph of all-MiniLM-L6-v2 without its weights: ``ragstack/embedding/data/all-MiniLM-L6-v2.onnx``.

    PYTHONPATH=. python scripts/minilm_graph.py

Needs the package onnx (extra ``dev``). The package that holds the weights holds a graph, too: as it was exported, with
three products for query, key and value, each transposed by itself, a mask of all pairs of tokens, and a check for NaN.
This one says the same with the fused operators of ONNX Runtime, which OpenVINO reads as well (docs/models.md has the
figures). It only names the weights, which are put in when the model is loaded
(:func:`ragstack.embedding.packaged_graph.with_graph`), and holds no initializers but constants. Its SHA-256 stands in
``ragstack/embedding/packaged_models.py``.

Matrices are unpacked from int8 by nodes that every runtime computes once, when it loads the model. Rows of the word
table are unpacked after they were looked up, so that the table keeps its int8.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEADS, DIM, EPSILON = 12, 384, 1e-12
OUT = Path(__file__).parents[1] / "ragstack" / "embedding" / "data" / "all-MiniLM-L6-v2.onnx"
# The package names its matrices by number: of query, key, value, attention's output, the inner and the outer product.
MATRICES = [
    (49, 57, 65, 105, 109, 118),
    (122, 130, 138, 176, 180, 189),
    (193, 201, 209, 247, 251, 260),
    (264, 272, 280, 318, 322, 331),
    (335, 343, 351, 389, 393, 402),
    (406, 414, 422, 460, 464, 473),
]

_MS = "com.microsoft"
_EMBEDDINGS = "inner.embeddings."


def build() -> bytes:
    """The graph as serialised ``ModelProto``."""
    nodes: list[onnx.NodeProto] = []

    def node(op: str, inputs: list[str], output: str, domain: str = "", **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def unpacked(name: str) -> str:
        node("Cast", [f"{name}_q"], f"{name}.numbers", to=TensorProto.FLOAT)
        return node("Mul", [f"{name}.numbers", f"{name}_scale"], f"{name}.unpacked")

    def norm(x: str, residual: str, name: str, bias: str, output: str) -> str:
        inputs = [x, residual, f"{name}.LayerNorm.weight", f"{name}.LayerNorm.bias", bias]
        return node("SkipLayerNormalization", inputs, output, _MS, epsilon=EPSILON)

    constants = {"c.begin": np.array([0], np.int64), "c.tokens": np.array([1], np.int64)}
    node("Gather", [f"{_EMBEDDINGS}word_embeddings.weight_q", "input_ids"], "word_numbers")
    node("Cast", ["word_numbers"], "word_floats", to=TensorProto.FLOAT)
    node("Gather", [f"{_EMBEDDINGS}word_embeddings.weight_scale", "input_ids"], "word_scales")
    node("Mul", ["word_floats", "word_scales"], "words")
    table = unpacked(f"{_EMBEDDINGS}position_embeddings.weight")
    node("Shape", ["input_ids"], "length", start=1, end=2)
    node("Slice", [table, "c.begin", "length", "c.begin"], "positions")
    node("Gather", [f"{_EMBEDDINGS}token_type_embeddings.weight", "token_type_ids"], "types")
    node("Add", ["words", "types"], "typed_words")
    node("Add", ["typed_words", "positions"], "embedded")
    scale, bias = f"{_EMBEDDINGS}LayerNorm.weight", f"{_EMBEDDINGS}LayerNorm.bias"
    x = node("LayerNormalization", ["embedded", scale, bias], "x0", axis=-1, epsilon=EPSILON)
    # Padding is at the end of a row, so lengths say as much as a mask, and attention takes them as they are.
    node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
    node("ReduceSum", ["mask", "c.tokens"], "lengths", keepdims=0)
    for i, numbers in enumerate(MATRICES):
        at, layer = f"l{i}.", f"inner.encoder.layer.{i}"
        query, key, value, output, inner, outer = (unpacked(f"val_{number}") for number in numbers)
        biases = [f"{layer}.attention.self.{part}.bias" for part in ("query", "key", "value")]
        weights = node("Concat", [query, key, value], f"{at}qkv.w", axis=1)
        node("Concat", biases, f"{at}qkv.b", axis=0)
        context = node("Attention", [x, weights, f"{at}qkv.b", "lengths"], f"{at}context", _MS, num_heads=HEADS)
        attended = node("MatMul", [context, output], f"{at}attended")
        dense_bias = f"{layer}.attention.output.dense.bias"
        y = norm(attended, x, f"{layer}.attention.output", dense_bias, f"{at}y")
        node("MatMul", [y, inner], f"{at}inner")
        active = node("BiasGelu", [f"{at}inner", f"{layer}.intermediate.dense.bias"], f"{at}active", _MS)
        node("MatMul", [active, outer], f"{at}outer")
        x = norm(f"{at}outer", y, f"{layer}.output", f"{layer}.output.dense.bias", f"x{i + 1}")
    node("Identity", [x], "last_hidden_state")
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    graph = helper.make_graph(
        nodes,
        "all-MiniLM-L6-v2",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in inputs],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "t", DIM])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(_MS, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="ragstack")
    return bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    data = build()
    OUT.write_bytes(data)
    sys.stdout.write(f"{OUT.name}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}\n")
