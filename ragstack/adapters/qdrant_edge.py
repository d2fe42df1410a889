"""The embedded vector store: Qdrant Edge (Rust) in this process, with its files in one folder.

One process at a time opens the folder; a second one waits ``lock_timeout_s`` and then gets
StoreLockedError, which names the holder.

**Durability.** A write that returned is in a write-ahead log: it survives the death of the process
(SIGKILL), not of the machine. ``flush`` syncs log and data, so what was written before survives both.

**Search.** Collections of fewer than ``hnsw_min_points`` records are searched exactly, in an order that
depends on their content alone. Larger ones get an HNSW graph from ``optimize``; what was written since is
scanned. Sparse scores are summed again here in 64-bit floats, because the driver's last bit depends on
the order of insertion; ties are fetched until the whole tie at ``top_k`` is known.

**Full disk.** Writing to a mapped file that cannot grow would end the process, so the space that a step may
take is asked for first, and StoreError raised (``qdrant_space.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

import qdrant_edge as qdrant

from ragstack.adapters import qdrant_collection as on_disk
from ragstack.adapters.base import Capabilities, CollectionSpec, Hit, HybridHits, Record, SearchParams, StoreHealth
from ragstack.adapters.checks import (
    check_batch_size,
    check_ids,
    check_ids_or_filter,
    check_name,
    check_query,
    check_sparse,
    check_spec,
    check_top_k,
    is_name,
)
from ragstack.adapters.qdrant_collection import HnswSettings, OpenCollection
from ragstack.adapters.qdrant_errors import driver_errors
from ragstack.adapters.qdrant_filters import compile_filter
from ragstack.adapters.qdrant_records import (
    DENSE,
    PAYLOAD_KEY,
    SPARSE,
    payload_of,
    sparse_to_driver,
    to_point,
    to_record,
)
from ragstack.adapters.qdrant_space import (
    require_for_creation,
    require_for_deletion,
    require_for_opening,
    require_for_upsert,
)
from ragstack.adapters.qdrant_sparse import rescored_vectors
from ragstack.errors import (
    CollectionError,
    IndexLockedError,
    StoreLockedError,
    StoreUnavailableError,
)
from ragstack.filters import Filter, bind_filter
from ragstack.process_lock import hold_lock
from ragstack.types import Float32Array, SparseVector

MAX_TOP_K = 10_000
_POINTS_PER_UPDATE = 512  # one update is one log entry, held in memory several times over


class QdrantEdgeStore:
    """A :class:`ragstack.adapters.base.VectorStore` in the folder ``path``, which is created when missing.

    ``hnsw_m`` (edges per node) and ``ef_construct`` hold for collections created from now on;
    ``ef_search`` is the breadth of a graph search without a breadth of its own; ``hnsw_min_points`` see
    above; ``exact`` searches every collection exactly. Usable as a context manager.
    """

    def __init__(
        self,
        path: Path,
        *,
        hnsw_m: int = 16,
        ef_construct: int = 100,
        hnsw_min_points: int = 20_000,
        ef_search: int = 128,
        exact: bool = False,
        lock_timeout_s: float = 5.0,
    ) -> None:
        self.path = Path(path)
        self._settings = HnswSettings(hnsw_m, ef_construct, hnsw_min_points)
        self._ef_search = ef_search
        self._exact = exact
        self._guard = threading.RLock()
        self._open: dict[str, OpenCollection] = {}
        self._closed = False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._process_lock = hold_lock(self.path / "lock", lock_timeout_s, f"the vector store at {self.path}")
        except IndexLockedError as error:
            raise StoreLockedError(error.message, hint=error.hint) from error
        except OSError as error:
            raise StoreUnavailableError(
                f"the vector store at {self.path} cannot be opened: {error}.",
                hint="Check that the folder can be written.",
            ) from error
        on_disk.remove_leftovers(self.path)

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        return Capabilities(sparse=True, persistent=True, multi_process=False, exact_search=True, max_top_k=MAX_TOP_K)

    def __enter__(self) -> QdrantEdgeStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ensure_collection(self, spec: CollectionSpec) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_spec(spec)
        with self._guard, self._errors("create", spec.name):
            self._check_open()
            folder = self.path / spec.name
            if not (folder / on_disk.DESCRIPTION).exists() and not folder.exists():
                require_for_creation(self.path, len(spec.fields))
                on_disk.create(folder, spec, self._settings)
            on_disk.add_fields(self._collection(spec.name), spec)

    def collections(self) -> list[str]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        self._check_open()
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_dir() and is_name(entry.name))

    def drop(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`; works on a damaged collection too."""
        check_name(collection)
        with self._guard, self._errors("drop", collection):
            self._check_open()
            opened = self._open.pop(collection, None)
            if opened is not None:
                with opened.write_lock:
                    opened.shard.close()
            if (self.path / collection).exists():
                on_disk.remove(self.path / collection)

    def upsert(self, collection: str, records: Sequence[Record]) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        opened = self._collection(collection)
        with opened.write_lock, self._errors("write to", collection):
            keys = opened.keys
            unique = {record.id: record for record in records}
            points = [to_point(record, opened.spec.dim, keys) for record in unique.values()]
            if not points:
                return
            payload_bytes = sum(len(str(value)) * 2 for record in unique.values() for value in record.payload.values())
            sparse_values = sum(len(record.sparse) for record in unique.values())
            require_for_upsert(opened.folder, len(points), opened.spec.dim, payload_bytes, sparse_values)
            opened.begin_write()
            for start in range(0, len(points), _POINTS_PER_UPDATE):
                opened.shard.update(qdrant.UpdateOperation.upsert_points(points[start : start + _POINTS_PER_UPDATE]))

    def delete(self, collection: str, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_ids_or_filter(ids, filter)
        opened = self._collection(collection)
        with opened.write_lock, self._errors("delete from", collection):
            if ids is not None:
                operation = qdrant.UpdateOperation.delete_points(list(check_ids(ids)))
            else:
                compiled = self._compiled(opened, filter)
                assert compiled is not None
                operation = qdrant.UpdateOperation.delete_points_by_filter(compiled)
            require_for_deletion(opened.folder)
            opened.begin_write()
            opened.shard.update(operation)

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
        opened = self._collection(collection)
        check_query(vector, opened.spec.dim)
        check_top_k(top_k, MAX_TOP_K)
        with self._errors("search", collection):
            compiled = self._compiled(opened, filter)
            if top_k == 0:
                return []
            small = opened.shard.info().points_count < self._settings.min_points
            settings = qdrant.SearchParams(
                hnsw_ef=params.ef_search or self._ef_search, exact=params.exact or self._exact or small
            )
            query = qdrant.Query.Nearest(vector.tolist(), using=DENSE)
            limit = top_k + 1
            while True:
                points = opened.shard.query(
                    qdrant.QueryRequest(
                        limit=limit, query=query, filter=compiled, params=settings, with_payload=[PAYLOAD_KEY]
                    )
                )
                if len(points) < limit or points[-1].score < points[top_k - 1].score:
                    break
                limit *= 4
            ranked = sorted(((-point.score, str(point.id), point) for point in points), key=lambda row: row[:2])
            # Rounding may take the cosine of equal directions a bit beyond 1.
            return [Hit(id_, max(-1.0, min(1.0, -score)), payload_of(point)) for score, id_, point in ranked[:top_k]]

    def search_sparse(
        self, collection: str, vector: SparseVector, top_k: int, *, filter: Filter | None = None
    ) -> list[Hit]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        opened = self._collection(collection)
        check_sparse(vector, "the query")
        check_top_k(top_k, MAX_TOP_K)
        with self._errors("search", collection):
            compiled = self._compiled(opened, filter)
            if top_k == 0 or len(vector) == 0:
                return []
            query = qdrant.Query.Nearest(sparse_to_driver(vector), using=SPARSE)
            limit = top_k + 8
            while True:
                points = opened.shard.query(
                    qdrant.QueryRequest(
                        limit=limit,
                        query=query,
                        filter=compiled,
                        with_payload=[PAYLOAD_KEY],
                        with_vector=[SPARSE],
                        score_threshold=0.0,
                    )
                )
                stored = [point.vector[SPARSE] for point in points if isinstance(point.vector, dict)]
                vectors, scores, error = rescored_vectors(vector, stored)
                if len(points) < limit or points[-1].score + error < points[top_k - 1].score:
                    break
                limit *= 4
            ranked = sorted(
                (
                    (-float(score), str(point.id), point, found)
                    for score, point, found in zip(scores, points, vectors, strict=True)
                    if score > 0
                ),
                key=lambda row: row[:2],
            )
            return [Hit(id_, -score, payload_of(point), found) for score, id_, point, found in ranked[:top_k]]

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
        opened = self._collection(collection)
        wanted = check_ids(ids)
        with self._errors("read", collection):
            found = [to_record(point) for point in opened.shard.retrieve(list(wanted), [PAYLOAD_KEY], True)]
        return {record.id: record for record in found}

    def count(self, collection: str, filter: Filter | None = None) -> int:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        opened = self._collection(collection)
        with self._errors("count", collection):
            return opened.count(self._compiled(opened, filter))

    def iterate(self, collection: str, filter: Filter | None = None, *, batch_size: int = 1000) -> Iterator[Hit]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_batch_size(batch_size)
        opened = self._collection(collection)
        return self._iterate(opened, self._compiled(opened, filter), batch_size)

    def _iterate(self, opened: OpenCollection, compiled: qdrant.Filter | None, batch_size: int) -> Iterator[Hit]:
        pages = opened.pages(compiled, batch_size)
        while True:
            with self._errors("read", opened.spec.name):
                hits = [Hit(str(point.id), 0.0, payload_of(point)) for point in next(pages, [])]
            if not hits:
                return
            yield from hits

    def flush(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        opened = self._collection(collection)
        with self._errors("flush", collection):
            opened.flush()

    def optimize(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`; writers wait, readers do not."""
        opened = self._collection(collection)
        with opened.write_lock, self._errors("optimize", collection):
            opened.shard.optimize()
            opened.flush()

    def health(self) -> StoreHealth:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        self._check_open()
        return StoreHealth("qdrant-edge", version("qdrant-edge-py"), str(self.path))

    def close(self) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`; what was written is flushed first."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            try:
                for name, opened in self._open.items():
                    with driver_errors("close", name, lambda: False):
                        opened.close()
            finally:
                self._open.clear()
                self._process_lock.release()

    def _collection(self, name: str) -> OpenCollection:
        opened = self._open.get(name)
        if opened is not None and not self._closed:
            return opened
        check_name(name)
        with self._guard:
            self._check_open()
            if name not in self._open:
                if not (self.path / name).is_dir():
                    raise CollectionError(
                        f"the vector store at {self.path} has no collection {name!r}.",
                        hint="Index some sources; if that was done, rebuild: ragstack index --rebuild",
                    )
                with self._errors("open", name):
                    require_for_opening(self.path / name)
                    self._open[name] = on_disk.load(self.path / name)
            return self._open[name]

    def _compiled(self, opened: OpenCollection, filter: Filter | None) -> qdrant.Filter | None:
        if filter is None:
            return None
        return compile_filter(bind_filter(filter, opened.spec.fields), opened.keys)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the vector store was closed.", hint="Open it again.")

    def _errors(self, action: str, collection: str) -> AbstractContextManager[None]:
        return driver_errors(action, collection, lambda: self._closed)
