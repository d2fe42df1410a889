"""The seam to vector stores. The docstrings are the specification; ``ragstack.testing`` checks each clause.

Ids are UUID strings in the canonical lower-case form. Scores have one direction: larger is better.
A dense score is the cosine of the two vectors (in [-1, 1]); a sparse score is their dot product.
Ties are ordered by id, ascending, and cut in that order at ``top_k``. Reads see every write that
returned before them. Exact and sparse results depend on what is stored, never on the order in which
it was written.

A collection's name is 1 to 100 characters of ``a-z A-Z 0-9 . _ -`` and starts with a letter or digit.
A payload is a JSON object; it comes back equal (tuples as lists). A payload value of a declared field
is of the declared type, a list of such values, or None, which counts as missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from ragstack.filters import FieldType, Filter
from ragstack.types import Float32Array, SparseVector

__all__ = [
    "Capabilities",
    "CollectionSpec",
    "FieldType",
    "Hit",
    "HybridHits",
    "Payload",
    "Record",
    "SearchParams",
    "StoreHealth",
    "VectorStore",
    "empty_sparse",
]

Payload: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """One stored chunk: id, vectors and payload. ``dense`` ``(dim,) float32``."""

    id: str
    dense: Float32Array
    sparse: SparseVector
    payload: Payload


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result. ``score``: cosine for dense, dot product for sparse; larger is better.

    ``sparse`` is the record's stored sparse vector where a sparse search read it, as most do, and None otherwise.
    """

    id: str
    score: float
    payload: Payload = field(default_factory=dict)
    sparse: SparseVector | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """What a collection must be: created so, and checked against an existing one.

    ``fields`` are the payload fields that filters may name, with their types; stores index them.
    """

    name: str
    dim: int
    fields: Mapping[str, FieldType] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchParams:
    """``exact`` scans every vector; ``ef_search`` is the breadth of the HNSW search (None: the store's own)."""

    exact: bool = False
    ef_search: int | None = None


@dataclass(frozen=True, slots=True)
class HybridHits:
    """What each leg of a hybrid search found, best first; they are fused by the caller."""

    dense: list[Hit]
    sparse: list[Hit]


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """What answers behind a store. ``version`` is the engine's; ``address`` a folder or a URI without secrets."""

    engine: str
    version: str
    address: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can do; drives behaviour and which conformance tests run.

    ``sparse``: it searches sparse vectors; one that does not still keeps them and gives them back.
    ``exact_search``: it can scan every vector. ``multi_process``: several processes may use it at a time.
    """

    sparse: bool
    persistent: bool
    multi_process: bool
    exact_search: bool
    max_top_k: int


class VectorStore(Protocol):
    """One store that holds named collections of records.

    Raises, from every method: StoreUnavailableError when the store cannot be reached, is held by
    another process (the message names it) or was closed; CollectionError for a missing or damaged
    collection and for a vector of another dimension; FilterError for a filter that names an undeclared
    field or compares it with a value of another type; InputError for a malformed id, name, vector
    (NaN, infinite, a query of length 0), payload or ``top_k``; CapabilityError for what the store
    cannot do, such as a ``top_k`` above ``capabilities.max_top_k``; PartialWriteError when a store took some
    records of a call and refused others, by id. No driver exception leaks. Methods may be called from
    several threads.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    def ensure_collection(self, spec: CollectionSpec) -> None:
        """Create the collection, or check that the existing one has the same dimension, metric and field types.

        Idempotent; fields that are new are added and hold for the records already there; fields that
        ``spec`` leaves out stay. Raises CollectionError on a mismatch.
        """

    def collections(self) -> list[str]:
        """Names of the existing collections, sorted."""

    def drop(self, collection: str) -> None:
        """Delete the collection and all it holds; no error when it does not exist."""

    def upsert(self, collection: str, records: Sequence[Record]) -> None:
        """Insert, or replace whole, by id. Of records with one id in the same call the last wins.

        A call with an invalid record writes nothing.
        """

    def delete(self, collection: str, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> None:
        """Delete by ids, or by filter: exactly one of the two, or InputError.

        Unknown ids are no error; an empty ``ids`` deletes nothing.
        """

    def search_dense(
        self,
        collection: str,
        vector: Float32Array,
        top_k: int,
        *,
        filter: Filter | None = None,
        params: SearchParams = SearchParams(),
    ) -> list[Hit]:
        """The ``top_k`` records nearest by cosine, best first, with payloads; fewer where fewer match; 0 gives none."""

    def search_sparse(
        self, collection: str, vector: SparseVector, top_k: int, *, filter: Filter | None = None
    ) -> list[Hit]:
        """The ``top_k`` records with the largest positive dot product, best first, with payloads.

        A store that reads the stored sparse vectors for it gives them back in ``Hit.sparse``. Records without a
        term of the query are never returned; a query without entries finds nothing.
        """

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
        """What ``search_dense`` and ``search_sparse`` give, each up to ``top_k``; in one request where that can be."""

    def fetch(self, collection: str, ids: Sequence[str]) -> dict[str, Record]:
        """The records that exist among ``ids``, with vectors as they are stored (dense: length 1)."""

    def count(self, collection: str, filter: Filter | None = None) -> int:
        """Exact number of records that match."""

    def iterate(self, collection: str, filter: Filter | None = None, *, batch_size: int = 1000) -> Iterator[Hit]:
        """Every matching record once, in id order, with payload and score 0; bounded memory.

        Arguments are checked at the call. A record that is there throughout is seen once, whatever is
        written meanwhile; one written or deleted meanwhile may or may not be seen.
        """

    def flush(self, collection: str) -> None:
        """Return once every write so far survives the death of this process and of the machine."""

    def optimize(self, collection: str) -> None:
        """Build or compact indexes for searching; may take long. Results stay the same up to ANN error."""

    def health(self) -> StoreHealth:
        """Ask the store who it is. Raises StoreUnavailableError when it does not answer."""

    def close(self) -> None:
        """Release files, locks and connections. Idempotent."""


def empty_sparse() -> SparseVector:
    """A sparse vector with no entries (a text without words)."""
    return SparseVector(np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.float32))
