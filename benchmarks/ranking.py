"""Ablation of the default ranking: legs, weights, depth, and how token vectors are kept.

    python benchmarks/ranking.py BEIR_FOLDER|SQUAD.json [--state-dir FOLDER] [--compression] [--questions N]

The data set is indexed with the default config, one file a document or paragraph, and every question is asked once;
rankings are of files, by their best chunk. Figures are nDCG@10 and MRR over the even questions (by which constants
may be chosen) and over the odd ones (which tell how good the choice is). ``--compression`` embeds the candidates once
more and compares ways of keeping their token vectors, with the bytes that each takes for 200 tokens; that takes as
long as indexing. ``--state-dir`` keeps the index and goes on with the one that is there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.embedding.base import InputType
from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.embedding.token_compression import token_compression
from ragstack.indexer.run import IndexRequest, index
from ragstack.reranking.base import RerankQuery
from ragstack.reranking.late_interaction import max_sim
from ragstack.reranking.token_codec import TokenCodec
from ragstack.types import TokenVectors

DEEPEST = 100
WEIGHTS = {"maxsim": (0.0, 0.5, 1.0, 2.0), "sparse": (0.0, 0.15, 0.3, 0.45, 0.6)}
TOKENS = 200

Place: TypeAlias = tuple[str, int, int]
"""A chunk: its file, and its byte range there."""

Score: TypeAlias = Callable[["Asked", int], NDArray[np.float64]]
"""Scores of the first candidates of a question, as many as the number says."""


@dataclass(frozen=True)
class Question:
    """What is asked, and the names of the files that answer."""

    text: str
    answers: frozenset[str]


@dataclass(frozen=True)
class Asked:
    """A question with its candidates in fused order: their places, and the unweighted parts of their scores, ``(n,)``.

    ``dense_rank`` and ``sparse_rank`` are 0 where the leg did not find them.
    """

    question: Question
    places: Sequence[Place]
    dense: NDArray[np.float64]
    maxsim: NDArray[np.float64]
    sparse: NDArray[np.float64]
    dense_rank: NDArray[np.int64]
    sparse_rank: NDArray[np.int64]


def read_beir(folder: Path, corpus: Path) -> list[Question]:
    """One file a document, title first; the questions of every qrels file."""
    for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        (corpus / f"{row['_id']}.txt").write_text(f"{row['title']}\n\n{row['text']}", encoding="utf-8")
    answers: dict[str, set[str]] = {}
    for file in sorted((folder / "qrels").iterdir()):
        for line in file.read_text(encoding="utf-8").splitlines()[1:]:
            query, document, relevance = line.split("\t")
            if int(relevance) > 0:
                answers.setdefault(query, set()).add(f"{document}.txt")
    rows = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    return [Question(row["text"], frozenset(answers[row["_id"]])) for row in rows if row["_id"] in answers]


def read_squad(path: Path, corpus: Path) -> list[Question]:
    """One file a paragraph."""
    questions = []
    for a, article in enumerate(json.loads(path.read_text(encoding="utf-8"))["data"]):
        for p, paragraph in enumerate(article["paragraphs"]):
            name = f"{a:04d}-{p:03d}.txt"
            (corpus / name).write_text(paragraph["context"], encoding="utf-8")
            questions += [Question(item["question"], frozenset([name])) for item in paragraph["qas"]]
    return questions


def ask(state_dir: Path, questions: Sequence[Question]) -> list[Asked]:
    """Every question's candidates with the parts of their scores, as the pipeline computes them."""
    from ragstack.retrieval.engine import QueryEngine, QueryRequest

    blocks = {
        "retrieval": {"rerank_k": DEEPEST, "top_n": DEEPEST, "min_relevance": 0.0},
        "reranker": {"type": "late_interaction", "sparse_weight": 1.0},
    }
    asked = []
    with QueryEngine(PipelineConfig.model_validate(blocks), state_dir) as engine:
        for question in questions:
            chain = engine.query(QueryRequest(question.text, with_answer=False))
            parts = {passage.chunk_ids[0]: passage.score_parts for passage in chain.passages}
            found = [c for c in chain.candidates if c.chunk_id in parts]
            column = {
                name: np.array([parts[c.chunk_id][name] for c in found]) for name in ("dense", "maxsim", "sparse")
            }
            ranks = [
                np.array([c.legs[leg].rank if leg in c.legs else 0 for c in found], dtype=np.int64)
                for leg in ("dense", "sparse")
            ]
            places = [(c.source_id.rpartition("/")[2], c.byte_start, c.byte_end) for c in found]
            asked.append(Asked(question, places, column["dense"], column["maxsim"], column["sparse"], *ranks))
    return asked


