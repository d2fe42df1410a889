"""Fits the constants of ragstack/reranking/relevance.py on one half of the questions and reports on the other.

    python benchmarks/fit_relevance.py --squad XQUAD.json --scifact SCIFACT_FOLDER --answer-spans FOLDER --folder F

Corpora are those of benchmarks/quality.py (``--folder`` shares its indexes), and small ones cut from them: twelve
articles of five paragraphs and twelve times ten abstracts. Each corpus is asked its own questions and those of the
others; of every question the cosine, the BM25 share and the MaxSim of all candidates are taken from the query path
itself. Corpora count alike, so do answerable and other questions. The weight of the corpus's size is given, not fitted:
it is chosen so that small and large corpora refuse alike. Printed are the two sets of constants, and what each
corpus refuses of the odd half with the constants printed.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from quality import Asked, scifact_corpus, spans_corpus, squad_corpus

from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.indexer.run import IndexRequest, index
from ragstack.reranking.relevance import REFERENCE, RelevanceScale, relevance
from ragstack.retrieval.engine import QueryEngine, QueryRequest

Float64Array = NDArray[np.float64]
LOG_COUNT = -1.0
REFUSED = 0.024
# The logistic function is made half as steep, so that its values are spread over 0 to 1.
TEMPERATURE = 2.0
LATE = "ragstack.reranking.late_interaction.relevance_of"


@dataclass(frozen=True)
class Seen:
    """One question's candidates: ``(n, 4) float64`` of cosine, MaxSim, share and log10 of the corpus's size."""

    rows: Float64Array
    is_answerable: bool


def seen(engine: QueryEngine, question: str, is_answerable: bool) -> Seen:
    """Ask one question; what relevance is made of is taken where the reranker hands it over."""
    found: list[Float64Array] = []

    def record(
        scale: RelevanceScale, cosine: Float64Array, sparse: Float64Array, maxsim: Float64Array | None
    ) -> Float64Array:
        matched = np.zeros(len(cosine)) if maxsim is None else maxsim
        ceiling = scale.sparse_ceiling or 1.0
        count = min(math.log10(max(scale.chunk_count, 1)), 4.0)
        share = np.clip(sparse / ceiling, 0, 1)
        own = [1 - (1 - cosine) * (1 - REFERENCE.cosine) / (1 - scale.background.cosine)]
        own += [1 - (1 - matched) * (1 - REFERENCE.maxsim) / (1 - scale.background.maxsim)]
        found.append(np.stack([*own, share, np.full(len(cosine), count)], axis=1))
        return relevance(scale, cosine, sparse, maxsim)

    with mock.patch(LATE, record):
        engine.query(QueryRequest(question, with_answer=False))
    return Seen(found[0] if found else np.zeros((1, 4)), is_answerable)


def small_corpora(base: Path, asked: Mapping[str, Sequence[Asked]]) -> Iterator[tuple[str, Path, list[Asked]]]:
    """Corpora of five paragraphs and of ten abstracts: name, folder, the questions that each answers."""
    draw = random.Random(7)
    for name, per_corpus in (("xquad.en", 5), ("scifact", 10)):
        if name not in asked:
            continue
        files = sorted(path.name for path in (base / name / "corpus").iterdir())
        for number in range(12):
            if name == "scifact":
                gold = draw.choice(asked[name])
                kept = {source.split("/")[1] for source in gold.source_ids}
                kept |= set(draw.sample(files, per_corpus))
            else:
                kept = set(files[number * 4 * per_corpus : (number * 4 + 1) * per_corpus])
            folder = base / f"small-{name}" / str(number) / "corpus"
            if not folder.exists():
                folder.mkdir(parents=True)
                for file in kept:
                    shutil.copy(base / name / "corpus" / file, folder)
            here = {f"corpus/{path.name}" for path in folder.iterdir()}
            yield f"small {name}", folder, [q for q in asked[name] if set(q.source_ids) <= here]


def fit(sets: Mapping[str, list[Seen]], columns: Sequence[int]) -> Float64Array:
    """Weights of the columns and the intercept, by ridge-regularised iteratively reweighted least squares.

    A question is its best candidate, as it is when a query is refused or not; which one that is changes with the
    weights, so it is chosen anew a few times.
    """
    weights = np.array([15.0, 13.0, 8.0])[list(columns)]
    intercept = -12.0
    for _ in range(4):
        rows, labels, counts = [], [], []
        for label in (True, False):
            groups = [[s for s in group if s.is_answerable is label] for group in sets.values()]
            groups = [group for group in groups if group]
            for group in groups:
                for question in group:
                    best = question.rows[(question.rows[:, columns] @ weights).argmax()]
                    rows.append(np.append(best[list(columns)], [1.0, LOG_COUNT * best[3]]))
                    labels.append(float(label))
                    counts.append(1 / len(group) / len(groups))
        x, y, share = np.array(rows), np.array(labels), np.array(counts)
        beta = np.append(weights, intercept)
        for _ in range(25):
            p = 1 / (1 + np.exp(-np.clip(x[:, :-1] @ beta + x[:, -1], -30, 30)))
            curve = share * p * (1 - p)
            ridge = 2e-5 * np.append(np.ones(len(weights)), 0)
            step = x[:, :-1].T @ (share * (y - p)) - ridge * beta
            beta = beta + np.linalg.solve((x[:, :-1].T * curve) @ x[:, :-1] + np.diag(ridge + 1e-9), step)
        weights, intercept = beta[:-1], beta[-1]
    return beta


def logit(question: Seen, beta: Float64Array, columns: Sequence[int]) -> float:
    """The largest logit among a question's candidates."""
    return float((question.rows[:, list(columns)] @ beta[:-1] + LOG_COUNT * question.rows[:, 3]).max() + beta[-1])


