"""Each engine through its own client, as a careful user would: the other side of ``benchmarks/adapters.py``.

A raw side writes the same vectors and the same payload, one property or column for each of its fields, indexes
the fields that the adapter indexes, and reads with the same consistency; vectors get the same index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from benchmarks.real_corpus import FIELDS
from ragstack.adapters.base import Record, VectorStore
from ragstack.types import Float32Array

WORDS = 40
Found = list[tuple[str, float, Any]]


class Raw(Protocol):
    """One collection of an engine, in its client's own calls. A filter is ``part >= part and words >= WORDS``."""

    def upsert(self, records: Sequence[Record]) -> None: ...

    def search(self, vector: Float32Array, top_k: int, part: int | None = None) -> Found:
        """Ids, scores and payloads."""

    def fetch(self, ids: Sequence[str]) -> Found:
        """Ids, payloads and vectors."""

    def ready(self) -> None:
        """Build the indexes."""

    def close(self) -> None: ...


class RawEdge:
    """Qdrant Edge."""

    def __init__(self, store: Any, dim: int) -> None:
        import qdrant_edge as qdrant

        self._q = qdrant
        folder = store.path.parent / "raw"
        folder.mkdir()
        self._shard = qdrant.EdgeShard.create(
            str(folder),
            qdrant.EdgeConfig(
                vectors={"dense": qdrant.EdgeVectorParams(size=dim, distance=qdrant.Distance.Cosine)},
                sparse_vectors={"sparse": qdrant.EdgeSparseVectorParams()},
                hnsw_config=qdrant.HnswIndexConfig(m=16, ef_construct=100, full_scan_threshold=10_000),
                optimizers=qdrant.EdgeOptimizersConfig(indexing_threshold=20_000 * dim * 4 // 1024),
            ),
        )
        kinds = {"keyword": "Keyword", "integer": "Integer", "float": "Float", "bool": "Bool", "datetime": "Datetime"}
        for name, type_ in FIELDS.items():
            kind = getattr(qdrant.PayloadSchemaType, kinds[type_])
            self._shard.update(qdrant.UpdateOperation.create_field_index(name, kind))

    def upsert(self, records: Sequence[Record]) -> None:
        q = self._q
        points = [
            q.Point(
                record.id,
                {
                    "dense": record.dense.tolist(),
                    "sparse": q.SparseVector(record.sparse.indices.tolist(), record.sparse.values.tolist()),
                },
                dict(record.payload),
            )
            for record in records
        ]
        self._shard.update(q.UpdateOperation.upsert_points(points))

    def search(self, vector: Float32Array, top_k: int, part: int | None = None) -> Found:
        q = self._q
        wanted = None
        if part is not None:
            wanted = q.Filter(
                must=[
                    q.FieldCondition("part", range=q.RangeFloat(gte=float(part))),
                    q.FieldCondition("words", range=q.RangeFloat(gte=float(WORDS))),
                ]
            )
        request = q.QueryRequest(
            limit=top_k,
            query=q.Query.Nearest(vector.tolist(), using="dense"),
            filter=wanted,
            params=q.SearchParams(hnsw_ef=128, exact=True),
            with_payload=True,
        )
        # The driver converts a point when it is read, so read what the adapter returns.
        return [(str(point.id), point.score, point.payload) for point in self._shard.query(request)]

    def fetch(self, ids: Sequence[str]) -> Found:
        found = []
        for point in self._shard.retrieve(list(ids), True, True):
            vector = point.vector  # the driver converts it each time that it is read
            sparse = vector["sparse"]
            terms = (sparse.indices, sparse.values)
            found.append((str(point.id), np.asarray(vector["dense"], np.float32), (terms, point.payload)))
        return found

    def ready(self) -> None:
        self._shard.optimize()

    def close(self) -> None:
        self._shard.close()


class RawMilvus:
    """Milvus, Lite or a server. Sparse vectors only where the server searches them, as in the adapter's column."""

    def __init__(self, store: Any, dim: int) -> None:
        from pymilvus import DataType, MilvusClient

        self._client = store._connection._client
        self._sparse = store.capabilities.sparse
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=36)
        schema.add_field("dense", DataType.FLOAT_VECTOR, dim=dim)
        schema.add_field("payload", DataType.JSON)  # the one type that keeps missing fields and lists in 2.3
        indexes = MilvusClient.prepare_index_params()
        graph = {"M": store.block.index.m, "efConstruction": store.block.index.ef_construction}
        indexes.add_index("dense", index_type="HNSW", metric_type="COSINE", params=graph)
        if self._sparse:
            schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
            indexes.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="IP", params={})
        else:
            schema.add_field("weights", DataType.JSON)
        self._client.create_collection("raw", schema=schema, index_params=indexes, consistency_level="Strong")
        self._ef = store.block.index.ef_search

    def upsert(self, records: Sequence[Record]) -> None:
        rows = []
        for record in records:
            row = {"id": record.id, "dense": record.dense, "payload": record.payload}
            indices, values = record.sparse.indices.tolist(), record.sparse.values.tolist()
            if self._sparse:
                row["sparse"] = dict(zip(indices, values, strict=True))
            else:
                row["weights"] = {"indices": indices, "values": values}
            rows.append(row)
        self._client.upsert("raw", rows)

    def search(self, vector: Float32Array, top_k: int, part: int | None = None) -> Found:
        found = self._client.search(
            "raw",
            data=[vector],
            anns_field="dense",
            limit=top_k,
            filter="" if part is None else f'payload["part"] >= {part} and payload["words"] >= {WORDS}',
            output_fields=["payload"],
            search_params={"metric_type": "COSINE", "params": {"ef": max(self._ef, top_k)}},
            consistency_level="Strong",
        )[0]
        return [(str(hit["id"]), hit["distance"], hit["entity"]["payload"]) for hit in found]

    def fetch(self, ids: Sequence[str]) -> Found:
        columns = ["id", "dense", "payload", *(["sparse"] if self._sparse else ["weights"])]
        rows = self._client.query(
            "raw", filter=f"id in {list(ids)!r}", output_fields=columns, consistency_level="Strong"
        )
        return [
            (str(row["id"]), np.asarray(row["dense"], np.float32), (row["payload"], row[columns[-1]])) for row in rows
        ]

    def ready(self) -> None:
        self._client.flush("raw")

    def close(self) -> None:
        self._client.drop_collection("raw")


