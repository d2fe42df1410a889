"""Retrieval in and across languages, stage by stage, on files in SQuAD format that are translations of one another.

    python benchmarks/multilingual.py -c CONFIG... --data FOLDER [--languages en de es] [--questions 400] [--half odd]
    python benchmarks/multilingual.py --speed MODEL... --data FOLDER

FOLDER holds ``xquad.<language>.json``. Each paragraph becomes one text file. Every language's paragraphs are indexed
once with each config, and asked the questions of the same language and of the others; printed are MRR and nDCG@10
over files after each stage. ``--half`` takes every second question: constants are fitted on the even ones and reported
on the odd ones. ``--speed`` prints tokens and characters a CPU second of embedding the paragraphs, one model after the
other on one thread; the ratio of two models is what travels to other machines.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ragstack.citations.chain import Chain
from ragstack.config.loader import LoadedConfig, load_config
from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.indexer.run import IndexRequest, index
from ragstack.retrieval.engine import QueryEngine, QueryRequest

STAGES = ("dense", "sparse", "fused", "reranked")


def read(squad: Path) -> list[tuple[str, list[str]]]:
    """Paragraphs with their questions, in the file's order."""
    articles = json.loads(squad.read_text(encoding="utf-8"))["data"]
    return [(p["context"], [q["question"] for q in p["qas"]]) for article in articles for p in article["paragraphs"]]


def stage_orders(chain: Chain) -> dict[str, list[str]]:
    """Source ids in the order of each stage, best first, each once."""
    orders = {
        leg: [
            source for _, source in sorted((c.legs[leg].rank, c.source_id) for c in chain.candidates if leg in c.legs)
        ]
        for leg in ("dense", "sparse")
    }
    orders["fused"] = [c.source_id for c in chain.candidates]
    orders["reranked"] = [passage.place.source_id for passage in chain.passages]
    return {stage: list(dict.fromkeys(order)) for stage, order in orders.items()}


def figures(engine: QueryEngine, questions: Sequence[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """MRR and nDCG@10 of each stage; ``questions`` are pairs of a question and the source id that answers it."""
    found: dict[str, list[tuple[float, float]]] = {stage: [] for stage in STAGES}
    for question, source_id in questions:
        for stage, order in stage_orders(engine.query(QueryRequest(question, top_n=10))).items():
            rank = order.index(source_id) + 1 if source_id in order else 0
            ndcg = 1 / np.log2(rank + 1) if 0 < rank <= 10 else 0.0
            found[stage].append((1 / rank if rank else 0.0, float(ndcg)))
    return {stage: tuple(np.mean(pairs, axis=0)) for stage, pairs in found.items()}


def measure(loaded: LoadedConfig, options: argparse.Namespace) -> None:
    """Index each language, ask in every language, print a table."""
    data = {language: read(options.data / f"xquad.{language}.json") for language in options.languages}
    print("| questions | corpus | " + " | ".join(STAGES) + " |\n|---|---|" + "---|" * len(STAGES))
    with tempfile.TemporaryDirectory() as temporary:
        for corpus in options.languages:
            folder = Path(temporary) / corpus
            folder.mkdir()
            for number, (context, _) in enumerate(data[corpus]):
                (folder / f"{number:04d}.txt").write_bytes(context.encode())
            state_dir = Path(temporary) / f"state-{corpus}"
            index(loaded, state_dir, IndexRequest([str(folder)]))
            with QueryEngine(loaded.config, state_dir) as engine:
                for asked in options.languages:
                    pairs = [
                        (question, f"{corpus}/{number:04d}.txt")
                        for number, (_, questions) in enumerate(data[asked])
                        for question in questions
                    ]
                    pairs = pairs[{"all": 0, "even": 0, "odd": 1}[options.half] :: 1 if options.half == "all" else 2]
                    step = max(1, len(pairs) // options.questions)
                    result = figures(engine, pairs[::step][: options.questions])
                    cells = " | ".join(f"{mrr:.3f} / {ndcg:.3f}" for mrr, ndcg in result.values())
                    print(f"| {asked} | {corpus} | {cells} |", flush=True)


def speed(models: Sequence[str], options: argparse.Namespace) -> None:
    """Tokens and characters a CPU second, and what loading takes."""
    for model in models:
        started = time.process_time()
        embedder = EncoderEmbedder(model, threads=1)
        embedder.embed(["warm"], "query")
        loading = time.process_time() - started
        for language in options.languages:
            # Paragraphs longer than the model reads are left out of all.
            texts = [context for context, _ in read(options.data / f"xquad.{language}.json") if len(context) < 1200]
            texts = texts[:: max(1, len(texts) // 60)]
            tokens = sum(embedder.tokenizer.count(texts))
            started = time.process_time()
            embedder.embed(texts, "passage", ("dense", "tokens"))
            seconds = time.process_time() - started
            rates = f"{tokens / seconds:,.0f} tokens/s, {sum(map(len, texts)) / seconds:,.0f} characters/s"
            print(f"{model} {language}: {rates} of CPU; loaded in {loading:.2f} s of CPU", flush=True)
        embedder.close()


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", type=Path, action="append", default=[])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", default=["en", "de", "es"])
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--half", choices=("all", "even", "odd"), default="all")
    parser.add_argument("--speed", nargs="+", default=[], metavar="MODEL")
    options = parser.parse_args()
    for file in options.config:
        print(f"\n{file.name}, {options.questions} questions ({options.half}): MRR / nDCG@10")
        measure(load_config(file, {}), options)
    speed(options.speed, options)


if __name__ == "__main__":
    main()