def main() -> None:
    """Index, ask, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", type=Path, required=True)
    parser.add_argument("--scifact", type=Path)
    parser.add_argument("--answer-spans", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=400)
    arguments = parser.parse_args()
    base, config, draw = arguments.folder, PipelineConfig(), random.Random(3)
    makers = [("xquad.en", squad_corpus, arguments.squad), ("answer_spans", spans_corpus, arguments.answer_spans)]
    makers += [("scifact", scifact_corpus, arguments.scifact)] if arguments.scifact else []
    asked: dict[str, list[Asked]] = {}
    for name, make, data in makers:
        corpus = base / name / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        asked[name] = make(data, corpus)
    places = [(name, base / name / "corpus", asked[name]) for name, _, _ in makers]
    places += list(small_corpora(base, asked))
    halves: tuple[dict[str, list[Seen]], dict[str, list[Seen]]] = ({}, {})
    for name, corpus, own in places:
        state_dir = corpus.parent / "state-200"
        index(LoadedConfig(config), state_dir, IndexRequest([str(corpus)]))
        answered = {question.question for question in own}
        most = arguments.questions if name in asked else 40
        with QueryEngine(config, state_dir) as engine:
            for half in (0, 1):
                mine = own[half::2]
                group = [seen(engine, q.question, True) for q in draw.sample(mine, min(most, len(mine)))]
                # Those of the same kind too: claims on abstracts that a small corpus lacks.
                for questions in (
                    asked.values()
                    if name.startswith("small")
                    else [questions for other, questions in asked.items() if other != name]
                ):
                    others = [q for q in questions[half::2] if q.question not in answered]
                    group += [seen(engine, q.question, False) for q in draw.sample(others, min(most // 2, len(others)))]
                halves[half].setdefault(name, []).extend(group)
        print(name, len(own), flush=True)
    for title, columns in (("with MaxSim", (0, 1, 2)), ("without", (0, 2))):
        beta = fit(halves[0], columns)
        large = [q for name, group in halves[0].items() if name in ("xquad.en", "scifact") for q in group]
        cut = float(np.quantile([logit(q, beta, columns) for q in large if q.is_answerable], REFUSED))
        beta[-1] -= cut
        print(f"\n{title}: {np.round(beta / TEMPERATURE, 2)}, log_count {LOG_COUNT / TEMPERATURE}")
        for name, group in halves[1].items():
            for what, label in (("answerable", True), ("other", False)):
                values = [logit(q, beta, columns) for q in group if q.is_answerable is label]
                print(f"  {name:20s} {what:10s} refused {np.mean(np.array(values) < 0):.3f} of {len(values)}")


if __name__ == "__main__":
    main()
