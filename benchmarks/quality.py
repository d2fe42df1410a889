"""Retrieval and citation quality of the default pipeline on a SQuAD-format file, stage by stage.

    python benchmarks/quality.py SQUAD.json [--questions 400] [--max-tokens 100 200 300] [--off-topic queries.jsonl]

Each paragraph becomes one text file. Printed for each chunk size: MRR and nDCG@10 over files after each
stage (dense leg, sparse leg, fusion, reranking), how often the gold answer span lies whole inside one of the
first five passages and inside a cited sentence, and how many questions were refused. With --off-topic, the queries
of a BEIR queries.jsonl are asked too; all of those should be refused.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ragstack.citations.chain import Chain, Place
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.indexer.run import IndexRequest, index
from ragstack.retrieval.engine import QueryEngine, QueryRequest


@dataclass(frozen=True)
class Gold:
    """A question, the file that answers it, and the byte range of the answer in that file."""

    question: str
    source_id: str
    byte_start: int
    byte_end: int

    def within(self, place: Place) -> bool:
        """True when the place holds the whole answer."""
        return (
            place.source_id == self.source_id
            and place.byte_start <= self.byte_start
            and self.byte_end <= place.byte_end
        )


def write_corpus(squad: Path, folder: Path) -> list[Gold]:
    """One file a paragraph; the questions with their gold spans in bytes."""
    folder.mkdir(parents=True)
    questions = []
    for a, article in enumerate(json.loads(squad.read_text(encoding="utf-8"))["data"]):
        for p, paragraph in enumerate(article["paragraphs"]):
            name, context = f"{a:04d}-{p:03d}.txt", paragraph["context"]
            (folder / name).write_bytes(context.encode())
            for item in paragraph["qas"]:
                answer = item["answers"][0]
                start = len(context[: answer["answer_start"]].encode())
                end = start + len(answer["text"].encode())
                questions.append(Gold(item["question"], f"{folder.name}/{name}", start, end))
    return questions


def stage_orders(chain: Chain) -> dict[str, list[str]]:
    """Source ids in the order of each stage, best first, each once."""
    orders: dict[str, list[str]] = {}
    for leg in ("dense", "sparse"):
        found = sorted((c.legs[leg].rank, c.source_id) for c in chain.candidates if leg in c.legs)
        orders[leg] = [source for _, source in found]
    orders["fused"] = [c.source_id for c in chain.candidates]
    orders["reranked"] = [passage.place.source_id for passage in chain.passages]
    return {stage: list(dict.fromkeys(order)) for stage, order in orders.items()}


def evaluate(engine: QueryEngine, questions: Sequence[Gold]) -> dict[str, float]:
    """Mean figures over the questions; refusals count as misses of the last stages."""
    figures: dict[str, list[float]] = {}
    totals = []
    for gold in questions:
        chain = engine.query(QueryRequest(gold.question, top_n=10))
        for stage, order in stage_orders(chain).items():
            rank = order.index(gold.source_id) + 1 if gold.source_id in order else 0
            figures.setdefault(f"MRR {stage}", []).append(1 / rank if rank else 0.0)
            figures.setdefault(f"nDCG@10 {stage}", []).append(1 / np.log2(rank + 1) if 0 < rank <= 10 else 0.0)
        cited = [] if chain.answer is None else [citation.place for citation in chain.answer.citations]
        figures.setdefault("span in 5 passages", []).append(any(gold.within(p.place) for p in chain.passages[:5]))
        figures.setdefault("span in cited sentences", []).append(any(gold.within(place) for place in cited))
        figures.setdefault("refused", []).append(not chain.passages)
        totals.append(chain.timings_s["total"] * 1e3)
    means = {name: float(np.mean(values)) for name, values in figures.items()}
    return {**means, "p50 ms": float(np.median(totals))}


def refused(engine: QueryEngine, questions: Sequence[str]) -> float:
    """Share of questions that the corpus is said not to answer."""
    return float(np.mean([not engine.query(QueryRequest(question)).passages for question in questions]))


def main() -> None:
    """Parse arguments, index, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("squad", type=Path)
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--max-tokens", type=int, nargs="+", default=[200])
    parser.add_argument("--off-topic", type=Path)
    arguments = parser.parse_args()
    sample: Callable[[list[Gold]], list[Gold]] = lambda golds: random.Random(7).sample(  # noqa: E731
        golds, min(arguments.questions, len(golds))
    )
    for max_tokens in arguments.max_tokens:
        with tempfile.TemporaryDirectory() as folder:
            questions = sample(write_corpus(arguments.squad, Path(folder) / "corpus"))
            config = PipelineConfig.model_validate({"chunker": {"max_tokens": max_tokens}})
            state_dir = Path(folder) / "state"
            report = index(LoadedConfig(config), state_dir, IndexRequest([f"{folder}/corpus"]))
            with QueryEngine(config, state_dir) as engine:
                figures = evaluate(engine, questions)
                if arguments.off_topic:
                    lines = arguments.off_topic.read_text(encoding="utf-8").splitlines()
                    others = random.Random(7).sample([json.loads(line)["text"] for line in lines], 200)
                    figures["off-topic refused"] = refused(engine, others)
        print(f"\nmax_tokens {max_tokens}: {report.chunk_count} chunks, {len(questions)} questions")
        for name, value in figures.items():
            print(f"  {name:26s} {value:8.1f}" if name.endswith("ms") else f"  {name:26s} {value:8.4f}")


if __name__ == "__main__":
    main()
