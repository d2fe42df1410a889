"""A small cross-encoder that ranks by words in common, made here: no weights of a real one can be had without a hub.

It is a real model in all that matters to whoever runs it: token ids, mask, types and positions in, logits out; with
other types, without the mask, or beyond its positions it gives something else, or fails. For each query token its best
cosine with a token of the passage is taken, over random vectors of the vocabulary of bert-base-uncased; the logit is
8 times their mean, less 4. The word "zebra" is NaN.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from ragstack.cancellation import Cancellation
from ragstack.embedding.model_files import package_data
from ragstack.embedding.tokenizer import bert_tokenizer
from ragstack.reranking.base import RerankCandidate, RerankQuery, RerankScore
from ragstack.retrieval.text_ranking import bare_query
from ragstack.types import Chunk

DIM = 48
POSITIONS = 64
_SPECIALS = ("[PAD]", "[CLS]", "[SEP]")


def tokenizer() -> Tokenizer:
    """The tokenizer of bert-base-uncased."""
    return bert_tokenizer(package_data("bert-base-uncased.vocab.txt"))._tokenizer


def vectors() -> NDArray[np.float32]:
    """A vector of length 1 for each word piece, 0 for special tokens."""
    made = tokenizer()
    table = np.random.default_rng(7).normal(size=(made.get_vocab_size(), DIM)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    for name in _SPECIALS:
        table[made.token_to_id(name)] = 0
    table[made.token_to_id("zebra")] = np.nan
    return table


def write_cross_encoder(folder: Path, *, labels: Sequence[str] = ("LABEL_0",), **config: Any) -> Path:
    """A folder as sentence-transformers and optimum write it; with several ``labels``, label k's logit is k times it.

    ``config`` are further keys of config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_model(len(labels)), str(folder / "model.onnx"))
    shipped = tokenizer()
    shipped.enable_truncation(32)  # as models ship it, for callers who want it
    shipped.enable_padding(length=32)
    shipped.save(str(folder / "tokenizer.json"))
    told = {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
        "id2label": {str(index): name for index, name in enumerate(labels)},
    }
    (folder / "config.json").write_text(json.dumps({**told, **config}))
    return folder


def plain_logit(table: NDArray[np.float32], made: Tokenizer, query: str, passage: str) -> float:
    """What the model gives for one pair, in plain numpy."""
    encoding = made.encode(query, passage)
    ids, types = np.array(encoding.ids), np.array(encoding.type_ids)
    of_query, of_passage = table[ids[types == 0]], table[ids[types == 1]]
    return float((of_query @ of_passage.T).max(axis=1).mean() * 8 - 4)


def candidate(name: str, text: str, heading_path: tuple[str, ...] = ()) -> RerankCandidate:
    """A candidate that no leg has scored."""
    chunk = Chunk(name, "root/a.txt", "0" * 64, 0, len(text.encode()), text, 1, heading_path)
    return RerankCandidate(chunk, None, None)


def ask(text: str, cancellation: Cancellation | None = None) -> RerankQuery:
    """A query without vectors."""
    return bare_query(text, cancellation or Cancellation())


def by_id(scores: Sequence[RerankScore]) -> dict[str, float]:
    """Scores by chunk id."""
    return {score.chunk_id: score.score for score in scores}


def _model(labels: int) -> onnx.ModelProto:
    weights = {
        "table": vectors(),
        "rotation": np.eye(DIM, dtype=np.float32),
        "positions": np.zeros((POSITIONS, DIM), np.float32),
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "axis1": np.array([1], np.int64),
        "last": np.array([-1], np.int64),
        "ones": np.array(1, np.float32),
        "far": np.array(1e4, np.float32),
        "scale": np.array(8, np.float32),
        "shift": np.array(4, np.float32),
        "labels": np.arange(labels, dtype=np.float32)[None] if labels > 1 else np.ones((1, 1), np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "input_ids"], ["embedded"]),
        # A product with weights: what quantisation works on.
        node("MatMul", ["embedded", "rotation"], ["rotated"]),
        node("Shape", ["input_ids"], ["shape"]),
        node("Gather", ["shape", "one"], ["length"]),
        node("Range", ["zero", "length", "one"], ["places"]),
        node("Gather", ["positions", "places"], ["placed"]),  # fails beyond the last position
        node("Add", ["rotated", "placed"], ["hidden"]),
        node("Transpose", ["hidden"], ["turned"], perm=[0, 2, 1]),
        node("MatMul", ["hidden", "turned"], ["similar"]),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
        node("Mul", ["mask", "types"], ["of_passage"]),
        node("Sub", ["ones", "types"], ["other_type"]),
        node("Mul", ["mask", "other_type"], ["of_query"]),
        node("Sub", ["of_passage", "ones"], ["outside"]),
        node("Mul", ["outside", "far"], ["lowered"]),
        node("Unsqueeze", ["lowered", "axis1"], ["columns"]),
        node("Add", ["similar", "columns"], ["allowed"]),
        node("ReduceMax", ["allowed", "last"], ["best"], keepdims=0),
        node("Mul", ["best", "of_query"], ["counted"]),
        node("ReduceSum", ["counted", "axis1"], ["total"], keepdims=1),
        node("ReduceSum", ["of_query", "axis1"], ["number"], keepdims=1),
        node("Div", ["total", "number"], ["mean"]),
        node("Mul", ["mean", "scale"], ["scaled"]),
        node("Sub", ["scaled", "shift"], ["logit"]),
        node("Mul", ["logit", "labels"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])]
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "words-in-common", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return model
