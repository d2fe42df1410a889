"""Milvus: a Milvus Lite file, a standalone server or a cluster, through pymilvus.

Every read asks for the consistency level Strong. Collections are described by a specification that is
kept with them as a property (``milvus_schema``); payloads are kept as text and filters compiled over derived
keys (``milvus_records``, ``milvus_filters``).

**Scores.** Vectors have length 1 and the metric is the inner product, so scores are cosines. Exact searches, and
those of IVF_SQ8, are scored again here in 64-bit floats, because the server's last bits depend on where a row lies.
**Exact search** is the server's with the index FLAT; with any other, all vectors are read page by page.
**Ties** at ``top_k`` are fetched whole; beyond the server's 16,384 hits, by reading all vectors.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any

from ragstack.adapters import milvus_schema as schemas
from ragstack.adapters import milvus_search as searching
from ragstack.adapters import milvus_upkeep as upkeep
from ragstack.adapters.base import Capabilities, CollectionSpec, Hit, HybridHits, Record, SearchParams, StoreHealth
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
from ragstack.adapters.milvus_connection import Connection, Request
from ragstack.adapters.milvus_filters import EVERYTHING, compile_filter
from ragstack.adapters.milvus_pages import Collection, ids_in, query_pages
from ragstack.adapters.milvus_records import batches, derived_keys, payload_of, to_record, to_row
from ragstack.adapters.milvus_schema import StoredSpec
from ragstack.config.stores.milvus import MilvusStoreConfig
from ragstack.errors import (
    CapabilityError,
    CollectionError,
    InputError,
    PartialWriteError,
    StoreError,
    StoreUnavailableError,
)
from ragstack.filters import Filter, bind_filter, conditions
from ragstack.types import Float32Array, SparseVector

MAX_TOP_K = 10_000
_ROWS_PER_WRITE = 1000
_BYTES_PER_WRITE = 16 * 2**20  # the server takes messages of 64 MB
_IDS_PER_CALL = 1000
_ROWS_PER_PAGE = 1000
SPARSE_VERSION = (2, 4)


class MilvusStore:
    """A :class:`ragstack.adapters.base.VectorStore` at ``block.uri``; connects at once.

    Raises StoreUnavailableError when the server cannot be reached or refuses the token, StoreLockedError when
    another process holds a Milvus Lite file. Usable as a context manager.
    """

    def __init__(self, block: MilvusStoreConfig) -> None:
        self.block = block
        self._connection = Connection(block)
        version = schemas.version_tuple(self._connection.version)
        self._sparse = version == (0, 0) or version >= SPARSE_VERSION
        self._guard = threading.Lock()
        self._collections: dict[str, Collection] = {}
        self._write_locks: dict[str, threading.RLock] = {}
        self._legs = ThreadPoolExecutor(max_workers=4, thread_name_prefix="milvus-sparse")

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do; ``sparse`` needs Milvus 2.4."""
        return Capabilities(
            sparse=self._sparse,
            persistent=True,
            multi_process=not self.block.is_lite,
            exact_search=True,
            max_top_k=min(MAX_TOP_K, schemas.max_hits(self.block.index) - 24),
        )

    def __enter__(self) -> MilvusStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Collections

    def ensure_collection(self, spec: CollectionSpec) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`.

        New fields are written to the records already there; no other process may write meanwhile.
        """
        check_spec(spec)
        self._connection.check_open()
        with self._write_lock(spec.name):
            have = self._described(spec.name)
            if have is None:
                self._create(schemas.new_spec(spec, self.block, sparse=self._sparse))
                have = self._described(spec.name)
            if have is None:
                raise CollectionError(f"the collection {spec.name!r} was dropped while it was created.")
            check_growth(have.stored.spec, spec)
            schemas.check_settings(have.stored, self.block)
            upkeep.make_searchable(self._connection, have, self.block.index)
            added = {name: type_ for name, type_ in spec.fields.items() if name not in have.stored.spec.fields}
            if added:
                have = self._add_fields(have, added)
            with self._guard:
                self._collections[spec.name] = have

    def _create(self, stored: StoredSpec) -> None:
        name = stored.spec.name
        at = schemas.stored_name(self.block.prefix, name)
        properties = {schemas.SPEC_PROPERTY: stored.to_json()}
        options: dict[str, Any] = {"num_partitions": self.block.partitions} if stored.tenant_field else {}
        self._connection.call(
            "create",
            name,
            lambda client, left: client.create_collection(
                at,
                schema=schemas.schema_of(stored),
                consistency_level="Strong",
                properties=properties,
                timeout=left,
                **options,
            ),
        )

    def _add_fields(self, have: Collection, added: Mapping[str, Any]) -> Collection:
        """Fill the derived keys of new fields, then declare them: a filter never sees half of that."""
        name = have.name
        growing = have.with_spec(replace(have.stored, adding=dict(added)))
        columns = ["id", "dense", "payload", "weights"]
        self._check_values(growing)
        self._set_spec(growing)
        for rows in query_pages(self._connection, "add fields to", growing, EVERYTHING, columns, _ROWS_PER_PAGE):
            changed = [to_record(row) for row in rows if growing.touches(payload_of(row), added)]
            self._write(growing, [to_row(record, growing.layout) for record in changed])
        grown = growing.with_spec(schemas.grown(growing.stored, added))
        self._set_spec(grown)
        assert grown.name == name
        return grown

    def _check_values(self, growing: Collection) -> None:
        pages = query_pages(self._connection, "add fields to", growing, EVERYTHING, ["id", "payload"], _ROWS_PER_PAGE)
        for rows in pages:
            for row in rows:
                try:
                    derived_keys(payload_of(row), str(row["id"]), growing.layout, negative=False)
                except InputError as error:  # noqa: PERF203 - the row is what the message names
                    raise CollectionError(
                        f"the collection {growing.name!r} cannot get the new fields: {error.message}", hint=error.hint
                    ) from error

    def _set_spec(self, collection: Collection) -> None:
        properties = {schemas.SPEC_PROPERTY: collection.stored.to_json()}
        self._connection.call(
            "add fields to",
            collection.name,
            lambda client, left: client.alter_collection_properties(collection.at, properties, timeout=left),
        )

    def collections(self) -> list[str]:
        """See :class:`ragstack.adapters.base.VectorStore`; those below ``prefix``."""
        stored: list[str] = self._connection.call(
            "list the collections of", "", lambda client, left: client.list_collections(timeout=left)
        )
        names = [schemas.own_name(self.block.prefix, name) for name in stored]
        return sorted(name for name in names if name is not None)

    def drop(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_name(collection)
        at = schemas.stored_name(self.block.prefix, collection)
        with self._write_lock(collection):
            with self._guard:
                self._collections.pop(collection, None)
            self._connection.call("drop", collection, lambda client, left: client.drop_collection(at, timeout=left))

    # Writing

    def upsert(self, collection: str, records: Sequence[Record]) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        with self._write_lock(collection):
            opened = self._collection(collection, fresh=True)
            unique = list({record.id: record for record in records}.values())
            check_records(unique, opened.layout.dim)
            self._write(opened, [to_row(record, opened.layout) for record in unique])

    def _write(self, opened: Collection, rows: Sequence[tuple[dict[str, Any], int]]) -> None:
        groups = batches(rows, _ROWS_PER_WRITE, _BYTES_PER_WRITE)
        for number, group in enumerate(groups):
            try:
                self._connection.call("write to", opened.name, _upsert(opened.at, group), opened.at)
            except (StoreUnavailableError, CollectionError):  # noqa: PERF203 - one group is one request
                raise
            except StoreError as error:
                if number == 0:
                    raise
                failed = {row["id"]: error.message for rest in groups[number:] for row in rest}
                raise PartialWriteError(
                    f"Milvus at {self._connection.place.address} took {len(rows) - len(failed)} of {len(rows)} records "
                    f"for the collection {opened.name!r} and refused the others: {error.message}",
                    failed,
                    hint=error.hint,
                ) from error

    def delete(self, collection: str, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`; a filter is resolved to ids first."""
        check_ids_or_filter(ids, filter)
        with self._write_lock(collection):
            opened = self._collection(collection)
            if ids is not None:
                self._delete_ids(opened, list(dict.fromkeys(check_ids(ids))))
                return
            expression = self._compiled(opened, filter)
            pages = query_pages(self._connection, "delete from", opened, expression, ["id"], schemas.MAX_HITS // 2)
            for rows in pages:
                self._delete_ids(opened, [str(row["id"]) for row in rows])

    def _delete_ids(self, opened: Collection, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _IDS_PER_CALL):
            part = ids[start : start + _IDS_PER_CALL]
            self._connection.call("delete from", opened.name, _delete(opened.at, part), opened.at)

    # Searching

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
        check_query(vector, opened.stored.spec.dim)
        check_top_k(top_k, self.capabilities.max_top_k)
        expression = self._compiled(opened, filter)
        exact = params.exact or self.block.exact
        schemas.search_params(self.block.index, top_k, params)
        if top_k == 0:
            return []
        return searching.dense(self._connection, opened, self.block.index, vector, top_k, expression, params, exact)

    def search_sparse(
        self, collection: str, vector: SparseVector, top_k: int, *, filter: Filter | None = None
    ) -> list[Hit]:
        """See :class:`ragstack.adapters.base.VectorStore`; CapabilityError on a server before 2.4."""
        opened = self._collection(collection)
        check_sparse(vector, "the query")
        check_top_k(top_k, self.capabilities.max_top_k)
        expression = self._compiled(opened, filter)
        if not opened.stored.sparse:
            raise CapabilityError(
                f"Milvus {self._connection.version} at {self._connection.place.address} cannot search sparse vectors"
                f" in the collection {collection!r}: they need a server of version 2.4 or later when it is made.",
                hint="Use a newer server and index again, or set retrieval.mode to dense.",
            )
        if top_k == 0 or len(vector) == 0:
            return []
        return searching.sparse(self._connection, opened, vector, top_k, expression)

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
        """See :class:`ragstack.adapters.base.VectorStore`; two requests at a time: Milvus's own tells fused ranks."""
        self._connection.check_open()
        leg = self._legs.submit(self.search_sparse, collection, sparse, top_k, filter=filter)
        try:
            found = self.search_dense(collection, dense, top_k, filter=filter, params=params)
        except BaseException:
            leg.cancel()
            raise
        return HybridHits(found, leg.result())

    # Reading

    def fetch(self, collection: str, ids: Sequence[str]) -> dict[str, Record]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        opened = self._collection(collection)
        wanted = list(dict.fromkeys(check_ids(ids)))
        rows = searching.by_ids(self._connection, "read", opened, wanted, ["id", "dense", "payload", "weights"])
        return {str(row["id"]): to_record(row) for row in rows}

    def count(self, collection: str, filter: Filter | None = None) -> int:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        opened = self._collection(collection)
        return searching.count(self._connection, opened, self._compiled(opened, filter))

    def iterate(self, collection: str, filter: Filter | None = None, *, batch_size: int = 1000) -> Iterator[Hit]:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        check_batch_size(batch_size)
        opened = self._collection(collection)
        expression = self._compiled(opened, filter)
        size = min(batch_size, _ROWS_PER_PAGE)
        pages = query_pages(self._connection, "read", opened, expression, ["id", "payload"], size)
        return (Hit(str(row["id"]), 0.0, payload_of(row)) for rows in pages for row in rows)

    # Upkeep

    def flush(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`; seals the growing segments."""
        opened = self._collection(collection)
        self._connection.call(
            "flush", collection, lambda client, left: client.flush(opened.at, timeout=left), opened.at
        )

    def optimize(self, collection: str) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`; returns once searches use the index for every row."""
        opened = self._collection(collection)
        self.flush(collection)
        upkeep.wait_for_index(self._connection, opened)
        if not self.block.is_lite:
            upkeep.wait_for_handoff(self._connection, opened)

    def health(self) -> StoreHealth:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        version: str = self._connection.call(
            "ask the health of", "", lambda client, left: client.get_server_version(timeout=left)
        )
        engine = "milvus-lite" if "lite" in version and self.block.is_lite else "milvus"
        return StoreHealth(engine, version.removeprefix("milvus_lite-"), self._connection.place.address)

    def close(self) -> None:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        self._legs.shutdown(wait=True, cancel_futures=True)
        self._connection.close()

    # Helpers

    def _write_lock(self, name: str) -> threading.RLock:
        """Writers of one collection take turns: Milvus Lite has a single writer, and new fields rewrite rows."""
        with self._guard:
            return self._write_locks.setdefault(name, threading.RLock())

    def _collection(self, name: str, *, fresh: bool = False) -> Collection:
        """The collection as it was last described; ``fresh`` asks the server again."""
        self._connection.check_open()
        known = self._collections.get(name)
        if known is not None and not fresh:
            return known
        check_name(name)
        found = self._described(name)
        with self._guard:
            if found is None:
                self._collections.pop(name, None)
                raise CollectionError(
                    f"Milvus at {self._connection.place.address} has no collection {name!r}.",
                    hint="Index some sources; if that was done, rebuild: ragstack index --rebuild",
                )
            self._collections[name] = found
        return found

    def _described(self, name: str) -> Collection | None:
        at = schemas.stored_name(self.block.prefix, name)
        return upkeep.described(self._connection, name, at)

    def _compiled(self, opened: Collection, filter: Filter | None) -> str:
        if filter is None:
            return EVERYTHING
        stored = opened.stored
        if any(condition.field not in stored.spec.fields for condition in conditions(filter)):
            stored = self._collection(opened.name, fresh=True).stored  # another process may have declared it
        return compile_filter(bind_filter(filter, stored.spec.fields), stored.layout.keys)


def _upsert(at: str, rows: list[dict[str, Any]]) -> Request:
    return lambda client, left: client.upsert(at, rows, timeout=left)


def _delete(at: str, ids: Sequence[str]) -> Request:
    return lambda client, left: client.delete(at, filter=ids_in(ids), timeout=left)
