"""Quality of the sparse leg alone, on SciFact (BEIR) and XQuAD: nDCG@10 by language setting and weights.

    python benchmarks/bm25.py DATA [--only scifact xquad.de ...] [--settings auto english k1=1.2,b=0.75 ...]

DATA holds ``scifact/`` and ``xquad/``. SciFact's abstracts have their title as heading. Questions are halved by
parity (even / odd), so that a setting chosen on one half can be judged by the other. Nothing is embedded; scores are
those of the true average length, as the sparse leg gives them. Seconds to a minute a row, on one core.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.embedding.bm25_scores import Bm25Query
from ragstack.languages import detect_language

DEFAULTS = {"language": "auto", "k1": 0.9, "b": 0.4, "heading_weight": 2}


@dataclass(frozen=True)
class Dataset:
    """Passages as (id, headings, text), and questions with the ids of what answers them."""

    passages: Sequence[tuple[str, tuple[str, ...], str]]
    questions: Sequence[tuple[str, frozenset[str]]]


def scifact(folder: Path) -> Dataset:
    """The abstracts, and the claims of both splits."""
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    relevant: dict[str, set[str]] = defaultdict(set)
    for path in sorted((folder / "qrels").glob("*.tsv")):
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            query, document, score = line.split("\t")
            if int(score) > 0:
                relevant[query].add(document)
    claims = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = [(row["text"], frozenset(relevant[row["_id"]])) for row in claims if row["_id"] in relevant]
    return Dataset([(row["_id"], (row["title"],), row["text"]) for row in rows], asked)


def xquad(path: Path) -> Dataset:
    """The paragraphs and their questions."""
    passages, questions = [], []
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            identity = str(len(passages))
            passages.append((identity, (), paragraph["context"]))
            questions += [(item["question"], frozenset({identity})) for item in paragraph["qas"]]
    return Dataset(passages, questions)


def gains(data: Dataset, encoder: Bm25Encoder) -> list[float]:
    """nDCG@10 of each question."""
    languages = [detect_language(text) or "" for _, _, text in data.passages]
    encoded = [
        encoder.encode_chunk(text, headings, {}, language)
        for (_, headings, text), language in zip(data.passages, languages, strict=True)
    ]
    lengths = np.array([passage.term_count for passage in encoded], dtype=np.float64)
    statistics = Bm25Query(encoder, encoder.encode_query_terms(""), float(lengths.mean()), int(lengths.max()))
    postings: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for row, passage in enumerate(encoded):
        weights = statistics.true_weights(passage.vector.values.astype(np.float64), lengths[row : row + 1])
        for index, weight in zip(passage.vector.indices.tolist(), weights.tolist(), strict=True):
            postings[index].append((row, weight))
    columns = {index: tuple(np.array(part) for part in zip(*rows, strict=True)) for index, rows in postings.items()}
    frequencies = {index: len(rows) for index, rows in postings.items()}
    found = []
    for question, expected in data.questions:
        query = encoder.encode_query(question, frequencies, len(encoded), frozenset(languages))
        scores = np.zeros(len(encoded))
        for index, weight in zip(query.indices.tolist(), query.values.tolist(), strict=True):
            if index in columns:
                rows, weights = columns[index]
                scores[rows] += weight * weights
        best = [data.passages[row][0] for row in np.argsort(-scores, kind="stable")[:10]]
        ideal = sum(1 / math.log2(i + 2) for i in range(min(10, len(expected))))
        found.append(sum(1 / math.log2(i + 2) for i, name in enumerate(best) if name in expected) / ideal)
    return found


def encoder_of(setting: str) -> Bm25Encoder:
    """The encoder of ``auto``, a language, ``none``, or of settings such as ``k1=1.2,b=0.75``."""
    given: dict[str, Any] = dict(DEFAULTS)
    for part in setting.split(","):
        name, _, value = part.rpartition("=")
        if name in ("", "language"):
            given["language"] = None if value == "none" else value
        else:
            given[name] = type(DEFAULTS[name])(value)
    return Bm25Encoder(**given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", default=["scifact", "xquad.en", "xquad.de", "xquad.es"])
    parser.add_argument("--settings", nargs="+", default=["auto", "none", "english", "k1=1.2,b=0.75"])
    arguments = parser.parse_args()
    print(f"{'data':10} {'setting':24} {'nDCG@10':>8} {'even':>8} {'odd':>8}")
    for name in arguments.only:
        folder = arguments.data / name.partition(".")[0]
        data = scifact(folder) if name == "scifact" else xquad(folder / f"{name}.json")
        for setting in arguments.settings:
            found = np.array(gains(data, encoder_of(setting)))
            halves = f"{found[::2].mean():8.4f} {found[1::2].mean():8.4f}"
            print(f"{name:10} {setting:24} {found.mean():8.4f} {halves}", flush=True)


if __name__ == "__main__":
    main()
