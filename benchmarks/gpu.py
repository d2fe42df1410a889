"""Tokens and pairs a second on a GPU, as a share of what its matrix units can do, and against sentence-transformers.

    python benchmarks/gpu.py [--device cuda:0] [--minutes 8] [--json gpu.json]
    python benchmarks/gpu.py --quick --device cpu

Random weights of the true shapes (gpu_models.py): BGE-M3, Llama-3.2-1B with its causal mask off, and the cross-encoder
bge-reranker-v2-m3, over texts of 512 tokens and of mixed lengths; bf16 on a GPU, fp32 on a CPU. The peak is that of a
large matrix product of the same precision, measured before and after. sentence-transformers has the same folder,
device, precision and tokens in a batch; the two take turns on the same texts, and medians are compared. Everything from
strings to numpy arrays is counted, tokenisation included; tokens are counted without padding. Pairs come as requests of
64 passages from 4 clients, which is what ragstack gets, while sentence-transformers has all of them in one call. What
the time does not suffice for is left out and named. `--quick` runs the same code over models so small that its figures
mean nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from gpu_models import SHAPES, WORDS, MadeModel, Shape, make_model
from transformers.utils import logging as transformers_logging

from ragstack.cancellation import Cancellation
from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.reranking.cross_encoder import CrossEncoderReranker
from ragstack.retrieval.text_ranking import bare_query, rank_in_order

TOKENS = 512
QUERY_TOKENS = 20
EMBED_BATCH_TOKENS, RERANK_BATCH_TOKENS = 131_072, 32_768
REQUEST_PAIRS, CLIENTS = 64, 4
MOST_ROUNDS = 9


@dataclass(frozen=True)
class Figure:
    """One comparison. ``rate`` and ``reference_rate`` are ``unit`` a second; ``share_of_peak`` is of the matrix peak.

    ``agreement`` is the smallest cosine of two vectors, or the largest difference of two scores, of the two.
    """

    model: str
    texts: str
    unit: str
    rate: float
    reference_rate: float
    ratio: float
    tflops: float
    share_of_peak: float
    agreement: float
    rounds: int
    target: float | None


@dataclass(frozen=True)
class Work:
    """A case: what both do, what it costs, and how far their results are from each other."""

    texts: str
    amount: float
    flops: float
    target: float | None
    ours: Callable[[], Any]
    reference: Callable[[], Any]
    agreement: Callable[[Any, Any], float]


@dataclass(frozen=True)
class Runner:
    """Where and how everything runs. ``texts`` is how many of 512 tokens a round has."""

    device: str
    dtype: torch.dtype
    texts: int
    small: bool

    @property
    def profile(self) -> str:
        """What ragstack calls it."""
        precision = {torch.bfloat16: "bf16", torch.float32: "fp32"}[self.dtype]
        return f"torch-{self.device.partition(':')[0]}-{precision}"

    @property
    def threads(self) -> int | None:
        """CPU threads: all, but one where there is so little to do that they would wait for each other."""
        return 1 if self.small else None

    def batch_tokens(self, most: int) -> int:
        """The tokens of a batch, for both."""
        return min(most, self.texts * TOKENS)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def matmul_peak(device: str, dtype: torch.dtype, size: int) -> float:
    """TFLOP/s of the best of several products of two random square matrices."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def product() -> None:
        torch.matmul(a, b)
        if device != "cpu":
            torch.cuda.synchronize(device)

    for _ in range(3):
        product()
    return 2 * size**3 / min(seconds(product) for _ in range(20)) / 1e12


def texts_of(lengths: Sequence[int], seed: int) -> list[str]:
    """Texts of so many tokens, special ones included."""
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{n}" for n in rng.integers(0, WORDS, length - 2)) for length in lengths]


def length_cases(shape: Shape, least: int, count: int) -> list[tuple[str, list[int], float | None]]:
    """Texts of 512 tokens, for which there is a target, and of mixed lengths."""
    mixed = np.random.default_rng(1).integers(least, TOKENS + 1, 2 * count).tolist()
    return [(f"{TOKENS} tokens", [TOKENS] * count, shape.target), (f"{least} to {TOKENS} tokens", mixed, None)]