class RawWeaviate:
    """Weaviate. There are no sparse vectors: they are kept as a text, and a text property is indexed for BM25."""

    def __init__(self, store: Any, dim: int) -> None:
        from weaviate.classes import config as wv

        client = store._connected()
        types = {"keyword": "TEXT", "integer": "INT", "float": "NUMBER", "bool": "BOOL", "datetime": "DATE"}
        properties = [
            wv.Property(
                name=name,
                data_type=wv.DataType.TEXT_ARRAY if name == "numbers" else getattr(wv.DataType, types[type_]),
                **({"tokenization": wv.Tokenization.FIELD, "index_searchable": False} if type_ == "keyword" else {}),
            )
            for name, type_ in FIELDS.items()
        ]
        properties.append(wv.Property(name="text", data_type=wv.DataType.TEXT, index_filterable=False))
        properties.append(
            wv.Property(name="sparse", data_type=wv.DataType.TEXT, index_filterable=False, index_searchable=False)
        )
        index = wv.Configure.VectorIndex.hnsw(
            distance_metric=wv.VectorDistances.COSINE,
            ef_construction=store.block.index.ef_construction,
            max_connections=store.block.index.max_connections,
            quantizer=wv.Configure.VectorIndex.Quantizer.none(),
        )
        self._class = "Raw"
        client.collections.create(
            self._class,
            properties=properties,
            vector_config=wv.Configure.Vectors.self_provided(name="dense", vector_index_config=index),
        )
        self._client = client
        self._handle = client.collections.use(self._class)

    def upsert(self, records: Sequence[Record]) -> None:
        from weaviate.classes.data import DataObject

        from ragstack.adapters.weaviate_sparse import encode_sparse

        answer = self._handle.data.insert_many(
            [
                DataObject(
                    uuid=record.id,
                    properties={**record.payload, "sparse": encode_sparse(record.sparse)},
                    vector={"dense": record.dense.tolist()},
                )
                for record in records
            ]
        )
        assert not answer.errors

    def search(self, vector: Float32Array, top_k: int, part: int | None = None) -> Found:
        from weaviate.classes.query import Filter, MetadataQuery

        wanted = None
        if part is not None:
            long_enough = Filter.by_property("words").greater_or_equal(WORDS)
            wanted = Filter.by_property("part").greater_or_equal(part) & long_enough
        found = self._handle.query.near_vector(
            vector.tolist(),
            target_vector="dense",
            limit=top_k,
            filters=wanted,
            return_metadata=MetadataQuery(distance=True),
            return_properties=[*FIELDS, "text"],
        ).objects
        return [(str(o.uuid), 1.0 - (o.metadata.distance or 0.0), o.properties) for o in found]

    def fetch(self, ids: Sequence[str]) -> Found:
        from weaviate.classes.query import Filter

        found = self._handle.query.fetch_objects(
            filters=Filter.by_id().contains_any(list(ids)),
            limit=len(ids),
            include_vector=True,
            return_properties=[*FIELDS, "text", "sparse"],
        ).objects
        return [(str(o.uuid), np.asarray(o.vector["dense"], np.float32), o.properties) for o in found]

    def ready(self) -> None:
        pass

    def close(self) -> None:
        self._client.collections.delete(self._class)


