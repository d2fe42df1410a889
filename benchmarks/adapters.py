"""What each adapter costs beside its engine's own client, with the same calls in the same run.

    python -m benchmarks.adapters                       # from the repository's root; every engine that is here
    python -m benchmarks.adapters --engines qdrant_edge weaviate-1.39.0 --records 5120

Both sides write the same vectors and payload fields, index the same fields, and ask for the same hits with whole
payloads; see ``raw_clients``. Calls alternate, and each figure is a median, so both sides see the same machine.
"ratio" is the adapter's time over that of a collection as a user would write it, without the guarantees of the
adapter's (filters with missing fields, exact sparse scores, synced logs). "same calls" is the adapter's time over what
the driver's own methods take inside it: what our code adds to the requests that it makes.
Servers come from the tests' cache (``scripts/fetch_servers.py``); a Qdrant server where RAGSTACK_TEST_QDRANT_URL
names one.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.client_time import DRIVER_OF, ClientTime, client_time
from benchmarks.engines import ENGINES, Absent
from benchmarks.raw_clients import WORDS, Raw, raw_side
from benchmarks.real_corpus import FIELDS, Corpus, read_corpus
from ragstack.adapters.base import CollectionSpec, VectorStore
from ragstack.filters import And, Condition

BATCH = 256
DATA = Path("../shared/data")


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--records", type=int, default=20 * BATCH, help=f"written in batches of {BATCH}")
    parser.add_argument("--calls", type=int, default=150, help="of each kind but writing")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder that holds scifact/")
    options = parser.parse_args()
    corpus = read_corpus(options.data, 300)
    print(f"{options.records} records of {corpus.dense.shape[1]} dimensions, {options.calls} calls of each kind; ms")
    for name in options.engines:
        with tempfile.TemporaryDirectory() as folder:
            try:
                with ENGINES[name](Path(folder)) as store, client_time(DRIVER_OF.get(name)) as clock:
                    print(f"\n{name}", flush=True)
                    _Comparison(clock).run(store, corpus, options.records, options.calls)
            except Absent as absent:
                print(f"\n{name}: {absent}")


class _Comparison:
    """An adapter beside a raw client; ``clock`` counts what the driver takes."""

    def __init__(self, clock: ClientTime) -> None:
        self._clock = clock

    def run(self, store: VectorStore, corpus: Corpus, count: int, calls: int) -> None:
        """Write, search and fetch on both sides, and print."""
        dim = corpus.dense.shape[1]
        store.ensure_collection(CollectionSpec("main", dim, FIELDS))
        raw = raw_side(store, dim)
        records = corpus.records[:count]
        groups = [records[start : start + BATCH] for start in range(0, count, BATCH)]
        self._times(f"upsert {BATCH}", groups, lambda group: store.upsert("main", group), raw.upsert)
        store.optimize("main")
        raw.ready()
        queries = [corpus.query_dense[i % len(corpus.query_dense)] for i in range(calls)]
        part = 2
        wanted = And((Condition("part", "gte", part), Condition("words", "gte", WORDS)))
        _check_same(store, raw, queries[:20], wanted, part)
        for top_k in (10, 100):
            self._times(
                f"dense, top {top_k}",
                queries,
                lambda query, k=top_k: store.search_dense("main", query, k),  # type: ignore[misc]
                lambda query, k=top_k: raw.search(query, k),  # type: ignore[misc]
            )
        self._times(
            "dense, filtered, top 10",
            queries,
            lambda query: store.search_dense("main", query, 10, filter=wanted),
            lambda query: raw.search(query, 10, part),
        )
        rng = np.random.default_rng(1)
        for size in (10, 100):
            samples = [[records[i].id for i in rng.choice(count, size, replace=False)] for _ in range(calls)]
            self._times(f"fetch {size}", samples, lambda ids: store.fetch("main", ids), raw.fetch)
        raw.close()

    def _times(
        self, label: str, arguments: list[Any], ours: Callable[[Any], object], theirs: Callable[[Any], object]
    ) -> None:
        sides, times = (ours, theirs), ([], [])  # type: tuple[Any, Any], tuple[list[float], list[float]]
        shares = []
        gc.collect()
        for number, argument in enumerate(arguments):
            for side in (0, 1) if number % 2 else (1, 0):
                self._clock.take()
                started = time.perf_counter()
                sides[side](argument)
                seconds = time.perf_counter() - started
                times[side].append(seconds * 1e3)
                inside = self._clock.take()
                if side == 0 and inside:
                    shares.append(seconds / inside)
        mine, bare = median(times[0]), median(times[1])
        same = f"   same calls {median(shares):5.2f}" if shares else ""
        print(f"  {label:24} {mine:9.2f}   raw client {bare:9.2f}   ratio {mine / bare:5.2f}{same}", flush=True)


def _check_same(store: VectorStore, raw: Raw, queries: list[np.ndarray], wanted: And, part: int) -> None:
    """Both sides must answer the same, or their times would say nothing."""
    shared = []
    for query in queries:
        for condition, given in ((None, None), (wanted, part)):
            ours = {hit.id for hit in store.search_dense("main", query, 10, filter=condition)}
            shared.append(len(ours & {id_ for id_, _, _ in raw.search(query, 10, given)}) / max(len(ours), 1))
    assert np.mean(shared) > 0.9, f"the two sides share {np.mean(shared):.0%} of their hits"


if __name__ == "__main__":
    main()
