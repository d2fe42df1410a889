"""What a collection on a Qdrant server is: how it is created, and how its description is read. Pure.

Servers from 1.16 on keep metadata with a collection: the format number, and one entry for each field. Older
ones do not, and there the payload indexes tell the same: a field is declared once the index of its key is
there, and the index ``ragstack_format_1``, created last, says that the collection is whole.
"""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from ragstack.adapters.base import CollectionSpec
from ragstack.adapters.qdrant_server_keys import (
    FORMAT,
    FORMAT_KEY,
    described,
    field_keys,
    fields_of_indexes,
    fields_of_metadata,
    format_key_of,
    has_readable_key,
)
from ragstack.adapters.qdrant_server_records import DENSE, SPARSE
from ragstack.adapters.qdrant_values import LISTS_KEY
from ragstack.config.stores.qdrant import QdrantStoreConfig
from ragstack.errors import CapabilityError, CollectionError, InputError

FORMAT_ENTRY = "ragstack_format"
_SCANNED_BELOW_KB, _LEAST_SCANNED_KB = 10_000, 10  # what servers do by default, and the least that all of them accept


def physical_name(prefix: str, collection: str) -> str:
    """The server's name of a collection."""
    return f"{prefix}.{collection}"


def logical_name(prefix: str, physical: str) -> str | None:
    """The inverse of :func:`physical_name`; None for a collection that is not below the prefix."""
    start = f"{prefix}."
    return physical[len(start) :] if physical.startswith(start) else None


def creation(block: QdrantStoreConfig, spec: CollectionSpec) -> dict[str, Any]:
    """The arguments of ``create_collection`` without the name."""
    copies = block.replication_factor or 1
    confirmed = block.write_consistency_factor or (copies // 2 + 1 if copies > 1 else None)
    return {
        "vectors_config": {
            DENSE: models.VectorParams(
                size=spec.dim, distance=models.Distance.COSINE, on_disk=block.vectors_on_disk or None
            )
        },
        "sparse_vectors_config": {
            SPARSE: models.SparseVectorParams(index=models.SparseIndexParams(on_disk=block.sparse_on_disk))
        },
        "hnsw_config": models.HnswConfigDiff(
            m=block.hnsw_m,
            ef_construct=block.ef_construct,
            full_scan_threshold=_graph_searched_from_kb(block),
            payload_m=block.hnsw_payload_m,
            on_disk=block.hnsw_on_disk or None,
        ),
        "optimizers_config": (
            models.OptimizersConfigDiff(indexing_threshold=block.indexing_threshold_kb)
            if block.indexing_threshold_kb
            else None
        ),
        "quantization_config": _quantization(block),
        "on_disk_payload": block.payload_on_disk,
        "shard_number": block.shard_number,
        "replication_factor": block.replication_factor,
        "write_consistency_factor": confirmed,
        "metadata": {FORMAT_ENTRY: FORMAT, **described(spec.fields)},
    }


def _graph_searched_from_kb(block: QdrantStoreConfig) -> int | None:
    """A server scans segments below its ``full_scan_threshold`` although they have a graph; None: its own, 10 MB."""
    if block.indexing_threshold_kb is None or block.indexing_threshold_kb >= _SCANNED_BELOW_KB:
        return None
    return max(_LEAST_SCANNED_KB, block.indexing_threshold_kb)


def _quantization(block: QdrantStoreConfig) -> models.QuantizationConfig | None:
    in_ram = block.quantized_in_ram
    if block.quantization == "scalar":
        scalar = models.ScalarQuantizationConfig(
            type=models.ScalarType.INT8, quantile=block.quantile, always_ram=in_ram
        )
        return models.ScalarQuantization(scalar=scalar)
    if block.quantization == "binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=in_ram))
    if block.quantization == "product":
        ratio = models.CompressionRatio(block.compression or "x16")
        return models.ProductQuantization(
            product=models.ProductQuantizationConfig(compression=ratio, always_ram=in_ram)
        )
    return None


def search_params(block: QdrantStoreConfig, exact: bool, ef_search: int | None) -> models.SearchParams:
    """How one dense search is done."""
    exact = exact or block.exact
    quantization = None
    if block.quantization != "none":
        quantization = (
            models.QuantizationSearchParams(ignore=True)
            if exact
            else models.QuantizationSearchParams(rescore=block.rescore, oversampling=block.oversampling)
        )
    return models.SearchParams(hnsw_ef=ef_search or block.ef_search, exact=exact, quantization=quantization)


def check_tenant(block: QdrantStoreConfig, spec: CollectionSpec) -> None:
    """InputError unless the tenant field of the block is declared, as a keyword."""
    name = block.tenant_field
    if name is not None and spec.fields.get(name) != "keyword":
        raise InputError(
            f"store.tenant_field is {name!r}, which is {spec.fields.get(name, 'not declared')}.",
            hint=f"Declare it under fields: {{{name}: {{type: keyword}}}}",
        )


def wanted_indexes(block: QdrantStoreConfig, spec: CollectionSpec) -> dict[str, Any]:
    """The payload indexes of a collection: schema by key, those of a field next to each other."""
    indexes: dict[str, Any] = {LISTS_KEY: models.PayloadSchemaType.KEYWORD}
    for name, type_ in spec.fields.items():
        for key, kind in field_keys(name, type_).indexes().items():
            indexes[key] = models.PayloadSchemaType(kind)
            if name == block.tenant_field:
                indexes[key] = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
    # The main key of a number comes last: on servers without metadata it is what declares the field.
    return dict(sorted(indexes.items(), key=lambda row: row[0].startswith("f_")))


def has_metadata(info: models.CollectionInfo) -> bool:
    """Whether the collection's metadata describe it."""
    return bool(info.config.metadata) and FORMAT_ENTRY in (info.config.metadata or {})


def read_spec(name: str, info: models.CollectionInfo) -> CollectionSpec | None:
    """What an existing collection is; None for one that was not created to the end.

    Raises CollectionError for one that ragstack did not create, and for one of another format.
    """
    vectors: Any = info.config.params.vectors
    dense = vectors.get(DENSE) if isinstance(vectors, dict) else None
    if dense is None or SPARSE not in (info.config.params.sparse_vectors or {}):
        raise CollectionError(
            f"the collection {name!r} was not created by ragstack: it lacks the vectors {DENSE!r} and {SPARSE!r}.",
            hint="Choose another store.prefix.",
        )
    if dense.distance != models.Distance.COSINE:
        raise CollectionError(f"the collection {name!r} has the metric {dense.distance}, not Cosine.")
    if has_metadata(info):
        metadata = info.config.metadata or {}
        _check_format(name, metadata[FORMAT_ENTRY], FORMAT)
        return CollectionSpec(name, dense.size, fields_of_metadata(metadata))
    mark = format_key_of(info.payload_schema)
    if mark is None:
        return None
    _check_format(name, mark, FORMAT_KEY)
    return CollectionSpec(name, dense.size, fields_of_indexes(info.payload_schema))


def _check_format(name: str, found: object, expected: object) -> None:
    if found != expected:
        raise CollectionError(
            f"the collection {name!r} has format {found}; this version reads format {expected}.",
            hint="Rebuild it from the sources: ragstack index --rebuild",
        )


def check_names(spec: CollectionSpec) -> None:
    """CapabilityError for field names that a server without metadata cannot keep."""
    for name in spec.fields:
        if not has_readable_key(name):
            raise CapabilityError(
                f"the field name {name[:40]!r}... is too long for this Qdrant server.",
                hint="Use at most 60 bytes, or a server of version 1.16 or later.",
            )
