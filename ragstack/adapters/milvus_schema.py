"""Collections of Milvus: names, columns, indexes, and the specification kept with each. No requests.

A collection ``name`` of ours is ``<prefix>_<escaped name>`` in Milvus, which takes letters, digits and
underscores: ``_`` becomes ``__``, ``.`` becomes ``_d`` and ``-`` becomes ``_h``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pymilvus import CollectionSchema, DataType, MilvusClient

from ragstack.adapters.base import CollectionSpec, SearchParams
from ragstack.adapters.milvus_filters import field_keys
from ragstack.adapters.milvus_records import MAX_TERMS, PART_BYTES, Layout
from ragstack.config.stores.milvus import (
    DiskAnnIndexConfig,
    FlatIndexConfig,
    GpuCagraIndexConfig,
    HnswIndexConfig,
    IvfFlatIndexConfig,
    IvfSq8IndexConfig,
    MilvusIndexConfig,
    MilvusStoreConfig,
)
from ragstack.errors import CapabilityError, CollectionError, InputError
from ragstack.filters import FieldType

FORMAT = 1
SPEC_PROPERTY = "ragstack.spec"
MAX_DIM = 32_768
MAX_HITS = 16_384
DENSE, SPARSE = "dense", "sparse"
_ESCAPES = {"_": "__", ".": "_d", "-": "_h"}
_UNESCAPES = {escaped: char for char, escaped in _ESCAPES.items()}


def stored_name(prefix: str, name: str) -> str:
    """Milvus's name of our collection: at most 241 characters, of the 255 that it takes."""
    return f"{prefix}_{''.join(_ESCAPES.get(char, char) for char in name)}"


def own_name(prefix: str, stored: str) -> str | None:
    """The inverse of :func:`stored_name`; None for a collection that is not below ``prefix``."""
    rest = stored.removeprefix(f"{prefix}_")
    if rest == stored:
        return None
    name = re.sub("_[_dh]", lambda found: _UNESCAPES[found[0]], rest)
    return name if stored_name(prefix, name) == stored else None


