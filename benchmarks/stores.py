"""The same corpus, questions and filters in every store: recall, ranking quality, and the sets that filters give.

    python -m benchmarks.stores                # from the repository's root; every engine that is here

20,480 passages of the SciFact abstracts with real vectors, 300 claims, every store at its default settings. Printed
for each: recall@10 of the dense search against brute force, nDCG@10 over abstracts of the hybrid search fused by
ragstack, how many of the filters gave exactly the set that the oracle says, and the time of a query.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from math import log2
from pathlib import Path

import numpy as np

from benchmarks.engines import ENGINES, Absent
from benchmarks.real_corpus import FIELDS, Corpus, read_corpus
from ragstack.adapters.base import CollectionSpec, VectorStore
from ragstack.filters import Filter, parse_filter
from ragstack.retrieval.fusion import fuse_rrf
from ragstack.testing.filter_oracle import matches

BATCH = 512
TOP_K = 100
DATA = Path("../shared/data")

_PART = {"field": "part", "op": "eq", "value": 3}
_LAST = {"field": "last", "op": "eq", "value": True}
_NUMBERS = {"field": "numbers", "op": "exists", "value": True}
_LONG = {"field": "words", "op": "gt", "value": 90}
_SHORT = {"field": "words", "op": "lt", "value": 8}
_OLD = {"field": "added", "op": "lt", "value": "2003-01-01"}
_DENSE_WORDS = {"field": "density", "op": "gte", "value": 7.25}
FILTERS: dict[str, Filter] = {
    name: parse_filter(told)
    for name, told in {
        "eq of an integer": {"and": [_PART, _LONG]},
        "in of a keyword": {"field": "doc", "op": "in", "value": ["4983", "5836", "nowhere"]},
        "contains in a list": {"field": "numbers", "op": "contains", "value": "3"},
        "eq of a list's member": {"field": "numbers", "op": "eq", "value": "12"},
        "ne matches missing": {"and": [{"field": "numbers", "op": "ne", "value": "2"}, _LONG]},
        "nin matches missing": {"and": [{"field": "numbers", "op": "nin", "value": ["2", "3"]}, _OLD, _PART]},
        "missing field": {"and": [{"field": "density", "op": "exists", "value": False}, _SHORT]},
        "not of a missing field": {"and": [{"not": _LAST}, _LONG]},
        "comparison never matches missing": {"and": [{"field": "density", "op": "lt", "value": 5.0}, _PART]},
        "range of a date": {"and": [_OLD, {"field": "added", "op": "gte", "value": "2002-02-15T13:00:00+01:00"}]},
        "or": {"or": [_DENSE_WORDS, {"and": [_LONG, _LAST]}]},
        "not of or": {"and": [{"not": {"or": [_NUMBERS, _LAST, {"not": _LONG}]}}, {"not": _OLD}]},
        "nested three deep": {
            "or": [
                {"and": [_LONG, {"not": {"and": [_NUMBERS, {"not": _LAST}]}}]},
                {"not": {"or": [{"not": _DENSE_WORDS}, {"field": "part", "op": "in", "value": [0, 1]}]}},
            ]
        },
        "nothing": {"and": [_LAST, {"not": _LAST}]},
    }.items()
}


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder that holds scifact/")
    options = parser.parse_args()
    corpus = read_corpus(options.data, options.queries)
    nearest = np.argsort(-(corpus.query_dense @ corpus.dense.T), axis=1, kind="stable")[:, :10]
    print(f"{len(corpus.passages)} passages, {len(corpus.query_dense)} queries, {len(FILTERS)} filters")
    print("| store | recall@10 | nDCG@10 dense | nDCG@10 hybrid | filters | written in | hybrid p50 |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in options.engines:
        with tempfile.TemporaryDirectory() as folder:
            try:
                with ENGINES[name](Path(folder)) as store:
                    print(f"| {name} | {' | '.join(_measured(store, corpus, nearest))} |", flush=True)
            except Absent as absent:
                print(f"| {name} | {absent} |")


def _measured(store: VectorStore, corpus: Corpus, nearest: np.ndarray) -> list[str]:
    started = time.perf_counter()
    store.ensure_collection(CollectionSpec("main", corpus.dense.shape[1], FIELDS))
    for start in range(0, len(corpus.records), BATCH):
        store.upsert("main", corpus.records[start : start + BATCH])
    store.optimize("main")
    written = time.perf_counter() - started
    ids = [record.id for record in corpus.records]
    doc_of = {passage.id: passage.doc for passage in corpus.passages}
    recalls, dense_gains, hybrid_gains, times = [], [], [], []
    for number, dense in enumerate(corpus.query_dense):
        hits = store.search_dense("main", dense, 10)
        recalls.append(len({hit.id for hit in hits} & {ids[i] for i in nearest[number]}) / 10)
        relevant = corpus.relevant[number]
        started = time.perf_counter()
        if store.capabilities.sparse:
            both = store.search_hybrid("main", dense, corpus.query_sparse[number], TOP_K)
            fused = [hit.id for hit in fuse_rrf({"dense": both.dense, "sparse": both.sparse})]
            hybrid_gains.append(_ndcg(fused, relevant, doc_of.__getitem__))
            in_dense = [hit.id for hit in both.dense]
        else:
            in_dense = [hit.id for hit in store.search_dense("main", dense, TOP_K)]
        times.append(time.perf_counter() - started)
        dense_gains.append(_ndcg(in_dense, relevant, doc_of.__getitem__))
    return [
        f"{np.mean(recalls):.4f}",
        f"{np.mean(dense_gains):.4f}",
        f"{np.mean(hybrid_gains):.4f}" if hybrid_gains else "no sparse search",
        _filters_that_hold(store, corpus),
        f"{written:.0f} s",
        f"{np.median(times) * 1e3:.0f} ms",
    ]


def _ndcg(ranked: Sequence[str], relevant: set[str], doc_of: Callable[[str], str]) -> float:
    """nDCG@10 of the abstracts in the order of their first passage."""
    docs = list(dict.fromkeys(doc_of(id_) for id_ in ranked))[:10]
    gain = sum(1 / log2(rank + 2) for rank, doc in enumerate(docs) if doc in relevant)
    return gain / sum(1 / log2(rank + 2) for rank in range(min(len(relevant), 10)))


def _filters_that_hold(store: VectorStore, corpus: Corpus) -> str:
    failed = []
    for name, filter in FILTERS.items():  # noqa: A001 - the field's word
        expected = {passage.id for passage in corpus.passages if matches(filter, passage.payload, FIELDS)}
        found = [hit.id for hit in store.iterate("main", filter)]
        if set(found) != expected or len(found) != len(expected) or store.count("main", filter) != len(expected):
            failed.append(f"{name}: {len(found)} instead of {len(expected)}")
    return f"{len(FILTERS) - len(failed)} of {len(FILTERS)}" + "".join(f"; {told}" for told in failed)


if __name__ == "__main__":
    main()
