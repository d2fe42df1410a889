"""One open collection: its parts (the whole, or one for each tenant) and the requests that each answers."""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from weaviate.classes.query import Filter as Driver
from weaviate.classes.query import MetadataQuery
from weaviate.collections.classes.filters import _Filters as DriverFilter

from ragstack.adapters.base import Hit, Record
from ragstack.adapters.sparse_dot import dot_products
from ragstack.adapters.weaviate_filters import Compiled, all_of, marked
from ragstack.adapters.weaviate_records import (
    ALL,
    DENSE,
    PARTITIONS,
    PAYLOAD,
    SPARSE,
    TERMS,
    part_mark,
    payload_of,
    to_record,
)
from ragstack.adapters.weaviate_schema import StoredSpec
from ragstack.adapters.weaviate_sparse import decode_sparse, fitting_repeats, words_of_query
from ragstack.errors import CapabilityError, InputError
from ragstack.filters import And, Condition, Filter, Scalar
from ragstack.types import Float32Array, SparseVector

Part: TypeAlias = Any
"""The driver's handle of a collection, or of one tenant of it."""

NO_TENANT: Final = "none"
_READABLE_TENANT = re.compile("[A-Za-z0-9_-]{1,60}")
_IDS_PER_REQUEST = 500
_LEAST_CANDIDATES = 500


@dataclass(frozen=True)
class OpenCollection:
    """``handle`` is the driver's collection; ``scan_limit`` the records that its index scans when a filter leaves
    no more (None: always, 0: never, as its vectors are quantised); ``max_results`` the most hits of a request.
    """

    handle: Any
    stored: StoredSpec
    scan_limit: int | None
    max_results: int

    def parts(self, filter: Filter | None = None) -> list[Part]:
        """The collection, or its tenants, those left out that ``filter`` rules out."""
        field = self.stored.tenant_field
        if field is None:
            return [self.handle]
        names = sorted(self.handle.tenants.get())
        wanted = _tenants_of(filter, field)
        return [self.handle.with_tenant(name) for name in names if wanted is None or name in wanted]

    def nearest(self, part: Part, vector: Float32Array, top_k: int, filter: Compiled, breadth: int) -> list[Hit]:
        """The ``top_k`` by cosine and all that tie with the last, as far as the server returns them."""
        limit = min(max(top_k + 1, breadth), self.max_results)
        while True:
            found = part.query.near_vector(
                vector.tolist(),
                target_vector=DENSE,
                limit=limit,
                filters=_request_filter(filter),
                return_metadata=MetadataQuery(distance=True),
                return_properties=[PAYLOAD],
            ).objects
            full = len(found) == limit and limit < self.max_results
            if not full or found[-1].metadata.distance > found[top_k - 1].metadata.distance:
                break
            limit = min(limit * 4, self.max_results)
        return [
            # Rounding may take the cosine of equal directions a bit beyond 1.
            Hit(str(o.uuid), max(-1.0, min(1.0, 1.0 - o.metadata.distance)), payload_of(o.properties, str(o.uuid)))
            for o in found
        ]

    def scanned(self, part: Part, vector: Float32Array, top_k: int, filter: Compiled) -> list[Hit]:
        """Like :meth:`nearest`, but every matching vector is compared. CapabilityError for quantised vectors.

        A graph is not searched, but its vectors scanned, when a filter leaves few enough; so the records
        are taken in as many portions as that needs.
        """
        if self.scan_limit is None:
            return self.nearest(part, vector, top_k, filter, 0)
        if self.scan_limit == 0:
            raise CapabilityError(
                f"the collection {self.stored.name!r} cannot be searched exactly: its vectors are quantised.",
                hint="Search without exact, or rebuild it with store.index.quantizer: none.",
            )
        total = part.aggregate.over_all(filters=_request_filter(filter), total_count=True).total_count
        portions = 1
        while portions < PARTITIONS and total / portions > self.scan_limit * 0.5 and total >= self.scan_limit:
            portions *= 2
        if total / portions >= self.scan_limit:
            raise CapabilityError(
                f"the collection {self.stored.name!r} is too large to be searched exactly: {total} records.",
                hint="Search without exact, or raise flat_search_cutoff of store.index.",
            )
        if portions == 1:
            return self.nearest(part, vector, top_k, all_of([filter, marked(ALL)]), 0)
        size = PARTITIONS // portions
        hits: list[Hit] = []
        for start in range(0, PARTITIONS, size):
            portion = marked(*(part_mark(number) for number in range(start, start + size)))
            hits += self.nearest(part, vector, top_k, all_of([filter, portion]), 0)
        return hits

    def by_terms(self, part: Part, vector: SparseVector, top_k: int, filter: Compiled) -> list[Hit]:
        """Candidates by BM25 with their dot products, those above 0.

        Where there are more than were asked for, and the query's weights are not the idf of its terms, they are
        asked for again with words repeated as it takes.
        More are asked for while a candidate that was left out might, by the server's score, belong to the
        ``top_k``; a tie at the cut is such a case.
        """
        words = words_of_query(vector)
        if not words:
            return []
        limit = min(max(4 * top_k, _LEAST_CANDIDATES), self.max_results)
        fitted = False
        while True:
            found = part.query.bm25(
                words,
                query_properties=[TERMS],
                limit=limit,
                filters=_request_filter(filter),
                return_metadata=MetadataQuery(score=True),
                return_properties=[PAYLOAD, SPARSE],
            ).objects
            stored = [decode_sparse(o.properties[SPARSE]) for o in found]
            if len(found) == limit and not fitted:
                fitted = True
                repeats = fitting_repeats(vector, stored, [o.metadata.score for o in found])
                if repeats is not None:
                    words = words_of_query(vector, repeats)
                    continue
            scores = dot_products(vector, stored)
            ranked = sorted(
                (
                    (-float(score), str(o.uuid), o, entries)
                    for score, o, entries in zip(scores, found, stored, strict=True)
                    if score > 0
                ),
                key=lambda row: row[:2],
            )
            if len(found) < limit or limit == self.max_results:
                break
            told = [o.metadata.score for _, _, o, _ in ranked[:top_k]]
            if len(told) == top_k and found[-1].metadata.score < min(told):
                break
            limit = min(limit * 4, self.max_results)
        return [Hit(id_, -score, payload_of(o.properties, id_), entries) for score, id_, o, entries in ranked]

    def fetched(self, part: Part, ids: Sequence[str]) -> Iterator[Record]:
        """The records that exist among ``ids``."""
        for start in range(0, len(ids), _IDS_PER_REQUEST):
            some = list(ids[start : start + _IDS_PER_REQUEST])
            found = part.query.fetch_objects(
                filters=Driver.by_id().contains_any(some),
                limit=len(some),
                include_vector=True,
                return_properties=[PAYLOAD, SPARSE],
            ).objects
            yield from (to_record(o) for o in found)

    def count(self, part: Part, filter: Compiled) -> int:
        """How many records match."""
        if filter == "nothing":
            return 0
        return int(part.aggregate.over_all(filters=_request_filter(filter), total_count=True).total_count)

    def pages(self, part: Part, filter: Compiled, size: int) -> Iterator[list[Hit]]:
        """All that match, in id order, in lists of at most ``size``, some of which may be empty.

        The server walks its records by id, without a filter. So a filter that leaves more than one request
        returns is asked again for each stretch of ids.
        """
        if filter == "nothing":
            return
        size = min(size, _IDS_PER_REQUEST)
        if filter == "everything":
            for objects in self._walk(part, size, [PAYLOAD]):
                yield [_listed(o) for o in objects]
            return
        request = _request_filter(filter)
        first = part.query.fetch_objects(filters=request, limit=size + 1, return_properties=[PAYLOAD]).objects
        if len(first) <= size:
            yield sorted((_listed(o) for o in first), key=lambda hit: hit.id)
            return
        ids = part.query.fetch_objects(filters=request, limit=self.max_results, return_properties=[]).objects
        if len(ids) < self.max_results:
            everything = sorted(str(o.uuid) for o in ids)
            stretches: Iterator[list[str]] = (everything[i : i + size] for i in range(0, len(everything), size))
        else:
            stretches = ([str(o.uuid) for o in objects] for objects in self._walk(part, size, []))
        for stretch in stretches:
            wanted = all_of([filter, Driver.by_id().contains_any(stretch)])
            found = part.query.fetch_objects(
                filters=_request_filter(wanted), limit=len(stretch), return_properties=[PAYLOAD]
            ).objects
            yield sorted((_listed(o) for o in found), key=lambda hit: hit.id)

    def _walk(self, part: Part, size: int, properties: list[str]) -> Iterator[list[Any]]:
        last = None
        while True:
            objects = part.query.fetch_objects(limit=size, after=last, return_properties=properties).objects
            if not objects:
                return
            last = objects[-1].uuid
            yield objects
            if len(objects) < size:
                return

    def merged(self, parts: Sequence[Part], filter: Compiled, size: int) -> Iterator[list[Hit]]:
        """The :meth:`pages` of several parts, in id order over all."""
        if len(parts) == 1:
            yield from self.pages(parts[0], filter, size)
            return
        streams = ((hit for page in self.pages(part, filter, size) for hit in page) for part in parts)
        # A record that moves to another tenant meanwhile is in two of them for a moment.
        last = ""
        for hit in heapq.merge(*streams, key=lambda hit: hit.id):
            if hit.id != last:
                last = hit.id
                yield [hit]


