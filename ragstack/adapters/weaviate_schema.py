"""Collections as Weaviate classes: their names, what is stored with them, how they are made. No requests.

**Names.** A class is the prefix and the collection's name, ``Ragstack__main``. The server takes
``[A-Za-z0-9_]``, begins classes with a capital, and keeps folders in lower case, so names that differ in
case alone would be one: a capital is written ``_`` and its small letter, ``_``, ``.`` and ``-`` are ``_0``,
``_1`` and ``_2``; ``__`` ends the prefix.

**What is stored.** The class's description holds format, dimension, metric and tenant field as JSON; the
description of each index property holds the field that it serves, and whether the records written before it
are indexed yet. So any process can check a collection, and a step that was cut off is seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weaviate.classes import config as wv

from ragstack.adapters.base import CollectionSpec
from ragstack.adapters.checks import is_name
from ragstack.adapters.weaviate_filters import MARKS
from ragstack.adapters.weaviate_records import DENSE, PAYLOAD, SPARSE, TERMS
from ragstack.adapters.weaviate_sparse import BM25_B, BM25_K1
from ragstack.config.stores.weaviate import WeaviateFlat, WeaviateHnsw, WeaviateQuantizer, WeaviateStoreConfig
from ragstack.errors import CollectionError, InputError
from ragstack.filters import FIELD_TYPES, FieldType

FORMAT = 1
_MAX_CLASS_NAME = 240
_TO_CLASS = {"_": "_0", ".": "_1", "-": "_2"}
_FROM_CLASS = {code[1]: char for char, code in _TO_CLASS.items()}


@dataclass(frozen=True)
class FieldIndex:
    """The index property ``key`` of a declared field; not ``ready`` while older records are being indexed."""

    key: str
    type: FieldType
    ready: bool


@dataclass(frozen=True)
class StoredSpec:
    """What a collection is, as stored with it."""

    name: str
    dim: int
    tenant_field: str | None
    fields: Mapping[str, FieldIndex]

    def spec(self) -> CollectionSpec:
        """In the words of the contract: the fields that filters may name."""
        return CollectionSpec(self.name, self.dim, {name: f.type for name, f in self.fields.items() if f.ready})

    def keys(self, *, ready: bool) -> dict[str, tuple[str, FieldType]]:
        """Index property and type by field; ``ready``: only what filters may use, else all that writes fill."""
        return {name: (f.key, f.type) for name, f in self.fields.items() if f.ready or not ready}


def class_name(prefix: str, collection: str) -> str:
    """The class of a collection; InputError where the server has no room for the name."""
    name = f"{_class_prefix(prefix)}{''.join(_encoded(char) for char in collection)}"
    if len(name) > _MAX_CLASS_NAME:
        raise InputError(
            f"the name {collection!r} below the prefix {prefix!r} is too long for Weaviate.",
            hint="Use fewer capitals and signs, or a shorter store.prefix.",
        )
    return name


def collection_name(prefix: str, class_: str) -> str | None:
    """The collection that a class holds; None for a class that is not below the prefix."""
    start = _class_prefix(prefix)
    if not class_.startswith(start):
        return None
    chars = iter(class_[len(start) :])
    name = ""
    for char in chars:
        if char == "_":
            code = next(chars, "")
            name += _FROM_CLASS.get(code) or code.upper()
        else:
            name += char
    return name if is_name(name) and class_name(prefix, name) == class_ else None


def _class_prefix(prefix: str) -> str:
    first = prefix[0].upper() + ("_3" if prefix[0].isupper() else "")
    return f"{first}{''.join(_encoded(char) for char in prefix[1:])}__"


def _encoded(char: str) -> str:
    return _TO_CLASS.get(char) or (f"_{char.lower()}" if char.isupper() else char)


def describe(dim: int, tenant_field: str | None) -> str:
    """The description of a class."""
    stored = {"ragstack": FORMAT, "dim": dim, "metric": "cosine", "tenant_field": tenant_field}
    return json.dumps(stored)


def describe_field(name: str, type_: FieldType, *, ready: bool) -> str:
    """The description of an index property."""
    return json.dumps({"field": name, "type": type_, "ready": ready})


def read_spec(name: str, description: str | None, properties: Mapping[str, str | None]) -> StoredSpec:
    """What the descriptions of a class and of its properties (by name) say; CollectionError when they are not ours."""
    try:
        stored = json.loads(description or "")
        version, dim, tenant_field = stored["ragstack"], int(stored["dim"]), stored["tenant_field"]
        fields = {}
        for key, text in properties.items():
            if key in (PAYLOAD, SPARSE, TERMS, MARKS):
                continue
            field = json.loads(text or "")
            if field["type"] not in FIELD_TYPES:
                raise ValueError(f"unknown type {field['type']!r}")
            fields[field["field"]] = FieldIndex(key, field["type"], bool(field["ready"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CollectionError(
            f"the collection {name!r} does not say what it holds: {error!r}.",
            hint="Its class was changed or not made by ragstack: drop it, or use another store.prefix.",
        ) from error
    if version != FORMAT or stored.get("metric") != "cosine":
        raise CollectionError(
            f"the collection {name!r} has format {version} and metric {stored.get('metric')!r}; "
            f"this ragstack reads format {FORMAT} with cosine.",
            hint="Rebuild it from the sources: ragstack index --rebuild",
        )
    return StoredSpec(name, dim, tenant_field, fields)


def open_spec(name: str, config: Any) -> StoredSpec:
    """What the driver's config of a class says in our words; CollectionError when the class is not ours."""
    return read_spec(name, config.description, {field.name: field.description for field in config.properties})