def ndcg_and_mrr(asked: Asked, scores: NDArray[np.float64]) -> tuple[float, float]:
    """nDCG@10 and the reciprocal rank within ten, of files in the order of ``scores`` (those not finite left out)."""
    order = [i for i in np.argsort(-scores, kind="stable") if np.isfinite(scores[i])]
    files = list(dict.fromkeys(asked.places[i][0] for i in order))[:10]
    gains = [1 / math.log2(rank + 1) for rank, name in enumerate(files, 1) if name in asked.question.answers]
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(10, len(asked.question.answers)) + 1))
    first = next((1 / rank for rank, name in enumerate(files, 1) if name in asked.question.answers), 0.0)
    return sum(gains) / ideal, first


def show(label: str, asked: Sequence[Asked], score: Score, depth: int = 50) -> None:
    """One row: both halves and all of them."""
    found = np.array([ndcg_and_mrr(each, score(each, depth)) for each in asked])
    even, odd, every = found[::2].mean(axis=0), found[1::2].mean(axis=0), found.mean(axis=0)
    print(f"| {label} | {even[0]:.4f} | {odd[0]:.4f} | {every[0]:.4f} | {every[1]:.4f} |", flush=True)


def weighted(dense: float, maxsim: float, sparse: float) -> Score:
    """The late-interaction score with these weights."""

    def score(asked: Asked, depth: int) -> NDArray[np.float64]:
        share = asked.sparse[:depth] / max(float(asked.sparse[:depth].max(initial=0.0)), 1e-9)
        total: NDArray[np.float64] = dense * asked.dense[:depth] + maxsim * asked.maxsim[:depth] + sparse * share
        return total

    return score


def by_rank(ranks: Callable[[Asked], NDArray[np.int64]]) -> Score:
    """The order of one leg."""
    return lambda asked, depth: np.where(ranks(asked) > 0, -ranks(asked), -np.inf).astype(np.float64)


def show_stages(asked: Sequence[Asked]) -> None:
    """The tables of legs, weights and depth."""
    print("| ranking | even | odd | all | MRR |\n|---|---|---|---|---|")
    show("dense leg", asked, by_rank(lambda each: each.dense_rank))
    show("BM25 leg", asked, by_rank(lambda each: each.sparse_rank))
    show("fused (RRF)", asked, lambda each, _: -np.arange(len(each.places), dtype=np.float64))
    for depth in (20, 50, 100):
        show(f"reranked, depth {depth}", asked, weighted(1, 1, 0.3), depth)
    print("\n| weights: dense 1, maxsim, sparse | even | odd | all | MRR |\n|---|---|---|---|---|")
    for maxsim, sparse in itertools.product(WEIGHTS["maxsim"], WEIGHTS["sparse"]):
        show(f"{maxsim}, {sparse}", asked, weighted(1, maxsim, sparse))


def codecs() -> dict[str, TokenCodec]:
    """The ways of keeping token vectors that are compared; the last one is the default."""
    found = token_compression("all-MiniLM-L6-v2")
    assert found is not None
    projection, steps, pieces = found.projection, found.steps, found.pieces
    shorter = np.ascontiguousarray(projection[:, :64])
    kept = np.where(pieces == 1, 0, pieces).astype(np.uint8)
    return {
        "every piece, 384 dimensions, 8 bits": TokenCodec(),
        "every piece, 96 dimensions, 8 bits (format 1)": TokenCodec(projection),
        "every piece, 96 dimensions, 4 bits": TokenCodec(projection, steps),
        "no stop words, 96 dimensions, 4 bits": TokenCodec(projection, steps, kept),
        "whole words, 384 dimensions, 8 bits": TokenCodec(pieces=pieces),
        "whole words, 96 dimensions, 8 bits": TokenCodec(projection, pieces=pieces),
        "whole words, 64 dimensions, 4 bits": TokenCodec(shorter, steps[:64] * 1.15, pieces),
        "whole words, 96 dimensions, 4 bits": TokenCodec(projection, steps, pieces),
    }