def embedding_work(shape: Shape, made: MadeModel, runner: Runner) -> Iterator[Work]:
    """Passages through both encoders."""
    from sentence_transformers import SentenceTransformer

    batch_tokens = runner.batch_tokens(EMBED_BATCH_TOKENS)
    embedder = EncoderEmbedder(
        str(made.folder),
        profile=runner.profile,
        device=runner.device,
        max_batch_tokens=batch_tokens,
        threads=runner.threads,
    )
    model = SentenceTransformer(str(made.folder), device=runner.device, model_kwargs={"dtype": runner.dtype})
    if shape.settings.get("is_causal") is False:
        # transformers drops the mask of texts without padding, and then asks each layer.
        for part in model.modules():
            if hasattr(part, "is_causal"):
                part.is_causal = False

    def work(name: str, lengths: list[int], target: float | None) -> Work:
        texts = texts_of(lengths, seed=2)
        return Work(
            texts=name,
            amount=sum(lengths),
            flops=made.flops(lengths),
            target=target,
            ours=lambda: embedder.embed(texts, "passage").dense,
            reference=lambda: model.encode(
                texts, batch_size=batch_tokens // TOKENS, normalize_embeddings=True, show_progress_bar=False
            ),
            agreement=lambda ours, theirs: float((ours * np.float32(theirs)).sum(axis=1).min()),
        )

    for case in length_cases(shape, 10, runner.texts):
        yield work(*case)
    embedder.close()


def reranking_work(shape: Shape, made: MadeModel, runner: Runner) -> Iterator[Work]:
    """Pairs through both cross-encoders: ours as a few clients ask for them, the other's all in one call."""
    from sentence_transformers import CrossEncoder

    batch_tokens = runner.batch_tokens(RERANK_BATCH_TOKENS)
    reranker = CrossEncoderReranker(
        str(made.folder),
        profile=runner.profile,
        device=runner.device,
        max_batch_tokens=batch_tokens,
        threads=runner.threads,
    )
    model = CrossEncoder(str(made.folder), device=runner.device, model_kwargs={"dtype": runner.dtype})
    query = texts_of([QUERY_TOKENS + 2], seed=3)[0]

    def work(name: str, lengths: list[int], target: float | None) -> Work:
        # Beside the query, a pair has two special tokens more than a text.
        passages = texts_of([length - QUERY_TOKENS - 2 for length in lengths], seed=4)
        requests = [passages[start : start + REQUEST_PAIRS] for start in range(0, len(passages), REQUEST_PAIRS)]

        def scores(request: list[str]) -> list[float]:
            ranked = rank_in_order(reranker, bare_query(query, Cancellation()), request)
            return [score for _, score in sorted(ranked)]

        return Work(
            texts=name,
            amount=len(lengths),
            flops=made.flops(lengths),
            target=target,
            ours=lambda: [score for request in clients.map(scores, requests) for score in request],
            reference=lambda: model.predict(
                [(query, passage) for passage in passages],
                batch_size=batch_tokens // TOKENS,
                activation_fn=torch.nn.Identity(),
                show_progress_bar=False,
            ),
            agreement=lambda ours, theirs: float(np.abs(np.float64(ours) - np.float64(theirs)).max()),
        )

    with ThreadPoolExecutor(CLIENTS) as clients:
        for case in length_cases(shape, 64, runner.texts):
            yield work(*case)
    reranker.close()


def compare(shape: Shape, work: Work, peak: float, until: float) -> Figure:
    """Take turns until ``until`` (``time.perf_counter``), twice at least; a first turn each is not counted."""
    agreement = work.agreement(work.ours(), work.reference())
    ours, theirs = [], []
    while len(ours) < 2 or (len(ours) < MOST_ROUNDS and time.perf_counter() < until):
        ours.append(seconds(work.ours))
        theirs.append(seconds(work.reference))
    mine, other = statistics.median(ours), statistics.median(theirs)
    tflops = work.flops / mine / 1e12
    return Figure(
        model=shape.name,
        texts=work.texts,
        unit="tokens" if shape.pooling else "pairs",
        rate=work.amount / mine,
        reference_rate=work.amount / other,
        ratio=other / mine,
        tflops=tflops,
        share_of_peak=tflops / peak,
        agreement=agreement,
        rounds=len(ours),
        target=work.target,
    )


