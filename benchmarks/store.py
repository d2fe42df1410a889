"""Measure the embedded vector store: building, latency, recall and disk, beside the bare driver in the same run.

    python benchmarks/store.py                # 20,000 records
    python benchmarks/store.py -n 100000

Vectors are drawn around cluster centres, sparse vectors from a skewed vocabulary; every record carries
1 KB of text. The bare driver gets the same points with native payloads and the same requests; the ratio
of the two latencies is what the adapter costs. Each figure is the median of the queries, asked in
alternation so that both see the same machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import qdrant_edge as qdrant

from ragstack.adapters.base import CollectionSpec, Record, SearchParams
from ragstack.adapters.qdrant_edge import QdrantEdgeStore
from ragstack.filters import And, Condition
from ragstack.types import Float32Array, SparseVector

TEXT = "All work and no play makes a retrieval benchmark dull. " * 19
BATCH = 512


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=20_000, help="records")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--top-k", type=int, default=100)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(max(options.n // 100, 10), options.dim))
    vectors = _around(rng, centres, options.n)
    queries = _around(rng, centres, options.queries)
    records = [
        Record(
            str(uuid.uuid5(uuid.NAMESPACE_OID, str(i))),
            vectors[i],
            _sparse(rng, 80),
            {"source_id": f"docs/{i // 20}.md", "year": 1990 + i % 35, "seq": i // 1000, "text": TEXT},
        )
        for i in range(options.n)
    ]
    sparse_queries = [_sparse(rng, 8) for _ in range(options.queries)]
    with tempfile.TemporaryDirectory() as folder:
        _run(Path(folder), records, queries, sparse_queries, options.top_k)


def _run(
    folder: Path, records: list[Record], queries: Float32Array, sparse_queries: list[SparseVector], top_k: int
) -> None:
    dim = queries.shape[1]
    store = QdrantEdgeStore(folder / "store")
    fields = {"source_id": "keyword", "year": "integer", "seq": "integer"}
    store.ensure_collection(CollectionSpec("main", dim, fields))  # type: ignore[arg-type]
    shard = _bare_shard(folder / "bare", dim)
    print(f"{len(records)} records, {dim} dimensions, top_k {top_k}, {len(queries)} queries")
    ours = _seconds(lambda: [store.upsert("main", batch) for batch in _batches(records)])
    bare = _seconds(lambda: [shard.update(_bare_upsert(batch)) for batch in _batches(records)])
    _report("write (s)", ours, bare)
    _report("flush (s)", _seconds(lambda: store.flush("main")), _seconds(shard.flush))
    _latencies("scanned ", store, shard, queries, sparse_queries, top_k)
    _report("optimize (s)", _seconds(lambda: store.optimize("main")), _seconds(shard.optimize))
    _latencies("optimized ", store, shard, queries, sparse_queries, top_k)
    for ef in (None, 32, 64, 256):
        found = []
        for query in queries:
            exact = {hit.id for hit in store.search_dense("main", query, 10, params=SearchParams(exact=True))}
            hits = store.search_dense("main", query, 10, params=SearchParams(ef_search=ef))
            found.append(len(exact & {hit.id for hit in hits}) / 10)
        print(f"recall@10, ef_search {'default' if ef is None else ef}: {np.mean(found):.4f}")
    store.close()
    shard.close()
    _report("disk (MB)", _megabytes(folder / "store"), _megabytes(folder / "bare"))
    again = QdrantEdgeStore(folder / "store")
    print(f"open and first count: {_seconds(lambda: again.count('main')):.3f} s")
    again.close()


def _latencies(
    stage: str,
    store: QdrantEdgeStore,
    shard: qdrant.EdgeShard,
    queries: Float32Array,
    sparse_queries: list[SparseVector],
    top_k: int,
) -> None:
    exact = store.count("main") < 20_000
    params = qdrant.SearchParams(hnsw_ef=128, exact=exact)
    wanted = And((Condition("year", "gte", 2010), Condition("seq", "lte", 10)))
    bare_filter = qdrant.Filter(
        must=[
            qdrant.FieldCondition("year", range=qdrant.RangeFloat(gte=2010.0)),
            qdrant.FieldCondition("seq", range=qdrant.RangeFloat(lte=10.0)),
        ]
    )

    def ask(query: qdrant.Query, filter: qdrant.Filter | None = None) -> list[tuple[str, float, object]]:
        request = qdrant.QueryRequest(limit=top_k, query=query, filter=filter, params=params, with_payload=True)
        # The driver converts a point when it is read, so read what the adapter returns.
        return [(str(point.id), point.score, point.payload) for point in shard.query(request)]

    def dense(query: Float32Array) -> qdrant.Query:
        return qdrant.Query.Nearest(query.tolist(), using="dense")

    def sparse(query: SparseVector) -> qdrant.Query:
        return qdrant.Query.Nearest(qdrant.SparseVector(query.indices.tolist(), query.values.tolist()), using="sparse")

    _compare(
        stage + "dense (ms)",
        [lambda q=q: store.search_dense("main", q, top_k) for q in queries],  # type: ignore[misc]
        [lambda q=q: ask(dense(q)) for q in queries],  # type: ignore[misc]
    )
    _compare(
        stage + "dense filtered (ms)",
        [lambda q=q: store.search_dense("main", q, top_k, filter=wanted) for q in queries],  # type: ignore[misc]
        [lambda q=q: ask(dense(q), bare_filter) for q in queries],  # type: ignore[misc]
    )
    _compare(
        stage + "sparse (ms)",
        [lambda q=q: store.search_sparse("main", q, top_k) for q in sparse_queries],  # type: ignore[misc]
        [lambda q=q: ask(sparse(q)) for q in sparse_queries],  # type: ignore[misc]
    )


def _compare(label: str, ours: list[Callable[[], object]], bare: list[Callable[[], object]]) -> None:
    times: tuple[list[float], list[float]] = ([], [])
    for one, other in zip(ours, bare, strict=True):
        times[0].append(_seconds(one) * 1e3)
        times[1].append(_seconds(other) * 1e3)
    _report(label, median(times[0]), median(times[1]))


def _report(label: str, ours: float, bare: float) -> None:
    print(f"{label:28} {ours:9.3f}   bare driver {bare:9.3f}   ratio {ours / bare:5.2f}")


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _bare_shard(folder: Path, dim: int) -> qdrant.EdgeShard:
    folder.mkdir()
    shard = qdrant.EdgeShard.create(
        str(folder),
        qdrant.EdgeConfig(
            vectors={"dense": qdrant.EdgeVectorParams(size=dim, distance=qdrant.Distance.Cosine)},
            sparse_vectors={"sparse": qdrant.EdgeSparseVectorParams()},
            hnsw_config=qdrant.HnswIndexConfig(m=16, ef_construct=100, full_scan_threshold=10_000),
            optimizers=qdrant.EdgeOptimizersConfig(indexing_threshold=20_000 * dim * 4 // 1024),
        ),
    )
    shard.update(qdrant.UpdateOperation.create_field_index("source_id", qdrant.PayloadSchemaType.Keyword))
    for name in ("year", "seq"):
        shard.update(qdrant.UpdateOperation.create_field_index(name, qdrant.PayloadSchemaType.Integer))
    return shard


def _bare_upsert(records: list[Record]) -> qdrant.UpdateOperation:
    return qdrant.UpdateOperation.upsert_points(
        [
            qdrant.Point(
                record.id,
                {
                    "dense": record.dense.tolist(),
                    "sparse": qdrant.SparseVector(record.sparse.indices.tolist(), record.sparse.values.tolist()),
                },
                dict(record.payload),
            )
            for record in records
        ]
    )


def _batches(records: list[Record]) -> list[list[Record]]:
    return [records[start : start + BATCH] for start in range(0, len(records), BATCH)]


def _around(rng: np.random.Generator, centres: np.ndarray, count: int) -> Float32Array:
    picked = centres[rng.integers(0, len(centres), count)]
    return (picked + 0.8 * rng.normal(size=picked.shape)).astype(np.float32)


def _sparse(rng: np.random.Generator, terms: int) -> SparseVector:
    indices = np.unique((rng.pareto(1.0, size=terms) * 50).astype(np.uint32))
    return SparseVector(indices, rng.uniform(0.5, 4.0, size=len(indices)).astype(np.float32))


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