def show_compression(asked: Sequence[Asked], corpus: Path) -> None:
    """The table of ways to keep token vectors: MaxSim is computed anew for each."""
    wanted = sorted({place for each in asked for place in each.places[:50]})
    texts = [(corpus / name).read_bytes()[start:end].decode("utf-8") for name, start, end in wanted]
    embedder = EncoderEmbedder()
    whole = _tokens(embedder, texts, "passage")
    queries = _tokens(embedder, [each.question.text for each in asked], "query")
    tokens = sum(len(each) for each in whole)
    print(
        f"\n{len(wanted)} candidates of {tokens / len(wanted):.0f} tokens; bytes are those of blobs, for 200 tokens\n"
    )
    print("| token vectors | bytes | even | odd | all | MRR |\n|---|---|---|---|---|---|")
    for label, codec in codecs().items():
        blobs, counts = {}, Counter[int]()
        for place, each in zip(wanted, whole, strict=True):
            prepared = codec.prepare(_single(each))
            counts.update(np.unique(prepared.token_ids).tolist())
            blobs[place] = codec.encode(prepared)
        size = sum(map(len, blobs.values())) / tokens * TOKENS
        scored = [
            _rescored(each, codec, codec.prepare(_single(query)), blobs, counts)
            for each, query in zip(asked, queries, strict=True)
        ]
        show(f"{label} | {size:.0f}", scored, weighted(1, 1, 0.3))


def _tokens(embedder: EncoderEmbedder, texts: Sequence[str], input_type: InputType) -> list[TokenVectors]:
    """Token vectors in half precision: those of 12,000 chunks fit into memory."""
    return [
        TokenVectors(tokens.vectors.astype(np.float16), tokens.token_ids, tokens.byte_spans)
        for start in range(0, len(texts), 256)
        for tokens in embedder.embed(texts[start : start + 256], input_type, ("tokens",)).tokens or ()
    ]


def _single(tokens: TokenVectors) -> TokenVectors:
    return TokenVectors(tokens.vectors.astype(np.float32), tokens.token_ids, tokens.byte_spans)


def _rescored(
    asked: Asked, codec: TokenCodec, query: TokenVectors, blobs: Mapping[Place, bytes], counts: Mapping[int, int]
) -> Asked:
    frequency = np.array([counts.get(int(i), 0) for i in query.token_ids], dtype=np.float64)
    idf = np.log1p((len(blobs) - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
    places = asked.places[:50]
    passages = codec.decode([("", blobs[place]) for place in places])
    scores = max_sim(RerankQuery(asked.question.text, np.zeros(1, np.float32), query, idf), passages)
    return Asked(
        asked.question, places, asked.dense[:50], scores, asked.sparse[:50], asked.dense_rank, asked.sparse_rank
    )


def main() -> None:
    """Parse arguments, index, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--questions", type=int, help="the first ones only")
    parser.add_argument("--state-dir", type=Path)
    parser.add_argument("--compression", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        read = read_beir if arguments.dataset.is_dir() else read_squad
        questions = read(arguments.dataset, corpus)[: arguments.questions]
        state_dir = arguments.state_dir or Path(folder) / "state"
        if not (state_dir / "ledger.db").exists():
            report = index(LoadedConfig(PipelineConfig()), state_dir, IndexRequest([str(corpus)]))
            print(f"{report.chunk_count} chunks, {report.tokens_embedded} tokens")
        size = sum(f.stat().st_size for f in state_dir.glob("tokens-*.db"))
        print(f"{len(questions)} questions; the file of token vectors has {size} bytes\n")
        asked = ask(state_dir, questions)
        show_stages(asked)
        if arguments.compression:
            show_compression(asked, corpus)


if __name__ == "__main__":
    main()
