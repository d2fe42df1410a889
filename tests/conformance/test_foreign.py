"""Haystack's own tests of document stores pass over ours through a thin wrapper.

Where the two differ, the wrapper says so: Haystack writes dates without an offset, compares with None, and refuses
to write an id twice; here a date has an offset, None is a missing field, and writing again replaces.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np
import pytest

from ragstack.adapters.base import CollectionSpec, FieldType, Record, VectorStore, empty_sparse
from ragstack.adapters.milvus import MilvusStore
from ragstack.adapters.qdrant_edge import QdrantEdgeStore
from ragstack.config.stores.milvus import MilvusStoreConfig
from ragstack.errors import FilterError
from ragstack.filters import parse_filter

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from haystack.dataclasses import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError as HaystackFilterError
from haystack.testing.document_store import (
    CountDocumentsTest,
    DeleteDocumentsTest,
    FilterDocumentsTest,
    WriteDocumentsTest,
)

DIM = 768
FIELDS: dict[str, FieldType] = {
    "name": "keyword",
    "page": "keyword",
    "chapter": "keyword",
    "number": "integer",
    "date": "datetime",
    "no_embedding": "bool",
}
OPERATORS = {"==": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte", "in": "in", "not in": "nin"}


class Wrapped:
    """A store of ours as Haystack's ``DocumentStore``."""

    def __init__(self, store: VectorStore) -> None:
        self.store = store
        store.ensure_collection(CollectionSpec("main", DIM, FIELDS))

    def count_documents(self) -> int:
        return self.store.count("main")

    def write_documents(self, documents: Any, policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
            raise ValueError("expected a list of documents")
        known = self.store.fetch("main", [id_of(each.id) for each in documents])
        if known and policy in (DuplicatePolicy.NONE, DuplicatePolicy.FAIL):
            raise DuplicateDocumentError(f"{len(known)} documents are there")
        new = [each for each in documents if policy != DuplicatePolicy.SKIP or id_of(each.id) not in known]
        self.store.upsert("main", [record_of(each, number) for number, each in enumerate(new)])
        return len(new)

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        try:
            wanted = parse_filter(translated(filters)) if filters else None
            hits = list(self.store.iterate("main", wanted))
        except FilterError as error:
            raise HaystackFilterError(str(error)) from error
        hits.sort(key=lambda hit: hit.payload["position"])  # Haystack compares lists in the order of writing
        return [Document.from_dict(hit.payload["document"]) for hit in hits]

    def delete_documents(self, document_ids: list[str]) -> None:
        self.store.delete("main", ids=[id_of(each) for each in document_ids])


def id_of(document_id: str) -> str:
    return str(uuid5(NAMESPACE_OID, document_id))


def record_of(document: Document, position: int) -> Record:
    values = dict(document.meta)
    if "date" in values:
        values["date"] = f"{values['date']}Z"
    dense = np.zeros(DIM) if document.embedding is None else np.array(document.embedding)
    payload = {**values, "document": document.to_dict(flatten=False), "position": position}
    return Record(id_of(document.id), dense.astype(np.float32), empty_sparse(), payload)


def translated(filters: dict[str, Any]) -> dict[str, Any]:
    """A filter of Haystack's in our grammar; FilterError for one that lacks a part."""
    if "field" not in filters:
        parts = filters.get("conditions")
        if filters.get("operator") not in ("AND", "OR", "NOT") or parts is None:
            raise HaystackFilterError(f"not a filter: {filters}")
        conditions = [translated(part) for part in parts]
        if filters["operator"] == "NOT":
            return {"not": {"and": conditions}}
        return {filters["operator"].lower(): conditions}
    if "operator" not in filters or "value" not in filters:
        raise HaystackFilterError(f"not a condition: {filters}")
    field, operator, value = filters["field"].removeprefix("meta."), filters["operator"], filters["value"]
    if value is None:
        # To Haystack nothing is larger or smaller than None.
        return {"field": field, "op": "exists", "value": operator == "!="} if operator in ("==", "!=") else {"or": []}
    if operator in ("in", "not in") and not isinstance(value, list):
        raise HaystackFilterError(f"{operator} takes a list: {filters}")
    return {"field": field, "op": OPERATORS[operator], "value": f"{value}Z" if field == "date" else value}


@pytest.fixture(params=["qdrant_edge", "milvus-lite"])
def document_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Wrapped]:
    store: QdrantEdgeStore | MilvusStore
    if request.param == "qdrant_edge":
        store = QdrantEdgeStore(tmp_path / "store")
    else:
        store = MilvusStore(MilvusStoreConfig(uri=str(tmp_path / "store.db")))
    yield Wrapped(store)
    store.close()


class TestHaystack(CountDocumentsTest, DeleteDocumentsTest, FilterDocumentsTest, WriteDocumentsTest):
    def test_write_documents(self, document_store: Any) -> None:
        """Haystack leaves it to each store what its default policy is; here it is to refuse."""
        document = Document(content="text")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])
