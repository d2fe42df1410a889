"""A vector store in plain Python and numpy: the reference that other stores are compared with, and a fast fake.

Searching is brute force in 64-bit floats, filters are evaluated by ``filter_oracle``; nothing is kept
when the store is closed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np

from ragstack.adapters.base import Capabilities, CollectionSpec, Hit, HybridHits, Record, SearchParams, StoreHealth
from ragstack.adapters.checks import (
    check_batch_size,
    check_growth,
    check_ids,
    check_ids_or_filter,
    check_name,
    check_query,
    check_record,
    check_sparse,
    check_spec,
    check_top_k,
    payload_text,
)
from ragstack.errors import CollectionError, InputError, StoreUnavailableError
from ragstack.filters import Filter, bind_filter, typed_values
from ragstack.testing.filter_oracle import matches
from ragstack.types import Float32Array, SparseVector

MAX_TOP_K = 10_000


@dataclass
class _Collection:
    spec: CollectionSpec
    records: dict[str, Record] = field(default_factory=dict)


class MemoryStore:
    """A :class:`ragstack.adapters.base.VectorStore` that lives as long as the object."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._collections: dict[str, _Collection] = {}
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        return Capabilities(sparse=True, persistent=False, multi_process=False, exact_search=True, max_top_k=MAX_TOP_K)

    def ensure_collection(self, spec: CollectionSpec) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_spec(spec)
        with self._lock:
            self._check_open()
            have = self._collections.setdefault(spec.name, _Collection(replace(spec, fields=dict(spec.fields))))
            check_growth(have.spec, spec)
            grown = replace(have.spec, fields={**have.spec.fields, **spec.fields})
            try:
                for record in have.records.values():
                    _check_payload(record, grown)
            except InputError as error:
                raise CollectionError(f"the collection {spec.name!r} cannot get the new fields: {error}") from error
            have.spec = grown

    def collections(self) -> list[str]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        self._check_open()
        return sorted(self._collections)

    def drop(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_name(collection)
        self._check_open()
        with self._lock:
            self._collections.pop(collection, None)

    def upsert(self, collection: str, records: Sequence[Record]) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        with self._lock:
            kept = self._collection(collection)
            new = {}
            for record in records:
                check_record(record, kept.spec.dim)
                _check_payload(record, kept.spec)
                dense = record.dense.astype(np.float64)
                length = float(np.linalg.norm(dense))
                new[record.id] = Record(
                    record.id,
                    (dense / length if length else dense).astype(np.float32),
                    record.sparse,
                    json.loads(payload_text(record.payload, record.id)),
                )
            kept.records.update(new)

    def delete(self, collection: str, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_ids_or_filter(ids, filter)
        with self._lock:
            kept = self._collection(collection)
            gone = [record.id for record in self._matching(kept, filter)] if ids is None else check_ids(ids)
            for id_ in gone:
                kept.records.pop(id_, None)

    def search_dense(
        self,
        collection: str,
        vector: Float32Array,
        top_k: int,
        *,
        filter: Filter | None = None,
        params: SearchParams = SearchParams(),
    ) -> list[Hit]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        with self._lock:
            kept = self._collection(collection)
            check_query(vector, kept.spec.dim)
            check_top_k(top_k, MAX_TOP_K)
            query = vector.astype(np.float64)
            query /= np.linalg.norm(query)
            scored = [(float(np.float32(record.dense @ query)), record) for record in self._matching(kept, filter)]
            return _best(scored, top_k)

    def search_sparse(
        self, collection: str, vector: SparseVector, top_k: int, *, filter: Filter | None = None
    ) -> list[Hit]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        with self._lock:
            kept = self._collection(collection)
            check_sparse(vector, "the query")
            check_top_k(top_k, MAX_TOP_K)
            weights = dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
            scored = []
            for record in self._matching(kept, filter):
                terms = zip(record.sparse.indices.tolist(), record.sparse.values.tolist(), strict=True)
                score = float(np.float32(sum(value * weights.get(index, 0.0) for index, value in terms)))
                if score > 0:
                    scored.append((score, record))
            return [replace(hit, sparse=kept.records[hit.id].sparse) for hit in _best(scored, top_k)]

    def search_hybrid(
        self,
        collection: str,
        dense: Float32Array,
        sparse: SparseVector,
        top_k: int,
        *,
        filter: Filter | None = None,
        params: SearchParams = SearchParams(),
    ) -> HybridHits:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        return HybridHits(
            self.search_dense(collection, dense, top_k, filter=filter, params=params),
            self.search_sparse(collection, sparse, top_k, filter=filter),
        )

    def fetch(self, collection: str, ids: Sequence[str]) -> dict[str, Record]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        with self._lock:
            records = self._collection(collection).records
            return {id_: deepcopy(records[id_]) for id_ in check_ids(ids) if id_ in records}

    def count(self, collection: str, filter: Filter | None = None) -> int:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        with self._lock:
            return len(self._matching(self._collection(collection), filter))

    def iterate(self, collection: str, filter: Filter | None = None, *, batch_size: int = 1000) -> Iterator[Hit]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_batch_size(batch_size)
        with self._lock:
            found = self._matching(self._collection(collection), filter)
        return iter(_best([(0.0, record) for record in found], len(found)))

    def flush(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`; there is nothing to do in memory."""
        self._collection(collection)

    def optimize(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`; there is nothing to do in memory."""
        self._collection(collection)

    def health(self) -> StoreHealth:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        self._check_open()
        return StoreHealth("memory", "1", "this process")

    def close(self) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        self._closed = True
        self._collections.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the vector store was closed.", hint="Open it again.")

    def _collection(self, name: str) -> _Collection:
        check_name(name)
        self._check_open()
        if name not in self._collections:
            raise CollectionError(f"there is no collection {name!r}.", hint="Index some sources first.")
        return self._collections[name]

    def _matching(self, kept: _Collection, filter: Filter | None) -> list[Record]:
        if filter is None:
            return list(kept.records.values())
        bind_filter(filter, kept.spec.fields)
        return [record for record in kept.records.values() if matches(filter, record.payload, kept.spec.fields)]


def _check_payload(record: Record, spec: CollectionSpec) -> None:
    try:
        for name, type_ in spec.fields.items():
            typed_values(name, type_, record.payload.get(name))
    except InputError as error:
        raise InputError(f"record {record.id}: {error.message}", hint=error.hint) from error


def _best(scored: Sequence[tuple[float, Record]], top_k: int) -> list[Hit]:
    ranked = sorted(scored, key=lambda row: (-row[0], row[1].id))[:top_k]
    return [Hit(record.id, score, deepcopy(record.payload)) for score, record in ranked]
