"""Speed of the default embedder against a plain ONNX Runtime loop over the same texts, in the same process.

    python benchmarks/embed.py [--rounds 3] [--threads N]

The plain loop is what one writes first: batches of 16 texts in the order given, padded to the longest,
one call after another on a session with default settings. The two take turns, and medians are compared, so that a
busy machine slows both. Tokens are counted without padding, special tokens included.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import onnxruntime as ort

from ragstack.embedding.encoder import DEFAULT_BATCH_TOKENS, EncoderEmbedder
from ragstack.embedding.model_files import resolve_model
from ragstack.inference.batching import padding_share, plan_batches

WORDS = ["the", "of", "system", "index", "query", "passage", "vector", "store", "model", "result", "error", "file"]


def make_texts(lengths: list[int], seed: int) -> list[str]:
    """Texts of given lengths in tokens: common words, each of which is one token."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, length)) for length in lengths]


def plain_loop(session: ort.InferenceSession, ids: list[list[int]]) -> None:
    """Batches of 16 in the order given, mean pooling."""
    for start in range(0, len(ids), 16):
        part = ids[start : start + 16]
        longest = max(map(len, part))
        padded = np.array([row + [0] * (longest - len(row)) for row in part], dtype=np.int64)
        mask = (np.arange(longest) < np.array([[len(row)] for row in part])).astype(np.int64)
        feed = {"input_ids": padded, "attention_mask": mask, "token_type_ids": np.zeros_like(padded)}
        hidden = session.run(None, feed)[0]
        pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--budgets", type=int, nargs="*", default=[], help="also try these max_batch_tokens")
    parser.add_argument(
        "--no-plain", action="store_true", help="leave the plain loop out, to see the embedder's memory"
    )
    options = parser.parse_args()

    embedder = EncoderEmbedder(threads=options.threads)
    others = {budget: EncoderEmbedder(threads=options.threads, max_batch_tokens=budget) for budget in options.budgets}
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads or 0
    session = None
    if not options.no_plain:
        weights = resolve_model("all-MiniLM-L6-v2").path
        session = ort.InferenceSession(str(weights), settings, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    cases = {
        "256 tokens": [254] * 32,
        "200 tokens": [198] * 40,
        "mixed 10-300": rng.integers(10, 300, 100).tolist(),
    }
    print(f"{'texts':14} {'tokens':>7} {'ours/s':>8} {'plain/s':>8} {'ratio':>6} {'padding':>8}")
    for name, lengths in cases.items():
        texts = make_texts(lengths, seed=2)
        ids = embedder.tokenizer.input_ids(texts)
        total = sum(map(len, ids))
        counts = [len(row) for row in ids]
        ours, plain = [], []
        other_times: dict[int, list[float]] = {budget: [] for budget in others}
        for _ in range(options.rounds + 1):
            ours.append(seconds(lambda texts=texts: embedder.embed(texts, "passage")))  # type: ignore[misc]
            if session is not None:
                plain.append(seconds(lambda ids=ids: plain_loop(session, ids)))  # type: ignore[misc]
            for budget, other in others.items():
                other_times[budget].append(seconds(lambda texts=texts, o=other: o.embed(texts, "passage")))  # type: ignore[misc]
        mine = total / statistics.median(ours[1:])
        theirs = total / statistics.median(plain[1:]) if plain else float("nan")
        padding = padding_share(counts, plan_batches(counts, DEFAULT_BATCH_TOKENS))
        print(f"{name:14} {total:7} {mine:8.0f} {theirs:8.0f} {mine / theirs:6.2f} {padding:8.4f}")
        for budget, times in other_times.items():
            print(f"    max_batch_tokens={budget}: {total / statistics.median(times[1:]):.0f} tokens/s")
    query = ["how do I rotate an expired certificate without downtime?"]
    embedder.embed(query, "query", ("dense", "tokens"))
    latencies = [seconds(lambda: embedder.embed(query, "query", ("dense", "tokens"))) for _ in range(30)]
    print(f"one query: median {1000 * statistics.median(latencies):.1f} ms")
    unit = 1 if sys.platform == "darwin" else 1024
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