@dataclass(frozen=True, slots=True)
class StoredSpec:
    """What is kept with a collection, so that every process agrees on it.

    ``adding``: fields that are being added; writers fill them already, filters may not name them yet.
    """

    spec: CollectionSpec
    sparse: bool
    tenant_field: str | None
    index_type: str
    adding: Mapping[str, FieldType] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        """How rows are written."""
        keys = field_keys({**self.spec.fields, **self.adding}, self.tenant_field)
        return Layout(self.spec.dim, keys, self.sparse, self.tenant_field is not None)

    def to_json(self) -> str:
        """The text of :data:`SPEC_PROPERTY`."""
        value = {
            "format": FORMAT,
            "dim": self.spec.dim,
            "metric": "cosine",
            "fields": dict(self.spec.fields),
            "adding": dict(self.adding),
            "sparse": self.sparse,
            "tenant_field": self.tenant_field,
            "index_type": self.index_type,
        }
        return json.dumps(value, sort_keys=True)

    @classmethod
    def from_json(cls, name: str, text: str | None) -> StoredSpec:
        """The inverse of :meth:`to_json`; CollectionError for what this version did not write."""
        try:
            value = json.loads(text or "")
            if value["format"] != FORMAT or value["metric"] != "cosine":
                raise ValueError(f"format {value['format']}, metric {value['metric']}")
            return cls(
                CollectionSpec(name, int(value["dim"]), dict(value["fields"])),
                bool(value["sparse"]),
                value["tenant_field"],
                str(value["index_type"]),
                dict(value["adding"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise CollectionError(
                f"the collection {name!r} was not written by this version of ragstack: its property "
                f"{SPEC_PROPERTY!r} is {text!r} ({error}).",
                hint="Use another store.prefix, or rebuild: ragstack index --rebuild",
            ) from error


def new_spec(spec: CollectionSpec, block: MilvusStoreConfig, *, sparse: bool) -> StoredSpec:
    """What a new collection gets. CapabilityError or InputError for what Milvus or the settings refuse."""
    if spec.dim > MAX_DIM:
        raise CapabilityError(f"Milvus holds vectors of at most {MAX_DIM} dimensions; got {spec.dim}.")
    tenant = block.tenant_field
    if tenant is not None and spec.fields.get(tenant) != "keyword":
        raise InputError(
            f"store.tenant_field is {tenant!r}, which the collection {spec.name!r} does not declare as a keyword.",
            hint="Declare it under `fields` with type keyword.",
        )
    return StoredSpec(spec, sparse, tenant, block.index.type)


def check_settings(have: StoredSpec, block: MilvusStoreConfig) -> None:
    """CollectionError when the collection was made with another index or tenant than the settings ask for."""
    if have.tenant_field != block.tenant_field:
        raise CollectionError(
            f"the collection {have.spec.name!r} was made with tenant_field {have.tenant_field!r}, "
            f"not {block.tenant_field!r}.",
            hint="Change store.tenant_field back, or rebuild: ragstack index --rebuild",
        )
    if have.index_type != block.index.type:
        raise CollectionError(
            f"the collection {have.spec.name!r} has the index {have.index_type}, not {block.index.type}.",
            hint=f"Set store.index.type to {have.index_type}, or rebuild: ragstack index --rebuild",
        )


def grown(have: StoredSpec, fields: Mapping[str, FieldType]) -> StoredSpec:
    """``have`` with the fields declared, none being added."""
    spec = replace(have.spec, fields={**have.spec.fields, **fields})
    return replace(have, spec=spec, adding={})


def schema_of(stored: StoredSpec) -> CollectionSchema:
    """The columns of a collection; see ``milvus_records``."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=36)
    schema.add_field(DENSE, DataType.FLOAT_VECTOR, dim=stored.spec.dim)
    for name, length in (("payload", PART_BYTES), ("weights", PART_BYTES), ("terms", 64)):
        schema.add_field(name, DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=MAX_TERMS, max_length=length)
    schema.add_field("bounds", DataType.JSON)
    if stored.tenant_field is not None:
        schema.add_field("tenant", DataType.VARCHAR, max_length=64, is_partition_key=True)
    if stored.sparse:
        schema.add_field(SPARSE, DataType.SPARSE_FLOAT_VECTOR)
    return schema


def index_params(index: MilvusIndexConfig, *, sparse: bool) -> list[dict[str, Any]]:
    """The indexes of a collection: arguments of ``IndexParams.add_index``."""
    params: dict[str, Any] = {}
    if isinstance(index, HnswIndexConfig):
        params = {"M": index.m, "efConstruction": index.ef_construction}
    elif isinstance(index, (IvfFlatIndexConfig, IvfSq8IndexConfig)):
        params = {"nlist": index.nlist}
    elif isinstance(index, GpuCagraIndexConfig):
        params = {
            "intermediate_graph_degree": index.intermediate_graph_degree,
            "graph_degree": index.graph_degree,
            "build_algo": index.build_algo,
            "cache_dataset_on_device": str(index.cache_dataset_on_device).lower(),
        }
    # Vectors have length 1, so the inner product is the cosine; a vector of zeros has a score too.
    indexes = [{"field_name": DENSE, "index_type": index.type, "metric_type": "IP", "params": params}]
    if sparse:
        indexes.append({"field_name": SPARSE, "index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP", "params": {}})
    return indexes


def search_params(index: MilvusIndexConfig, limit: int, params: SearchParams) -> dict[str, Any]:
    """The search parameters of a dense query for ``limit`` hits.

    CapabilityError when ``params.ef_search`` is given and the index has no such breadth.
    """
    if params.ef_search is not None and not isinstance(index, (HnswIndexConfig, FlatIndexConfig)):
        raise CapabilityError(
            f"ef_search is the breadth of an HNSW search; this collection has the index {index.type}.",
            hint="Set the parameters of the search under store.index.",
        )
    found: dict[str, Any] = {}
    if isinstance(index, HnswIndexConfig):
        found = {"ef": max(params.ef_search or index.ef_search, limit)}
    elif isinstance(index, (IvfFlatIndexConfig, IvfSq8IndexConfig)):
        found = {"nprobe": index.nprobe}
    elif isinstance(index, DiskAnnIndexConfig):
        found = {"search_list": max(index.search_list, limit)}
    elif isinstance(index, GpuCagraIndexConfig):
        found = {
            "itopk_size": max(index.itopk_size, -(-limit // 32) * 32),
            "search_width": index.search_width,
            "team_size": index.team_size,
            "min_iterations": index.min_iterations,
            "max_iterations": index.max_iterations,
        }
    return {"metric_type": "IP", "params": found}


def max_hits(index: MilvusIndexConfig) -> int:
    """The most hits that one search may ask the engine for."""
    return 1024 if isinstance(index, GpuCagraIndexConfig) else MAX_HITS


def version_tuple(text: str) -> tuple[int, int]:
    """Major and minor of what a server calls its version; (0, 0) where it names none."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
