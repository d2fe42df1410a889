"""Latency of a query over an index of a given size, by stage, and of a cold command.

    python benchmarks/query.py [--chunks 5000] [--queries 100]

The documents are made of sentences of the Python standard library's docstrings, shuffled: real English
and code words, no two chunks alike. Indexing 5,000 chunks of 200 tokens takes some minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.indexer.run import IndexRequest, index
from ragstack.retrieval.engine import QueryEngine, QueryRequest

_MODULES = "argparse asyncio collections concurrent.futures csv datetime decimal email functools http.client json "
_MODULES += "logging multiprocessing os pathlib random re shutil socket sqlite3 ssl statistics subprocess threading "
_MODULES += "turtle typing unittest urllib.request xml.dom.minidom zipfile ast calendar configparser ctypes fractions"


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


def write_corpus(folder: Path, chunks: int, pool: list[str]) -> None:
    """Files of some ten chunks each."""
    folder.mkdir()
    rng = random.Random(1)
    for number in range(max(chunks // 10, 1)):
        paragraphs = [" ".join(rng.sample(pool, 9)) for _ in range(8)]
        (folder / f"{number:05d}.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")


def main() -> None:
    """Build the index, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=5000)
    parser.add_argument("--queries", type=int, default=100)
    arguments = parser.parse_args()
    pool = sentences()
    rng = random.Random(2)
    questions = [f"What does it mean: {rng.choice(pool)[:80]}?" for _ in range(arguments.queries)]
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder) / "corpus", arguments.chunks, pool)
        config = PipelineConfig()
        state_dir = Path(folder) / ".ragstack"
        report = index(LoadedConfig(config), state_dir, IndexRequest([f"{folder}/corpus"]))
        rate = report.tokens_embedded / report.seconds
        size = sum(f.stat().st_blocks * 512 for f in state_dir.rglob("*") if f.is_file())
        print(f"{report.chunk_count} chunks, {report.tokens_embedded} tokens, indexed in {report.seconds:.0f} s")
        print(f"({rate:.0f} tokens/s end to end); {size / 1e6:.0f} MB on disk")
        with QueryEngine(config, state_dir) as engine:
            engine.query(QueryRequest(questions[0]))
            timings = [engine.query(QueryRequest(question)).timings_s for question in questions]
        print(f"{'stage':10s} {'p50 ms':>8s} {'p95 ms':>8s}")
        for stage in timings[0]:
            values = np.array([timing[stage] for timing in timings]) * 1e3
            print(f"{stage:10s} {np.percentile(values, 50):8.1f} {np.percentile(values, 95):8.1f}")
        cold = []
        for question in questions[:7]:
            started = time.perf_counter()
            command = [sys.executable, "-m", "ragstack", "query", question]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            cold.append(time.perf_counter() - started)
        print(f"cold command: median {np.median(cold):.2f} s, largest {max(cold):.2f} s (the first reads from disk)")


if __name__ == "__main__":
    main()
