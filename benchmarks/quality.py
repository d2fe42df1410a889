"""Retrieval, citation and refusal quality of the default pipeline, stage by stage.

    python benchmarks/quality.py --squad XQUAD.json [XQUAD.json ...] [--max-tokens 100 200 300] [--questions 400]
    python benchmarks/quality.py --squad XQUAD.json --scifact SCIFACT_FOLDER --answer-spans ANSWER_SPANS_FOLDER

Each data set is a corpus of its own with its own questions: paragraphs of SQuAD-format files, abstracts of SciFact (a
BEIR folder), long Markdown documents with spans (answer_spans). Printed for each: MRR and nDCG@10 over files after each
stage, and of the gold spans

* how often they lie whole in one of the first five passages, and in the cited sentences (recall),
* which share of their bytes is cited, and which share of the cited bytes is gold,
* which share of the cited sentences touches a gold span (precision of sentences),

and how many questions were refused. Then every data set's questions are asked of every other one's corpus: there, all
should be refused. ``--half odd`` asks every second question, those that no constant was fitted on. ``--folder`` keeps
corpora and indexes, so that a second run does not index again.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ragstack.citations.chain import Chain, Place
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.indexer.run import IndexRequest, index
from ragstack.retrieval.engine import QueryEngine, QueryRequest


@dataclass(frozen=True)
class Span:
    """A range of bytes of a file."""

    source_id: str
    byte_start: int
    byte_end: int

    def within(self, place: Place) -> bool:
        """True when the place holds all of it."""
        same = place.source_id == self.source_id
        return same and place.byte_start <= self.byte_start and self.byte_end <= place.byte_end

    def shared(self, places: Iterable[Place]) -> int:
        """How many of its bytes lie in one of the places or another."""
        mine = np.zeros(self.byte_end - self.byte_start, dtype=bool)
        for place in places:
            if place.source_id == self.source_id:
                first, last = place.byte_start - self.byte_start, place.byte_end - self.byte_start
                mine[max(first, 0) : max(last, 0)] = True
        return int(mine.sum())


@dataclass(frozen=True)
class Asked:
    """A question, the files that answer it, and where in them; no spans where the data set names files alone."""

    question: str
    source_ids: tuple[str, ...]
    spans: tuple[Span, ...] = ()


def squad_corpus(squad: Path, folder: Path) -> list[Asked]:
    """One file a paragraph."""
    questions = []
    for a, article in enumerate(json.loads(squad.read_text(encoding="utf-8"))["data"]):
        for p, paragraph in enumerate(article["paragraphs"]):
            name, context = f"{a:04d}-{p:03d}.txt", paragraph["context"]
            (folder / name).write_bytes(context.encode())
            source_id = f"{folder.name}/{name}"
            for item in paragraph["qas"]:
                answer = item["answers"][0]
                start = len(context[: answer["answer_start"]].encode())
                span = Span(source_id, start, start + len(answer["text"].encode()))
                questions.append(Asked(item["question"], (source_id,), (span,)))
    return questions


def scifact_corpus(data: Path, folder: Path) -> list[Asked]:
    """One file an abstract, its title first; the claims of all splits."""
    for line in (data / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        (folder / f"{row['_id']}.txt").write_bytes(f"{row['title']}\n\n{row['text']}".encode())
    relevant: dict[str, list[str]] = {}
    for split in sorted((data / "qrels").iterdir()):
        for line in split.read_text(encoding="utf-8").splitlines()[1:]:
            query, document, score = line.split("\t")
            if int(score) > 0:
                relevant.setdefault(query, []).append(f"{folder.name}/{document}.txt")
    rows = [json.loads(line) for line in (data / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    return [Asked(row["text"], tuple(relevant[row["_id"]])) for row in rows if row["_id"] in relevant]


def spans_corpus(data: Path, folder: Path) -> list[Asked]:
    """The documents as they are; an answer may have several spans."""
    texts = {path.stem: path.read_bytes().decode("utf-8") for path in sorted(data.glob("*.md"))}
    for name, text in texts.items():
        (folder / f"{name}.md").write_bytes(text.encode())
    questions = []
    for line in (data / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        text, source_id = texts[row["corpus"]], f"{folder.name}/{row['corpus']}.md"
        spans = tuple(
            Span(source_id, *(len(text[: part[key]].encode()) for key in ("start_index", "end_index")))
            for part in row["references"]
        )
        questions.append(Asked(row["question"], (source_id,), spans))
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


def stage_figures(chain: Chain, gold: Asked) -> dict[str, float]:
    """MRR and nDCG@10 of one question, all relevant files counting alike."""
    figures = {}
    for stage, order in stage_orders(chain).items():
        gains = [source in gold.source_ids for source in order]
        figures[f"MRR {stage}"] = 1 / (gains.index(True) + 1) if any(gains) else 0.0
        ideal = sum(1 / np.log2(rank + 2) for rank in range(min(len(set(gold.source_ids)), 10)))
        figures[f"nDCG@10 {stage}"] = sum(g / np.log2(rank + 2) for rank, g in enumerate(gains[:10])) / ideal
    return figures


def span_figures(chain: Chain, gold: Asked) -> dict[str, float]:
    """What passages and citations hold of the gold spans; those of the citations only where there are any."""
    cited = [] if chain.answer is None else [citation.place for citation in chain.answer.citations]
    total = sum(span.byte_end - span.byte_start for span in gold.spans)
    five = [passage.place for passage in chain.passages[:5]]
    figures = {
        "spans whole in 5 passages": float(np.mean([any(map(span.within, five)) for span in gold.spans])),
        "bytes of spans in 5 passages": sum(span.shared(five) for span in gold.spans) / total,
        "spans whole in the answer": float(
            np.mean([span.shared(cited) == span.byte_end - span.byte_start for span in gold.spans])
        ),
        "bytes of spans in the answer": sum(span.shared(cited) for span in gold.spans) / total,
    }
    if cited:
        length = sum(place.byte_end - place.byte_start for place in cited)
        touching = [any(span.shared([place]) for span in gold.spans) for place in cited]
        figures["cited bytes that are gold"] = sum(span.shared(cited) for span in gold.spans) / length
        figures["cited sentences with gold"] = float(np.mean(touching))
        figures["sentences in an answer"] = len(cited)
        figures["cited bytes"] = length
    return figures


def evaluate(engine: QueryEngine, questions: Sequence[Asked]) -> dict[str, float]:
    """Mean figures over the questions; refusals count as misses, but not in the precision of citations."""
    figures: dict[str, list[float]] = {}
    totals = []
    for gold in questions:
        chain = engine.query(QueryRequest(gold.question, top_n=10))
        found = stage_figures(chain, gold) | (span_figures(chain, gold) if gold.spans else {})
        for name, value in {**found, "refused": float(not chain.passages)}.items():
            figures.setdefault(name, []).append(value)
        totals.append(chain.timings_s["total"] * 1e3)
    means = {name: float(np.mean(values)) for name, values in figures.items()}
    return {**means, "p50 ms": float(np.median(totals))}


def refused(engine: QueryEngine, questions: Sequence[Asked]) -> float:
    """Share of questions that the corpus is said not to answer."""
    return float(np.mean([not engine.query(QueryRequest(q.question, with_answer=False)).passages for q in questions]))


def sampled(questions: Sequence[Asked], most: int, half: str) -> list[Asked]:
    """At most ``most`` questions, of all, or of those that constants were fitted on (even) or not (odd)."""
    kept = questions[{"all": 0, "even": 0, "odd": 1}[half] :: 1 if half == "all" else 2]
    return random.Random(7).sample(list(kept), min(most, len(kept)))


def print_figures(title: str, figures: dict[str, float]) -> None:
    """One line a figure."""
    print(f"\n{title}", flush=True)
    for name, value in figures.items():
        is_count = name.endswith("ms") or name in ("cited bytes", "sentences in an answer")
        print(f"  {name:40s} {value:8.1f}" if is_count else f"  {name:40s} {value:8.4f}", flush=True)


def main() -> None:
    """Parse arguments, index, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", type=Path, nargs="*", default=[])
    parser.add_argument("--scifact", type=Path)
    parser.add_argument("--answer-spans", type=Path)
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--half", choices=("all", "even", "odd"), default="all")
    parser.add_argument("--max-tokens", type=int, nargs="+", default=[200])
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    makers = [(path.stem, squad_corpus, path) for path in arguments.squad]
    makers += [("scifact", scifact_corpus, arguments.scifact)] if arguments.scifact else []
    makers += [("answer_spans", spans_corpus, arguments.answer_spans)] if arguments.answer_spans else []
    with tempfile.TemporaryDirectory() as temporary:
        base = arguments.folder or Path(temporary)
        asked = {}
        for name, make, data in makers:
            corpus = base / name / "corpus"
            corpus.mkdir(parents=True, exist_ok=True)
            asked[name] = sampled(make(data, corpus), arguments.questions, arguments.half)
        for max_tokens in arguments.max_tokens:
            config = PipelineConfig.model_validate({"chunker": {"max_tokens": max_tokens}})
            for name, own in asked.items():
                state_dir = base / name / f"state-{max_tokens}"
                index(LoadedConfig(config), state_dir, IndexRequest([str(base / name / "corpus")]))
                with QueryEngine(config, state_dir) as engine:
                    figures = evaluate(engine, own)
                    for other, questions in asked.items():
                        if other.split(".")[0] != name.split(".")[0]:  # the same paragraphs in another language
                            figures[f"refused of {other}"] = refused(engine, questions)
                print_figures(f"{name}, max_tokens {max_tokens}: {len(own)} questions", figures)


if __name__ == "__main__":
    main()
