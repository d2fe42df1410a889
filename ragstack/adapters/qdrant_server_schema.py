"""The collections of one Qdrant server: created, described, grown by fields, read in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

from qdrant_client import QdrantClient, models

from ragstack.adapters.base import CollectionSpec
from ragstack.adapters.checks import check_growth
from ragstack.adapters.qdrant_server_collection import (
    check_names,
    check_tenant,
    creation,
    has_metadata,
    physical_name,
    read_spec,
    wanted_indexes,
)
from ragstack.adapters.qdrant_server_errors import RequestRefusedError
from ragstack.adapters.qdrant_server_keys import FORMAT_KEY, FieldKeys, all_keys, described, index_values
from ragstack.adapters.qdrant_server_records import PAYLOAD_KEY, payload_of
from ragstack.config.stores.qdrant import QdrantStoreConfig
from ragstack.errors import CollectionError, InputError
from ragstack.filters import FieldType

_PAGE = 500
_T = TypeVar("_T")


class Send(Protocol):
    """Sends a request in the store's way; see ``Requests.send``."""

    def __call__(
        self, request: Callable[[], _T], action: str, collection: str = "", *, limit_s: float | None = None
    ) -> _T: ...


class Schema:
    """What the collections below the prefix of ``block`` are. ``indexed``: the server keeps payload indexes."""

    def __init__(self, block: QdrantStoreConfig, client: QdrantClient, send: Send, *, indexed: bool) -> None:
        self._block, self._client, self._send, self._indexed = block, client, send, indexed
        self._known: dict[str, CollectionSpec] = {}

    @property
    def consistency(self) -> Any:
        """How many copies a read asks: None is the server's own, which is one."""
        told = self._block.read_consistency
        if isinstance(told, int):
            return told
        if told is None:
            several = (self._block.replication_factor or 1) > 1
            return models.ReadConsistencyType.MAJORITY if several else None
        return models.ReadConsistencyType(told)

    def spec(self, collection: str, *, fresh: bool = False) -> CollectionSpec:
        """What a collection is, as it was last seen, or now when ``fresh``. CollectionError when it is not there."""
        known = self._known.get(collection)
        if known is not None and not fresh:
            return known
        self._known.pop(collection, None)
        spec = read_spec(collection, self._info(collection))
        if spec is None:
            raise CollectionError(
                f"the collection {collection!r} on the Qdrant server at {self._block.uri} was not created to the end.",
                hint="Run the command that creates it again: ragstack index",
            )
        self._known[collection] = spec
        return spec

    def forget(self, collection: str) -> None:
        """Ask the server anew when the collection is used next."""
        self._known.pop(collection, None)

    def ensure(self, spec: CollectionSpec) -> None:
        """Create the collection, or check it and add the fields that are new."""
        check_tenant(self._block, spec)
        self.forget(spec.name)
        physical = physical_name(self._block.prefix, spec.name)
        if not self._send(lambda: self._client.collection_exists(physical), "look for", spec.name):
            self._create(spec, physical)
        info = self._info(spec.name)
        have = read_spec(spec.name, info)
        if have is None:  # created just now, or left half created, by a server without metadata
            vectors: Any = info.config.params.vectors
            check_growth(CollectionSpec(spec.name, next(iter(vectors.values())).size), spec)
            check_names(spec)
            self._create_indexes(spec, info)
            self._create_index(spec.name, FORMAT_KEY, models.PayloadSchemaType.KEYWORD)
        else:
            check_growth(have, spec)
            self._grow(have, spec, info)
        self.spec(spec.name, fresh=True)

    def _create(self, spec: CollectionSpec, physical: str) -> None:
        arguments = creation(self._block, spec)
        try:
            self._send(lambda: self._client.create_collection(physical, **arguments), "create", spec.name)
        except RequestRefusedError:
            # Another process may have created it meanwhile, or the first attempt of this one; it is checked next.
            if not self._send(lambda: self._client.collection_exists(physical), "look for", spec.name):
                raise

    def _grow(self, have: CollectionSpec, spec: CollectionSpec, info: models.CollectionInfo) -> None:
        grown = replace(have, fields={**have.fields, **spec.fields})
        new = {name: type_ for name, type_ in grown.fields.items() if name not in have.fields}
        if has_metadata(info):
            # Indexes first, all that are missing: a crash may have come between the collection and its indexes.
            self._create_indexes(grown, info)
            self._index_records(grown, new)
            if new:
                self._update_metadata(spec.name, described(new))
        elif new:
            check_names(grown)
            self._index_records(grown, new)
            self._create_indexes(grown, info)

    def _update_metadata(self, collection: str, entries: Mapping[str, Any]) -> None:
        physical = physical_name(self._block.prefix, collection)
        self._send(
            lambda: self._client.update_collection(physical, metadata=dict(entries)), "add fields to", collection
        )

    def _create_indexes(self, spec: CollectionSpec, info: models.CollectionInfo) -> None:
        for key, schema in wanted_indexes(self._block, spec).items():
            if key not in info.payload_schema:
                self._create_index(spec.name, key, schema)

    def _create_index(self, collection: str, key: str, schema: Any) -> None:
        if self._indexed:
            physical = physical_name(self._block.prefix, collection)
            self._send(
                lambda: self._client.create_payload_index(physical, key, field_schema=schema, wait=True),
                "index a field of",
                collection,
                limit_s=self._block.optimize_timeout_s,  # with millions of records this takes its time
            )

    def _index_records(self, grown: CollectionSpec, new: Mapping[str, FieldType]) -> None:
        """Write the keys of new fields for the records that are there; nothing when one of them does not fit."""
        if not new:
            return
        keys = all_keys(grown.fields)
        for points in self.pages(grown.name, None, _PAGE):
            for point in points:
                self._values(grown, point, keys, new)
        for points in self.pages(grown.name, None, _PAGE):
            operations: list[models.UpdateOperation] = []
            for point in points:
                values = self._values(grown, point, keys, new)
                if values:
                    change = models.SetPayload(payload=values, points=[point.id])
                    operations.append(models.SetPayloadOperation(set_payload=change))
            if operations:
                self._update(grown.name, operations)

    def _update(self, collection: str, operations: list[models.UpdateOperation]) -> None:
        physical = physical_name(self._block.prefix, collection)
        self._send(
            lambda: self._client.batch_update_points(physical, operations, wait=True), "add fields to", collection
        )

    def _values(
        self,
        grown: CollectionSpec,
        point: models.Record,
        keys: Mapping[str, FieldKeys],
        new: Mapping[str, FieldType],
    ) -> dict[str, Any]:
        payload = payload_of(point, grown.name)
        if all(payload.get(name) is None for name in new):
            return {}
        try:
            return index_values(payload, str(point.id), keys)
        except InputError as error:
            raise CollectionError(
                f"the collection {grown.name!r} cannot get the new fields {sorted(new)}: {error.message}",
                hint="Declare the type that the stored values have, or rebuild the index: ragstack index --rebuild",
            ) from error

    def pages(self, collection: str, compiled: models.Filter | None, batch_size: int) -> Iterator[list[models.Record]]:
        """All matching points in id order with their payloads, ``batch_size`` at a time."""
        physical = physical_name(self._block.prefix, collection)
        offset: Any = None
        while True:
            points, offset = self._send(
                partial(
                    self._client.scroll,
                    physical,
                    scroll_filter=compiled,
                    limit=batch_size,
                    offset=offset,
                    with_payload=[PAYLOAD_KEY],
                    with_vectors=False,
                    consistency=self.consistency,
                ),
                "read", collection,
            )  # fmt: skip
            if points:
                yield points
            if offset is None:
                return

    def _info(self, collection: str) -> models.CollectionInfo:
        physical = physical_name(self._block.prefix, collection)
        return self._send(lambda: self._client.get_collection(physical), "look into", collection)
