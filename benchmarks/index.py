"""How fast and how lean indexing is.

    python benchmarks/index.py throughput [--files 2000] [--rounds 3]   end to end against embedding alone
    python benchmarks/index.py memory [--chunks 10000 50000 200000]   peak memory, with the embedder without a model
    python benchmarks/index.py unchanged [--files 20000]   a second run over files that did not change

Each prints its figures; throughput and its peer run in the same process, in turn, on the same chunks.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ragstack.assembly import build_bm25, build_chunker, build_embedder
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.indexer.discovery import FoundFile, discover
from ragstack.indexer.prepare import Preparation, Prepared
from ragstack.indexer.roots import Scope
from ragstack.indexer.run import IndexRequest, index

_TEXT = """
the pump valve pressure turbine is was checked every morning before start operators log temperature
in kelvin when alarm rings close main line wait for green lamp then open bypass slowly record result
and report to shift leader who decides whether maintenance follows within a week or month depending
on wear of bearings
"""


def write_mixed(folder: Path, files: int, seed: int = 1) -> None:
    """Markdown, text and Python files of 0.3 to 4 KB, no two alike."""
    rng, words = random.Random(seed), _TEXT.split()

    def sentence() -> str:
        return " ".join(rng.choices(words, k=rng.randint(6, 18))).capitalize() + f" {rng.randint(0, 99999)}."

    for number in range(files):
        place = folder / f"{number % 50:02d}"
        place.mkdir(parents=True, exist_ok=True)
        paragraphs = [" ".join(sentence() for _ in range(rng.randint(1, 6))) for _ in range(rng.randint(1, 7))]
        kind = number % 3
        if kind == 0:
            text = f"# Note {number}\n\n" + "\n\n## Part\n\n".join(paragraphs) + "\n"
            (place / f"{number:06d}.md").write_text(text, encoding="utf-8")
        elif kind == 1:
            (place / f"{number:06d}.txt").write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
        else:
            parts = [f'def f{i}(x):\n    """{text}"""\n    return x + {i}\n' for i, text in enumerate(paragraphs)]
            (place / f"{number:06d}.py").write_text("\n\n".join(parts), encoding="utf-8")


def throughput(files: int, rounds: int) -> None:
    """End to end against embedding the same chunks in groups of the same size, in turn.

    "Warm" is given the loaded model, as a peer's pipeline that was warmed up is; "cold" loads it in the run.
    """
    config = PipelineConfig()
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary) / "corpus"
        write_mixed(corpus, files)
        texts, tokens = _prepared(config, corpus)
        embedder = build_embedder(config.embedder)
        embedder.embed(texts[:200], "passage", ("dense", "tokens"))
        ratios: dict[str, list[float]] = {"cold": [], "warm": []}
        for round_ in range(rounds):
            started = time.perf_counter()
            size = config.indexer.group_chunks
            for start in range(0, len(texts), size):
                embedder.embed(texts[start : start + size], "passage", ("dense", "tokens"))
            alone = time.perf_counter() - started
            for kind, lent in (("cold", None), ("warm", embedder)):
                state_dir = Path(temporary) / f"state-{kind}-{round_}"
                report = index(LoadedConfig(config), state_dir, IndexRequest([str(corpus)]), embedder=lent)
                ratios[kind].append(alone / report.seconds)
                print(
                    f"embed alone {tokens / alone:7.0f} tokens/s, end to end {tokens / report.seconds:7.0f} tokens/s,"
                    f" {kind} ratio {ratios[kind][-1]:.3f}  ({report.chunk_count} chunks, {tokens} tokens)",
                    flush=True,
                )
        embedder.close()
    for kind, found in ratios.items():
        print(f"median ratio, {kind}: {statistics.median(found):.3f}")


def _prepared(config: PipelineConfig, corpus: Path) -> tuple[list[str], int]:
    """The texts that the index run embeds, and how many tokens their chunks have."""
    embedder = build_embedder(config.embedder)
    chunker = build_chunker(config.chunker)
    build_bm25(config)
    preparation = Preparation("0" * 64, chunker, embedder.tokenizer, embedder.info.max_tokens)
    texts: list[str] = []
    tokens = 0
    for file in _files(config, corpus):
        outcome = preparation.prepare(file, None)
        if isinstance(outcome, Prepared):
            texts += [item.chunk.embedded_text for item in outcome.chunks]
            tokens += sum(item.chunk.token_count for item in outcome.chunks)
    embedder.close()
    return texts, tokens


def _files(config: PipelineConfig, corpus: Path) -> list[FoundFile]:
    scope = Scope(corpus.name, corpus, "")
    return discover([scope], {corpus.name: corpus}, config.sources, []).files


_CHILD = """
import sys
import threading
from pathlib import Path
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.indexer.run import IndexRequest, index
config = PipelineConfig.model_validate({"embedder": {"type": "hashing", "dim": 384}, "indexer": {"min_free_bytes": 0}})
def kilobytes(name):
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[name].split()[0])
peak, done = 0, threading.Event()
def sample():
    global peak
    while not done.wait(0.05):
        peak = max(peak, kilobytes("RssAnon"))
threading.Thread(target=sample, daemon=True).start()
report = index(LoadedConfig(config), Path(sys.argv[2]), IndexRequest([sys.argv[1]]))
done.set()
print(report.chunk_count, round(report.seconds), kilobytes("VmHWM"), peak)
"""


def memory(counts: list[int]) -> None:
    """Peak resident memory of a whole process, on Linux, for indexes of these sizes.

    "Own" is the process's own memory (RssAnon). "With mapped files" (VmHWM) counts the pages of the store's files
    too that were touched: page cache, which the system takes back when it needs memory.
    """
    for chunks in counts:
        with tempfile.TemporaryDirectory() as temporary:
            corpus = Path(temporary) / "corpus"
            write_mixed(corpus, int(chunks / 2.4))
            command = [sys.executable, "-c", _CHILD, str(corpus), str(Path(temporary) / "state")]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found, seconds, whole, own = map(int, done.stdout.split())
            print(
                f"{found} chunks in {seconds} s: peak {own / 1024:.0f} MB own, {whole / 1024:.0f} MB with mapped files",
                flush=True,
            )


def unchanged(files: int) -> None:
    """A run over files that did not change, in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary) / "corpus"
        write_mixed(corpus, files)
        config = Path(temporary) / "ragstack.yaml"
        config.write_text("version: 1\nembedder: {type: hashing}\n", encoding="utf-8")
        command = [sys.executable, "-m", "ragstack", "index", "corpus"]
        for name in ("first run", "second run (times may be too young to trust)", "third run", "fourth run"):
            started = time.perf_counter()
            subprocess.run(command, check=True, cwd=temporary, capture_output=True)
            print(f"{name}: {time.perf_counter() - started:.2f} s for {files} files", flush=True)
            time.sleep(2.1 if name == "first run" else 0)


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    speed = commands.add_parser("throughput")
    speed.add_argument("--files", type=int, default=2000)
    speed.add_argument("--rounds", type=int, default=3)
    commands.add_parser("memory").add_argument("--chunks", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    commands.add_parser("unchanged").add_argument("--files", type=int, default=20_000)
    arguments = parser.parse_args()
    if arguments.what == "throughput":
        throughput(arguments.files, arguments.rounds)
    elif arguments.what == "memory":
        memory(arguments.chunks)
    else:
        unchanged(arguments.files)


if __name__ == "__main__":
    main()