def scan_limit(config: Any) -> int | None:
    """Records that the class's index scans when a filter leaves fewer; None: always all, 0: none, as it quantises."""
    index = config.vector_config[DENSE].vector_index_config
    if any(getattr(part, "quantizer", None) is not None for part in (index, getattr(index, "hnsw", None))):
        return 0
    graph = getattr(index, "hnsw", index)
    cutoff = getattr(graph, "flat_search_cutoff", None)
    return None if cutoff is None else int(cutoff)


def creation(block: WeaviateStoreConfig, spec: CollectionSpec) -> dict[str, Any]:
    """What the driver's ``collections.create`` takes for a new collection, its name left out."""
    properties = [
        _kept_text(PAYLOAD),
        _kept_text(SPARSE),
        wv.Property(
            name=TERMS,
            data_type=wv.DataType.TEXT,
            tokenization=wv.Tokenization.WHITESPACE,
            index_filterable=False,
            index_searchable=True,
        ),
        _filterable(MARKS, None),
        *(
            field_property(f"f{number}", name, type_, ready=True)
            for number, (name, type_) in enumerate(spec.fields.items())
        ),
    ]
    return {
        "description": describe(spec.dim, block.tenant_field),
        "properties": properties,
        "vector_config": wv.Configure.Vectors.self_provided(name=DENSE, vector_index_config=vector_index(block)),
        "inverted_index_config": wv.Configure.inverted_index(
            bm25_b=BM25_B, bm25_k1=BM25_K1, stopwords_preset=wv.StopwordsPreset.NONE
        ),
        "replication_config": (
            wv.Configure.replication(factor=block.replication_factor) if block.replication_factor else None
        ),
        "multi_tenancy_config": wv.Configure.multi_tenancy(enabled=True) if block.tenant_field else None,
    }


def field_property(key: str, name: str, type_: FieldType, *, ready: bool) -> wv.Property:
    """The index property of a field."""
    return _filterable(key, describe_field(name, type_, ready=ready))


def _filterable(key: str, description: str | None) -> wv.Property:
    return wv.Property(
        name=key,
        description=description,
        data_type=wv.DataType.TEXT_ARRAY,
        tokenization=wv.Tokenization.FIELD,
        index_filterable=True,
        index_searchable=False,
    )


def _kept_text(key: str) -> wv.Property:
    return wv.Property(name=key, data_type=wv.DataType.TEXT, index_filterable=False, index_searchable=False)


def vector_index(block: WeaviateStoreConfig) -> Any:
    """The driver's form of ``block.index``."""
    index = block.index
    if isinstance(index, WeaviateFlat):
        return wv.Configure.VectorIndex.flat(
            distance_metric=wv.VectorDistances.COSINE, quantizer=_quantizer(index.quantizer)
        )
    if isinstance(index, WeaviateHnsw):
        return _hnsw(index)
    return wv.Configure.VectorIndex.dynamic(
        distance_metric=wv.VectorDistances.COSINE,
        threshold=index.threshold,
        hnsw=_hnsw(index.hnsw),
        flat=wv.Configure.VectorIndex.flat(distance_metric=wv.VectorDistances.COSINE),
    )


def _hnsw(index: WeaviateHnsw) -> Any:
    return wv.Configure.VectorIndex.hnsw(
        distance_metric=wv.VectorDistances.COSINE,
        ef=index.ef if index.ef is not None else -1,
        ef_construction=index.ef_construction,
        max_connections=index.max_connections,
        flat_search_cutoff=index.flat_search_cutoff,
        quantizer=_quantizer(index.quantizer),
    )


def _quantizer(block: WeaviateQuantizer) -> Any:
    quantizer = wv.Configure.VectorIndex.Quantizer
    if block.type == "pq":
        return quantizer.pq(segments=block.segments, centroids=block.centroids, training_limit=block.training_limit)
    if block.type == "bq":
        return quantizer.bq(rescore_limit=block.rescore_limit)
    if block.type == "sq":
        return quantizer.sq(rescore_limit=block.rescore_limit, training_limit=block.training_limit)
    if block.type == "rq":
        return quantizer.rq(bits=block.bits, rescore_limit=block.rescore_limit)
    # The server's default may be a quantizer; what the config calls "none" has to be said.
    return quantizer.none()
