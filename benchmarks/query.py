"""Latency of a query over an index of a given size, by stage, and of a cold command.

    python benchmarks/query.py [--chunks 5000] [--queries 100] [--replayed] [--state-dir FOLDER] [--profile]

The documents are made of sentences of the Python standard library's docstrings, shuffled: real English and code words,
no two chunks alike, 200 tokens a chunk. Indexing 5,000 chunks takes some minutes on 2 cores. ``--replayed`` puts
the passages' vectors together from those of 500 real ones (benchmarks/replayed_model.py): for 100,000 chunks.
``--state-dir`` keeps the index, and asks the one that is there. Beside the wall clock the CPU time of the process is
printed, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import inspect
import pstats
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from replayed_model import ReplayedEmbedder

from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.indexer.run import IndexRequest, index
from ragstack.retrieval.engine import QueryEngine, QueryRequest

_MODULES = "argparse asyncio collections concurrent.futures csv datetime decimal email functools http.client json "
_MODULES += "logging multiprocessing os pathlib random re shutil socket sqlite3 ssl statistics subprocess threading "
_MODULES += "turtle typing unittest urllib.request xml.dom.minidom zipfile ast calendar configparser ctypes fractions"
_CHUNKS_PER_FILE = 40
_REPLACED_WORDS = 0.3
"""Share of the words of --replayed documents that are put in place of others, so that sentences do not repeat."""


def sentences() -> list[str]:
    """Sentences of docstrings."""
    found: set[str] = set()
    for name in _MODULES.split():
        module = importlib.import_module(name)
        for _, member in inspect.getmembers(module):
            for text in [member.__doc__, *(getattr(m, "__doc__", None) for m in vars(type(member)).values())]:
                if isinstance(text, str):
                    found.update(re.sub(r"\s+", " ", s).strip() for s in re.split(r"(?<=[.!?])\s", text))
    return sorted(s for s in found if 30 < len(s) < 300)


def write_corpus(folder: Path, chunks: int, pool: list[str], replaced: float) -> None:
    """Files of some forty chunks each."""
    folder.mkdir()
    rng = random.Random(1)
    words = sorted({word for sentence in pool for word in sentence.split()})
    for number in range(max(chunks // _CHUNKS_PER_FILE, 1)):
        paragraphs = []
        for _ in range(_CHUNKS_PER_FILE * 4 // 5):
            text = " ".join(rng.sample(pool, 11)).split()
            paragraphs.append(" ".join(rng.choice(words) if rng.random() < replaced else word for word in text))
        (folder / f"{number:05d}.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")


def build(state_dir: Path, folder: Path, chunks: int, pool: list[str], replayed: bool) -> None:
    """Index the documents and say what that took."""
    write_corpus(folder, chunks, pool, _REPLACED_WORDS if replayed else 0.0)
    embedder = None
    if replayed:
        rng = random.Random(4)
        embedder = ReplayedEmbedder(EncoderEmbedder(), [" ".join(rng.sample(pool, 8)) for _ in range(500)])
    report = index(LoadedConfig(PipelineConfig()), state_dir, IndexRequest([str(folder)]), embedder=embedder)
    rate = report.tokens_embedded / report.seconds
    print(f"{report.chunk_count} chunks, {report.tokens_embedded} tokens, indexed in {report.seconds:.0f} s")
    if not replayed:
        print(f"({rate:.0f} tokens/s end to end)")


def measure(state_dir: Path, questions: list[str], profile: bool) -> None:
    """Ask, and print milliseconds by stage; the first three questions warm the process up."""
    with QueryEngine(PipelineConfig(), state_dir) as engine:
        for question in questions[:3]:
            engine.query(QueryRequest(question))
        profiler = cProfile.Profile()
        timings, cpu = [], []
        for question in questions:
            before = time.process_time()
            if profile:
                profiler.enable()
            timings.append(engine.query(QueryRequest(question)).timings_s)
            profiler.disable()
            cpu.append(time.process_time() - before)
    print(f"{'stage':10s} {'p50 ms':>8s} {'p95 ms':>8s}")
    for stage in timings[0]:
        values = np.array([timing[stage] for timing in timings]) * 1e3
        print(f"{stage:10s} {np.percentile(values, 50):8.1f} {np.percentile(values, 95):8.1f}")
    print(f"{'CPU':10s} {np.percentile(cpu, 50) * 1e3:8.1f} {np.percentile(cpu, 95) * 1e3:8.1f}")
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(35)


def main() -> None:
    """Build the index, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=5000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--replayed", action="store_true", help="passages' vectors put together from real ones")
    parser.add_argument("--state-dir", type=Path, help="keep the index here, or ask the one that is there")
    parser.add_argument("--profile", action="store_true", help="print where the time of queries goes")
    parser.add_argument("--no-cold", action="store_true", help="leave the cold commands out")
    arguments = parser.parse_args()
    pool = sentences()
    rng = random.Random(2)
    questions = [f"What does it mean: {rng.choice(pool)[:80]}?" for _ in range(arguments.queries)]
    with tempfile.TemporaryDirectory() as folder:
        state_dir = arguments.state_dir or Path(folder) / ".ragstack"
        if not (state_dir / "ledger.db").exists():
            build(state_dir, Path(folder) / "corpus", arguments.chunks, pool, arguments.replayed)
        size = sum(f.stat().st_blocks * 512 for f in state_dir.rglob("*") if f.is_file())
        print(f"{size / 1e6:.0f} MB on disk")
        measure(state_dir, questions, arguments.profile)
        if arguments.no_cold:
            return
        cold = []
        (Path(folder) / "ragstack.yaml").write_text(f"indexer: {{state_dir: {state_dir.resolve()}}}\n")
        for question in questions[:7]:
            started = time.perf_counter()
            command = [sys.executable, "-m", "ragstack", "query", question]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            cold.append(time.perf_counter() - started)
        print(f"cold command: median {np.median(cold):.2f} s, largest {max(cold):.2f} s (the first reads from disk)")


if __name__ == "__main__":
    main()
