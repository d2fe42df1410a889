"""Searching one Milvus collection: the requests, and what makes their answers exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ragstack.adapters.base import Hit, SearchParams
from ragstack.adapters.milvus_connection import Connection, count_of
from ragstack.adapters.milvus_filters import EVERYTHING, NOTHING
from ragstack.adapters.milvus_pages import STRONG, Collection, ids_in, query, query_pages
from ragstack.adapters.milvus_records import payload_of, sparse_of, unit_length
from ragstack.adapters.milvus_schema import (
    DENSE,
    MAX_HITS,
    SPARSE,
    max_hits,
    search_params,
)
from ragstack.adapters.milvus_sparse import NEGATIVE_TERM, bound_error, positive_weights
from ragstack.adapters.sparse_dot import dot_products
from ragstack.config.stores.milvus import MilvusIndexConfig
from ragstack.types import Float32Array, SparseVector

_PAYLOADS_PER_CALL = 512  # of 100 MB that a server sends at most
_SCAN_BYTES = 8 * 2**20
_DENSE_ERROR = 1e-5  # by how much two 32-bit cosines may be out of order
_INDEX_POLL_S = 0.2


def count(connection: Connection, opened: Collection, expression: str) -> int:
    """Number of rows that match."""
    wanted = "" if expression == EVERYTHING else expression
    return count_of(query(connection, "count", opened, wanted, ["count(*)"]))


def by_ids(
    connection: Connection, action: str, opened: Collection, ids: Sequence[str], columns: Sequence[str]
) -> list[dict[str, Any]]:
    """The rows that exist among ``ids``, in no order."""
    rows: list[dict[str, Any]] = []
    for start in range(0, len(ids), _PAYLOADS_PER_CALL):
        part = ids[start : start + _PAYLOADS_PER_CALL]
        rows += query(connection, action, opened, ids_in(part), columns)
    return rows


def dense(
    connection: Connection,
    opened: Collection,
    index: MilvusIndexConfig,
    vector: Float32Array,
    top_k: int,
    expression: str,
    params: SearchParams,
    exact: bool,
) -> list[Hit]:
    """The ``top_k`` nearest, best first. ``exact``: of all, else as near as the index finds them."""
    if exact and index.type != "FLAT":
        return _scan(connection, opened, vector, top_k, expression)
    query_vector = unit_length(vector)
    rescored = index.type in ("FLAT", "IVF_SQ8")
    error = _DENSE_ERROR if index.type == "FLAT" else 0.0
    most = max_hits(index)
    limit = min(top_k + (8 if index.type == "FLAT" else 1), most)
    while True:
        columns = [*([DENSE] if rescored else []), *(["payload"] if limit <= _PAYLOADS_PER_CALL else [])]
        found = _search(connection, opened, DENSE, query_vector, limit, expression, columns,
                        search_params(index, limit, params))  # fmt: skip
        if len(found) < limit or found[-1]["distance"] + error < found[top_k - 1]["distance"]:
            break
        if limit == most:
            return _scan(connection, opened, vector, top_k, expression)
        limit = min(limit * 4, most)
    # Rounding may take the inner product of equal directions a bit beyond 1.
    scores: Iterable[float] = (max(-1.0, min(1.0, hit["distance"])) for hit in found)
    if rescored and found:
        scores = _cosines(query_vector, np.array([hit["entity"][DENSE] for hit in found], dtype=np.float32)).tolist()
    ranked = sorted(((-score, str(hit["id"]), hit) for score, hit in zip(scores, found, strict=True)),
                    key=lambda row: row[:2])[:top_k]  # fmt: skip
    return _hits(connection, opened, [(id_, -score, hit["entity"]) for score, id_, hit in ranked])


def sparse(connection: Connection, opened: Collection, vector: SparseVector, top_k: int, expression: str) -> list[Hit]:
    """The ``top_k`` records with the largest positive dot product; see ``milvus_sparse``."""
    scores: dict[str, tuple[float, SparseVector]] = {}
    positive = positive_weights(vector)
    limit = min(top_k + 8, MAX_HITS)
    while positive:
        found = _search(connection, opened, SPARSE, positive, limit, expression, ["weights"], {"metric_type": "IP"})
        scores = _scores(vector, [(hit["id"], hit["entity"]) for hit in found])
        if len(found) < limit:
            break
        best = sorted((score for score, _ in scores.values()), reverse=True)[:top_k]
        bound = float(found[-1]["distance"])  # no record that was not found scores more
        if len(best) == top_k and best[-1] > bound + bound_error(vector, float(found[0]["distance"])):
            break
        if limit == MAX_HITS:
            scores = {}
            for rows in query_pages(connection, "search", opened, expression, ["id", "weights"], 1000):
                scores.update(_scores(vector, [(row["id"], row) for row in rows]))
            break
        limit = min(limit * 4, MAX_HITS)
    if (vector.values < 0).any():
        wanted = f'array_contains(terms, "{NEGATIVE_TERM}")'
        wanted = wanted if expression == EVERYTHING else f"({wanted} and {expression})"
        for rows in query_pages(connection, "search", opened, wanted, ["id", "weights"], 1000):
            scores.update(_scores(vector, [(row["id"], row) for row in rows]))
    ranked = sorted((-score, id_) for id_, (score, _) in scores.items() if score > 0)[:top_k]
    hits = _hits(connection, opened, [(id_, -score, {}) for score, id_ in ranked])
    return [replace(hit, sparse=scores[hit.id][1]) for hit in hits]


def _scores(vector: SparseVector, found: Sequence[tuple[Any, Any]]) -> dict[str, tuple[float, SparseVector]]:
    """The true scores of pairs of an id and its row, and what is stored."""
    stored = [sparse_of(row) for _, row in found]
    scores = dot_products(vector, stored).tolist()
    return {str(id_): (score, kept) for (id_, _), score, kept in zip(found, scores, stored, strict=True)}


def _search(
    connection: Connection,
    opened: Collection,
    column: str,
    vector: Any,
    limit: int,
    expression: str,
    columns: Sequence[str],
    params: dict[str, Any],
) -> list[Any]:
    if expression == NOTHING:
        return []
    return list(
        connection.call(
            "search",
            opened.name,
            lambda client, left: client.search(
                opened.at,
                data=[vector],
                anns_field=column,
                limit=limit,
                filter="" if expression == EVERYTHING else expression,
                output_fields=list(columns),
                search_params=params,
                consistency_level=STRONG,
                timeout=left,
            ),
            opened.at,
        )[0]
    )


def _scan(connection: Connection, opened: Collection, vector: Float32Array, top_k: int, expression: str) -> list[Hit]:
    """Exact: every vector is read. Memory for ``top_k`` hits and one page."""
    query_vector = unit_length(vector)
    size = max(1, min(MAX_HITS, _SCAN_BYTES // (4 * len(vector) + 36)))
    best: list[tuple[float, str]] = []
    for rows in query_pages(connection, "search", opened, expression, ["id", DENSE], size):
        scores = _cosines(query_vector, np.array([row[DENSE] for row in rows], dtype=np.float32))
        best += [(-score, str(row["id"])) for score, row in zip(scores.tolist(), rows, strict=True)]
        best = sorted(best)[:top_k]
    return _hits(connection, opened, [(id_, -score, {}) for score, id_ in best])


def _cosines(query_vector: Float32Array, vectors: Float32Array) -> Float32Array:
    """``(n,) float32``, each the same whatever stands beside it."""
    products = vectors.astype(np.float64) * query_vector.astype(np.float64)
    scores: Float32Array = np.clip(products.sum(axis=1), -1.0, 1.0).astype(np.float32)
    return scores


def _hits(connection: Connection, opened: Collection, ranked: Sequence[tuple[str, float, Any]]) -> list[Hit]:
    """Hits with payloads, read now for those that came without; a record deleted meanwhile is left out."""
    missing = [id_ for id_, _, entity in ranked if "payload" not in entity]
    rows = {str(row["id"]): row for row in by_ids(connection, "search", opened, missing, ["id", "payload"])}
    hits = []
    for id_, score, entity in ranked:
        row = entity if "payload" in entity else rows.get(id_)
        if row is not None:
            hits.append(Hit(id_, score, payload_of(row)))
    return hits