def tenant_name(value: Scalar | None) -> str:
    """The tenant of the records whose tenant field has this value."""
    if value is None:
        return NO_TENANT
    text = str(value)
    if _READABLE_TENANT.fullmatch(text):
        return f"k-{text}"
    return "h-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:56]


def tenant_of_record(record: Record, field: str) -> str:
    """The tenant that a record belongs to; InputError when its tenant field is a list."""
    value = record.payload.get(field)
    if isinstance(value, (list, tuple)):
        raise InputError(
            f"record {record.id}: the field {field!r} is a list; it names the record's tenant.",
            hint="Give it one value, or use a store without tenant_field.",
        )
    return tenant_name(value)


def _tenants_of(filter: Filter | None, field: str) -> set[str] | None:
    """The tenants outside which nothing can match; None for any."""
    if isinstance(filter, And):
        found = [names for part in filter.parts if (names := _tenants_of(part, field)) is not None]
        return set.intersection(*found) if found else None
    if isinstance(filter, Condition) and filter.field == field and filter.op in ("eq", "in"):
        values = filter.value if isinstance(filter.value, tuple) else (filter.value,)
        return {tenant_name(value) for value in values}
    return None


def _request_filter(filter: Compiled) -> DriverFilter | None:
    return None if isinstance(filter, str) else filter


def _listed(found: Any) -> Hit:
    return Hit(str(found.uuid), 0.0, payload_of(found.properties, str(found.uuid)))
