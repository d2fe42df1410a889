"""The vector store on a Qdrant server, over HTTP or gRPC.

**Collections** are named ``<prefix>.<collection>`` there, and describe themselves (``qdrant_server_collection``).

**Writes** go in portions that fit into a request, wait until the server has applied them, and are sent again
after a passing failure, since all are idempotent. When the server refuses a portion it is halved until the
records it refuses are known; PartialWriteError names them, and the others are written.

**Reads** see the writes before them: with several copies of a shard a write returns when most have it, and
a read asks most of them.

**Search.** Ties are fetched until the whole tie at ``top_k`` is known. Sparse scores are summed again here in
64-bit floats, because a server's last bit depends on the order of insertion.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from qdrant_client import models

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
from ragstack.adapters.qdrant_server_collection import logical_name, physical_name, search_params
from ragstack.adapters.qdrant_server_connection import address_of, check_version, connect
from ragstack.adapters.qdrant_server_errors import Deadline, IncompleteWriteError, Requests, closed
from ragstack.adapters.qdrant_server_filters import compile_filter
from ragstack.adapters.qdrant_server_keys import all_keys
from ragstack.adapters.qdrant_server_legs import Leg, ask
from ragstack.adapters.qdrant_server_records import (
    DENSE,
    PAYLOAD_KEY,
    SPARSE,
    payload_of,
    sparse_to_driver,
    to_points,
    to_record,
)
from ragstack.adapters.qdrant_server_schema import Schema
from ragstack.adapters.qdrant_server_upkeep import wait_until_optimized
from ragstack.adapters.qdrant_server_writes import upsert_points
from ragstack.config.stores.qdrant import IN_MEMORY, QdrantStoreConfig
from ragstack.errors import CollectionError
from ragstack.filters import Filter, bind_filter, conditions
from ragstack.types import Float32Array, SparseVector

MAX_TOP_K = 10_000
_IDS_PER_READ, _IDS_PER_DELETE = 500, 5_000
_SPARSE_SPARE = 8
_RETRIES_OF_STRANGERS = 2
_T = TypeVar("_T")


class QdrantStore:
    """A :class:`ragstack.adapters.base.VectorStore` on the server of ``block``; connects on first use.

    ``block`` is kept as the attribute of that name. Usable as a context manager, and from several threads.
    """

    def __init__(self, block: QdrantStoreConfig) -> None:
        self.block = block
        self._deadline = Deadline()
        self._requests = Requests(address_of(block), block.timeout_s, self._deadline)
        self._local = block.uri == IN_MEMORY
        self._client = self._requests.send(lambda: connect(block, self._deadline), "connect", retries=0)
        self._guard = threading.RLock()
        self._schema = Schema(block, self._client, self._send, indexed=not self._local)
        self._greeted = False
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        return Capabilities(
            sparse=True,
            persistent=not self._local,
            multi_process=not self._local,
            exact_search=True,
            max_top_k=MAX_TOP_K,
        )

    def __enter__(self) -> QdrantStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ensure_collection(self, spec: CollectionSpec) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`.

        Fields are best added while no other process writes: one that opened the collection before writes
        records without them until its next call.
        """
        check_spec(spec)
        self._greet()
        with self._guard:
            self._schema.ensure(spec)

    def collections(self) -> list[str]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        self._greet()
        found = self._send(self._client.get_collections, "list the collections").collections
        names = [logical_name(self.block.prefix, each.name) for each in found]
        return sorted(name for name in names if name is not None and is_name(name))

    def drop(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_name(collection)
        self._greet()
        physical = self._physical(collection)
        self._schema.forget(collection)
        with suppress(CollectionError):  # it is gone already, which some versions say with a 404
            self._send(lambda: self._client.delete_collection(physical), "drop", collection)

    def upsert(self, collection: str, records: Sequence[Record]) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        # Asked anew: another process may have added fields, which these records must be found by.
        spec = self._spec(collection, fresh=True)
        keys = all_keys(spec.fields)
        unique = {record.id: record for record in records}
        points = to_points(list(unique.values()), spec.dim, keys)
        upsert_points(points, self.block, collection, lambda portion: self._upsert(collection, portion))

    def _upsert(self, collection: str, points: list[models.PointStruct]) -> None:
        physical = self._physical(collection)
        self._write(
            lambda: self._client.upsert(physical, points, wait=True, ordering=self._ordering), "write to", collection
        )

    def delete(self, collection: str, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_ids_or_filter(ids, filter)
        spec = self._spec(collection)
        if ids is not None:
            wanted = check_ids(ids)
            for start in range(0, len(wanted), _IDS_PER_DELETE):
                some: list[Any] = list(wanted[start : start + _IDS_PER_DELETE])
                self._delete(collection, models.PointIdsList(points=some))
            return
        compiled = self._compiled(spec, filter)
        assert compiled is not None
        self._delete(collection, models.FilterSelector(filter=compiled))

    def _delete(self, collection: str, selector: models.PointIdsList | models.FilterSelector) -> None:
        physical = self._physical(collection)
        self._write(
            lambda: self._client.delete(physical, selector, wait=True, ordering=self._ordering),
            "delete from", collection,
        )  # fmt: skip

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
        leg = self._dense_leg(collection, vector, top_k, filter, params)
        return self._search(collection, [leg])[0]

    def search_sparse(
        self, collection: str, vector: SparseVector, top_k: int, *, filter: Filter | None = None
    ) -> list[Hit]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        leg = self._sparse_leg(collection, vector, top_k, filter)
        return self._search(collection, [leg])[0]

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
        """See :class:`ragstack.adapters.base.VectorStore`; one request, more only where ties are cut."""
        legs = [
            self._dense_leg(collection, dense, top_k, filter, params),
            self._sparse_leg(collection, sparse, top_k, filter),
        ]
        return HybridHits(*self._search(collection, legs))

    def fetch(self, collection: str, ids: Sequence[str]) -> dict[str, Record]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        self._spec(collection)
        wanted = list(dict.fromkeys(check_ids(ids)))
        physical = self._physical(collection)
        found: dict[str, Record] = {}
        for start in range(0, len(wanted), _IDS_PER_READ):
            some = wanted[start : start + _IDS_PER_READ]
            points = self._send(
                partial(
                    self._client.retrieve,
                    physical,
                    some,
                    with_payload=[PAYLOAD_KEY],
                    with_vectors=True,
                    consistency=self._consistency,
                ),
                "read", collection,
            )  # fmt: skip
            found.update((str(point.id), to_record(point, collection)) for point in points)
        return found

    def count(self, collection: str, filter: Filter | None = None) -> int:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        compiled = self._compiled(self._spec(collection), filter)
        physical = self._physical(collection)
        return self._send(lambda: self._client.count(physical, compiled, exact=True), "count", collection).count

    def iterate(self, collection: str, filter: Filter | None = None, *, batch_size: int = 1000) -> Iterator[Hit]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_batch_size(batch_size)
        return self._iterate(collection, self._compiled(self._spec(collection), filter), batch_size)

    def _iterate(self, collection: str, compiled: models.Filter | None, batch_size: int) -> Iterator[Hit]:
        for points in self._schema.pages(collection, compiled, batch_size):
            for point in points:
                yield Hit(str(point.id), 0.0, payload_of(point, collection))

    def flush(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`.

        Every write waited until the server had it in its log and applied, so there is nothing left to send.
        When the log reaches the disk is the server's own setting (``flush_interval_sec``).
        """
        self._spec(collection, fresh=True)

    def optimize(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`; waits until the server's optimizers are idle."""
        self._spec(collection)
        wait_until_optimized(self._client, self._send, self.block, collection)

    def health(self) -> StoreHealth:
        """See :class:`ragstack.adapters.base.VectorStore`; a wrong key is found out too."""
        self._check_open()
        info = self._send(self._client.info, "reach the store")
        # Anyone may ask for the version; the collections are for those with a key.
        self._send(self._client.get_collections, "list the collections")
        return StoreHealth("qdrant", info.version, self.block.uri)

    def close(self) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        with self._guard:
            if not self._closed:
                self._closed = True
                self._client.close()

    # Searching

    def _dense_leg(
        self, collection: str, vector: Float32Array, top_k: int, filter: Filter | None, params: SearchParams
    ) -> Leg:
        spec = self._spec(collection)
        check_query(vector, spec.dim)
        check_top_k(top_k, MAX_TOP_K)
        request = models.QueryRequest(
            query=vector.tolist(),
            using=DENSE,
            filter=self._compiled(spec, filter),
            # The client's local mode scans every vector, and warns of settings that it has no use for.
            params=None if self._local else search_params(self.block, params.exact, params.ef_search),
            limit=top_k + 1,
            with_payload=[PAYLOAD_KEY],
            with_vector=False,
        )
        return Leg(collection, top_k, request if top_k else None, vector)

    def _sparse_leg(self, collection: str, vector: SparseVector, top_k: int, filter: Filter | None) -> Leg:
        spec = self._spec(collection)
        check_sparse(vector, "the query")
        check_top_k(top_k, MAX_TOP_K)
        compiled = self._compiled(spec, filter)
        if top_k == 0 or len(vector) == 0:
            return Leg(collection, top_k, None, vector)
        request = models.QueryRequest(
            query=sparse_to_driver(vector),
            using=SPARSE,
            filter=compiled,
            limit=top_k + _SPARSE_SPARE,
            with_payload=[PAYLOAD_KEY],
            with_vector=[SPARSE],
            # Without a negative weight no record that is sought scores below, and none that shares no term above.
            score_threshold=0.0 if (vector.values >= 0).all() else None,
        )
        return Leg(collection, top_k, request, vector)

    def _search(self, collection: str, legs: Sequence[Leg]) -> list[list[Hit]]:
        """The hits of each leg; all legs whose ties are not yet known go into one request."""
        while open_ := [leg for leg in legs if not leg.settled]:
            requests = [leg.request for leg in open_ if leg.request is not None]
            answers = self._send(
                partial(ask, self._client, self._physical(collection), requests, self._consistency),
                "search",
                collection,
            )
            for leg, answer in zip(open_, answers, strict=True):
                leg.take(answer.points)
        return [leg.hits for leg in legs]

    # Helpers

    @property
    def _ordering(self) -> models.WriteOrdering | None:
        return None if self.block.write_ordering == "weak" else models.WriteOrdering(self.block.write_ordering)

    @property
    def _consistency(self) -> Any:
        return self._schema.consistency

    def _physical(self, collection: str) -> str:
        return physical_name(self.block.prefix, collection)

    def _spec(self, collection: str, *, fresh: bool = False) -> CollectionSpec:
        check_name(collection)
        self._greet()
        return self._schema.spec(collection, fresh=fresh)

    def _compiled(self, spec: CollectionSpec, filter: Filter | None) -> models.Filter | None:
        if filter is None:
            return None
        if any(condition.field not in spec.fields for condition in conditions(filter)):
            spec = self._schema.spec(spec.name, fresh=True)  # another process may have added the field
        return compile_filter(bind_filter(filter, spec.fields), all_keys(spec.fields))

    def _greet(self) -> None:
        self._check_open()
        if not self._greeted:
            version = self._send(self._client.info, "reach the store").version
            check_version(version, self._requests.address)
            self._greeted = True

    def _check_open(self) -> None:
        if self._closed:
            raise closed()

    def _write(self, request: Callable[[], models.UpdateResult], action: str, collection: str) -> None:
        def completed() -> None:
            result = request()
            if result.status != models.UpdateStatus.COMPLETED:
                raise IncompleteWriteError(str(result.status))

        self._send(completed, action, collection)

    def _send(
        self, request: Callable[[], _T], action: str, collection: str = "", *, limit_s: float | None = None
    ) -> _T:
        self._check_open()
        # A server that has answered is worth waiting for while it restarts; a wrong address is not.
        retries = self.block.retries if self._greeted else min(_RETRIES_OF_STRANGERS, self.block.retries)
        try:
            if not self._local:
                return self._requests.send(request, action, collection, retries=retries, limit_s=limit_s)
            with self._guard:  # the client's local mode is not made for threads
                self._check_open()
                return self._requests.send(request, action, collection, retries=0)
        except CollectionError:
            self._schema.forget(collection)
            raise