def query_milliseconds(made: MadeModel, runner: Runner, count: int) -> float:
    """The median time of one query of 20 tokens, alone."""
    embedder = EncoderEmbedder(str(made.folder), profile=runner.profile, device=runner.device, threads=runner.threads)
    query = texts_of([QUERY_TOKENS], seed=5)
    times = [seconds(lambda: embedder.embed(query, "query")) for _ in range(count + 3)]
    embedder.close()
    return 1000 * statistics.median(times[3:])


def describe(runner: Runner) -> dict[str, str]:
    """What the figures were taken on."""
    on_gpu = runner.device != "cpu"
    return {
        "device": torch.cuda.get_device_name(runner.device) if on_gpu else platform.processor() or platform.machine(),
        "profile": runner.profile,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "sentence-transformers": version("sentence-transformers"),
    }


def run(runner: Runner, minutes: float, folder: Path) -> dict[str, Any]:
    """All figures that the time suffices for."""
    started = time.perf_counter()
    end = started + 60 * minutes
    size = 256 if runner.small else 8192
    peak = matmul_peak(runner.device, runner.dtype, size)
    figures: list[Figure] = []
    left_out: list[str] = []
    latencies: dict[str, float] = {}
    for place, shape in enumerate(SHAPES):
        if not runner.small and time.perf_counter() > end - 30:
            left_out.append(shape.name)
            continue
        print(f"{shape.name} ...", file=sys.stderr, flush=True)
        made = make_model(shape, folder / shape.name, device=runner.device, dtype=runner.dtype, small=runner.small)
        # Half a minute is kept for the making of each model that is still to come.
        works = embedding_work if shape.pooling else reranking_work
        for at, work in enumerate(works(shape, made, runner)):
            now = time.perf_counter()
            parts_left = 2 * (len(SHAPES) - place) - at
            share = (end - now - 30 * (len(SHAPES) - place - 1)) / parts_left
            figures.append(compare(shape, work, peak, now + 0.8 * share))
        if shape.pooling:
            latencies[shape.name] = query_milliseconds(made, runner, 3 if runner.small else 50)
        shutil.rmtree(made.folder)
    return {
        "on": describe(runner),
        "small": runner.small,
        "matmul_peak_tflops": peak,
        "matmul_peak_tflops_after": matmul_peak(runner.device, runner.dtype, size),
        "figures": [asdict(figure) for figure in figures],
        "query_milliseconds": latencies,
        "left_out": left_out,
        "seconds": time.perf_counter() - started,
    }


def table(found: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        ", ".join(f"{name} {value}" for name, value in found["on"].items()),
        f"matrix product: {found['matmul_peak_tflops']:.1f} TFLOP/s before,"
        f" {found['matmul_peak_tflops_after']:.1f} after",
        f"{'model':28} {'texts':18} {'per second':>18} {'of peak':>8} {'sentence-tr.':>13} {'ratio':>6} {'target':>9}",
    ]
    for figure in found["figures"]:
        target = "" if figure["target"] is None else f"{figure['target']:,.0f}"
        lines.append(
            f"{figure['model']:28} {figure['texts']:18} {figure['rate']:11,.0f} {figure['unit']}"
            f" {figure['share_of_peak']:8.1%} {figure['reference_rate']:13,.0f} {figure['ratio']:6.2f} {target:>9}"
        )
    lines += [f"{name}: one query in {value:.1f} ms" for name, value in found["query_milliseconds"].items()]
    lines += [f"{name}: left out, the time did not suffice" for name in found["left_out"]]
    if found["small"]:
        lines.append("models scaled down: these figures say only that the script runs")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cpu, cuda:0, ...")
    parser.add_argument("--minutes", type=float, default=8, help="about how long it may take")
    parser.add_argument(
        "--texts", type=int, default=1024, help="of 512 tokens in a round; twice as many of mixed lengths"
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--quick", action="store_true", help="tiny models and few texts: a test of the script itself")
    options = parser.parse_args()
    transformers_logging.disable_progress_bar()
    if options.quick:
        torch.set_num_threads(1)
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    runner = Runner(options.device, dtype, 4 if options.quick else options.texts, options.quick)
    with tempfile.TemporaryDirectory() as folder:
        found = run(runner, 0 if options.quick else options.minutes, Path(folder))
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
