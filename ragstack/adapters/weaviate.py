"""Weaviate as a vector store: a server, a cluster or its cloud.

**Connection.** Made at the first use, kept until ``close``; a server that is gone for a moment is waited for,
up to ``timeout_s`` a request.

**Search.** Dense search is Weaviate's own. With ``exact`` a graph's vectors are scanned in portions; not where
they are quantised (``capabilities.exact_search``). The sparse leg is told in ``weaviate_sparse``: its scores are
exact, and so is the list where fewer than ``max(4 * top_k, 500)`` records share a word with the query.

**What is remembered.** Fields and dimension of a collection are read once, and again before each write and
when a filter names a field that was not there, as another process may have added it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import weaviate
from weaviate.classes.config import ConsistencyLevel
from weaviate.classes.tenants import Tenant

from ragstack.adapters.base import Capabilities, CollectionSpec, Hit, Record, SearchParams, StoreHealth
from ragstack.adapters.checks import (
    check_batch_size,
    check_growth,
    check_ids,
    check_ids_or_filter,
    check_name,
    check_query,
    check_records,
    check_sparse,
    check_spec,
    check_top_k,
)
from ragstack.adapters.legs import LegsInTurn
from ragstack.adapters.weaviate_client import connect, redaction
from ragstack.adapters.weaviate_collection import OpenCollection, tenant_of_record
from ragstack.adapters.weaviate_errors import driver_errors, missing
from ragstack.adapters.weaviate_filters import Compiled, compile_filter
from ragstack.adapters.weaviate_growth import add_fields
from ragstack.adapters.weaviate_records import to_object
from ragstack.adapters.weaviate_schema import class_name, collection_name, creation, open_spec, scan_limit
from ragstack.adapters.weaviate_writes import delete_ids, delete_matching, patiently, write, write_logs
from ragstack.config.stores.weaviate import WeaviateDynamic, WeaviateStoreConfig
from ragstack.errors import CapabilityError, InputError, StoreUnavailableError
from ragstack.filters import Filter, bind_filter, conditions
from ragstack.types import Float32Array, SparseVector

_CONSISTENCY = {
    "one": ConsistencyLevel.ONE,
    "quorum": ConsistencyLevel.QUORUM,
    "all": ConsistencyLevel.ALL,
}
_POLL_S = 0.25


class WeaviateStore(LegsInTurn):
    """A :class:`ragstack.adapters.base.VectorStore` on the server that ``block`` names. Usable as a context manager."""

    def __init__(self, block: WeaviateStoreConfig) -> None:
        self.block = block
        self._connection = redaction(block)
        self._guard = threading.RLock()
        self._client: weaviate.WeaviateClient | None = None
        self._open: dict[str, OpenCollection] = {}
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        index = self.block.index
        quantizer = index.hnsw.quantizer if isinstance(index, WeaviateDynamic) else index.quantizer
        return Capabilities(
            sparse=True,
            persistent=True,
            multi_process=True,
            exact_search=quantizer.type == "none",
            max_top_k=self.block.max_results,
        )

    def __enter__(self) -> WeaviateStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ensure_collection(self, spec: CollectionSpec) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_spec(spec)
        tenant_field = self.block.tenant_field
        class_ = class_name(self.block.prefix, spec.name)
        with self._guard, self._errors("create", spec.name):
            client = self._connected()
            if not client.collections.exists(class_):
                if tenant_field is not None and spec.fields.get(tenant_field) != "keyword":
                    raise InputError(
                        f"store.tenant_field is {tenant_field!r}, which {spec.name!r} does not declare as a keyword.",
                        hint="Declare the field with type keyword, or leave tenant_field out.",
                    )
                try:
                    client.collections.create(class_, **creation(self.block, spec))
                except weaviate.exceptions.UnexpectedStatusCodeError:
                    # Another process may have made it since; then it is checked like any other.
                    if not client.collections.exists(class_):
                        raise
            opened = self._collection(spec.name, fresh=True)
            check_growth(CollectionSpec(spec.name, opened.stored.dim, _types(opened)), spec)
            if add_fields(opened, spec, self.block.batch_bytes, self._connection):
                self._collection(spec.name, fresh=True)

    def collections(self) -> list[str]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        with self._errors("list the collections", None):
            classes = self._connected().collections.list_all(simple=True)
        names = (collection_name(self.block.prefix, class_) for class_ in classes)
        return sorted(name for name in names if name is not None)

    def drop(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_name(collection)
        class_ = class_name(self.block.prefix, collection)
        with self._guard, self._errors("drop", collection):
            self._open.pop(collection, None)
            self._connected().collections.delete(class_)

    def upsert(self, collection: str, records: Sequence[Record]) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        opened = self._collection(collection, fresh=True)
        stored = opened.stored
        keys = stored.keys(ready=False)
        unique = {record.id: record for record in records}
        check_records(list(unique.values()), stored.dim)
        objects = {id_: to_object(record, keys) for id_, record in unique.items()}
        if not objects:
            return
        with self._errors("write to", collection):
            if stored.tenant_field is None:
                write(opened.handle, list(objects.values()), stored.dim, self.block.batch_bytes, self._connection)
                return
            by_tenant: dict[str, list[str]] = {}
            for record in unique.values():
                by_tenant.setdefault(tenant_of_record(record, stored.tenant_field), []).append(record.id)
            known = set(opened.handle.tenants.get())
            new = [Tenant(name=name) for name in by_tenant if name not in known]
            if new:
                opened.handle.tenants.create(new)
            for name, ids in by_tenant.items():
                part = opened.handle.with_tenant(name)
                write(part, [objects[id_] for id_ in ids], stored.dim, self.block.batch_bytes, self._connection)
            for name in known:
                # A record is in one tenant: what it was in another before is deleted.
                moved = [id_ for tenant, ids in by_tenant.items() if tenant != name for id_ in ids]
                delete_ids(opened.handle.with_tenant(name), moved, self._connection)

    def delete(self, collection: str, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_ids_or_filter(ids, filter)
        opened, compiled = self._bound(collection, filter)
        wanted = check_ids(ids) if ids is not None else []
        with self._errors("delete from", collection):
            for part in opened.parts(filter):
                if ids is None:
                    delete_matching(part, compiled, self._connection)
                else:
                    delete_ids(part, wanted, self._connection)

    def search_dense(
        self,
        collection: str,
        vector: Float32Array,
        top_k: int,
        *,
        filter: Filter | None = None,
        params: SearchParams = SearchParams(),
    ) -> list[Hit]:
        """See :class:`ragstack.adapters.base.VectorStore`; ``params.ef_search`` may widen the search, not narrow it."""
        opened, compiled = self._bound(collection, filter)
        check_query(vector, opened.stored.dim)
        check_top_k(top_k, self.block.max_results)
        if top_k == 0 or compiled == "nothing":
            return []
        if params.ef_search is not None and params.ef_search > self.block.max_results:
            raise CapabilityError(
                f"ef_search is {params.ef_search}; this store takes at most {self.block.max_results}.",
                hint="Ask for less, or raise store.max_results and the server's QUERY_MAXIMUM_RESULTS.",
            )
        hits: list[Hit] = []
        with self._errors("search", collection):
            for part in opened.parts(filter):
                if params.exact:
                    hits += opened.scanned(part, vector, top_k, compiled)
                else:
                    hits += opened.nearest(part, vector, top_k, compiled, params.ef_search or 0)
        return _best(hits, top_k)

    def search_sparse(
        self, collection: str, vector: SparseVector, top_k: int, *, filter: Filter | None = None
    ) -> list[Hit]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        opened, compiled = self._bound(collection, filter)
        check_sparse(vector, "the query")
        check_top_k(top_k, self.block.max_results)
        if top_k == 0 or compiled == "nothing":
            return []
        with self._errors("search", collection):
            hits = [hit for part in opened.parts(filter) for hit in opened.by_terms(part, vector, top_k, compiled)]
        return _best(hits, top_k)

    def fetch(self, collection: str, ids: Sequence[str]) -> dict[str, Record]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        opened = self._collection(collection)
        wanted = list(dict.fromkeys(check_ids(ids)))
        if not wanted:
            return {}
        with self._errors("read", collection):
            return {record.id: record for part in opened.parts() for record in opened.fetched(part, wanted)}

    def count(self, collection: str, filter: Filter | None = None) -> int:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        opened, compiled = self._bound(collection, filter)
        with self._errors("count", collection):
            return sum(opened.count(part, compiled) for part in opened.parts(filter))

    def iterate(self, collection: str, filter: Filter | None = None, *, batch_size: int = 1000) -> Iterator[Hit]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_batch_size(batch_size)
        opened, compiled = self._bound(collection, filter)
        with self._errors("read", collection):
            pages = opened.merged(opened.parts(filter), compiled, batch_size)
        return self._iterate(collection, pages)

    def _iterate(self, collection: str, pages: Iterator[list[Hit]]) -> Iterator[Hit]:
        while True:
            with self._errors("read", collection):
                self._connected()
                page = next(pages, None)
            if page is None:
                return
            yield from page

    def flush(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`.

        Every write that returned is in the server's logs and survives the death of its process. The server has
        no call that syncs them to the disk: what the machine's death leaves rests on its file system and replicas.
        """
        opened = self._collection(collection, fresh=True)
        with self._errors("flush", collection):
            for part in opened.parts():
                write_logs(part)

    def optimize(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`: waits until the server's queue of vectors is empty."""
        opened = self._collection(collection, fresh=True)
        with self._errors("optimize", collection):
            while True:
                nodes = self._connected().cluster.nodes(opened.handle.name, output="verbose")
                if not any(shard.vector_queue_length for node in nodes for shard in node.shards or ()):
                    return
                time.sleep(_POLL_S)

    def health(self) -> StoreHealth:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        with self._errors("ask for the version", None):
            version = str(self._connected().get_meta().get("version", "unknown"))
        return StoreHealth("weaviate", version, self._connection.address)

    def close(self) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        with self._guard:
            self._closed = True
            self._open.clear()
            client, self._client = self._client, None
            if client is not None:
                with self._errors("close", None):
                    client.close()

    def _connected(self) -> weaviate.WeaviateClient:
        client = self._client
        if client is not None and not self._closed:
            return client
        with self._guard:
            if self._closed:
                raise StoreUnavailableError("the vector store was closed.", hint="Open it again.")
            if self._client is None:
                self._client = connect(self.block)
            return self._client

    def _collection(self, name: str, *, fresh: bool = False) -> OpenCollection:
        """The open collection; ``fresh`` reads again what is stored with it."""
        check_name(name)
        client = self._connected()
        opened = self._open.get(name)
        if opened is not None and not fresh:
            return opened
        with self._errors("open", name):
            handle = client.collections.use(class_name(self.block.prefix, name))
            handle = handle.with_consistency_level(_CONSISTENCY[self.block.consistency])
            try:
                config = patiently(handle.config.get)
            except weaviate.exceptions.UnexpectedStatusCodeError as error:
                self._open.pop(name, None)
                if error.status_code == 404:
                    raise missing(name, self._connection) from error
                raise
            opened = OpenCollection(handle, open_spec(name, config), scan_limit(config), self.block.max_results)
        self._open[name] = opened
        return opened

    def _bound(self, collection: str, filter: Filter | None) -> tuple[OpenCollection, Compiled]:
        opened = self._collection(collection)
        if filter is None:
            return opened, "everything"
        if any(condition.field not in opened.stored.keys(ready=True) for condition in conditions(filter)):
            opened = self._collection(collection, fresh=True)
        bound = bind_filter(filter, opened.stored.spec().fields)
        return opened, compile_filter(bound, opened.stored.keys(ready=True))

    def _errors(self, action: str, collection: str | None) -> AbstractContextManager[None]:
        return driver_errors(action, collection, self._connection, lambda: self._closed)


def _types(opened: OpenCollection) -> dict[str, Any]:
    return {name: field.type for name, field in opened.stored.fields.items()}


def _best(hits: Sequence[Hit], top_k: int) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))[:top_k]