class RawQdrant:
    """qdrant-client: its local mode, or a server."""

    def __init__(self, store: Any, dim: int) -> None:
        from qdrant_client import models

        self._m, self._client, self._name = models, store._client, f"{store.block.prefix}-raw"
        self._client.create_collection(
            self._name,
            vectors_config={"dense": models.VectorParams(size=dim, distance=models.Distance.COSINE)},
            sparse_vectors_config={"sparse": models.SparseVectorParams()},
            hnsw_config=models.HnswConfigDiff(m=store.block.hnsw_m, ef_construct=store.block.ef_construct),
            on_disk_payload=store.block.payload_on_disk,
        )
        self._local = store.block.uri == ":memory:"
        self._params = None if self._local else models.SearchParams(hnsw_ef=store.block.ef_search)
        if not self._local:
            for name, type_ in FIELDS.items():
                self._client.create_payload_index(self._name, name, field_schema=models.PayloadSchemaType(type_))

    def upsert(self, records: Sequence[Record]) -> None:
        m = self._m
        points = [
            m.PointStruct(
                id=record.id,
                vector={
                    "dense": record.dense.tolist(),
                    "sparse": m.SparseVector(
                        indices=record.sparse.indices.tolist(), values=record.sparse.values.tolist()
                    ),
                },
                payload=dict(record.payload),
            )
            for record in records
        ]
        self._client.upsert(self._name, points, wait=True)

    def search(self, vector: Float32Array, top_k: int, part: int | None = None) -> Found:
        m = self._m
        wanted = None
        if part is not None:
            wanted = m.Filter(
                must=[
                    m.FieldCondition(key="part", range=m.Range(gte=part)),
                    m.FieldCondition(key="words", range=m.Range(gte=WORDS)),
                ]
            )
        found = self._client.query_points(
            self._name,
            query=vector.tolist(),
            using="dense",
            limit=top_k,
            query_filter=wanted,
            search_params=self._params,
            with_payload=True,
        ).points
        return [(str(point.id), point.score, point.payload) for point in found]

    def fetch(self, ids: Sequence[str]) -> Found:
        found = self._client.retrieve(self._name, list(ids), with_payload=True, with_vectors=True)
        return [(str(p.id), np.asarray(p.vector["dense"], np.float32), (p.vector, p.payload)) for p in found]

    def ready(self) -> None:
        pass

    def close(self) -> None:
        self._client.delete_collection(self._name)


def raw_side(store: VectorStore, dim: int) -> Raw:
    """An empty collection beside those of the store, in the same engine and through the same connection."""
    name = type(store).__name__
    kinds: dict[str, Any] = {
        "QdrantEdgeStore": RawEdge,
        "MilvusStore": RawMilvus,
        "WeaviateStore": RawWeaviate,
        "QdrantStore": RawQdrant,
    }
    side: Raw = kinds[name](store, dim)
    return side
