"""Settings of the Weaviate store."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, SecretStr, Tag, field_validator, model_validator

from ragstack.config.block import ConfigBlock, contradiction


class NoWeaviateQuantizer(ConfigBlock):
    """Vectors as they are, in 32-bit floats."""

    type: Literal["none"] = Field(default="none", description="No quantisation.")


class WeaviatePq(ConfigBlock):
    """Product quantisation, trained on the first vectors."""

    type: Literal["pq"] = Field(default="pq", description="Product quantisation.")
    segments: int = Field(default=0, ge=0, description="Parts of a vector; 0: the server's choice.")
    centroids: int = Field(default=256, ge=2, le=65535, description="Centroids of each part.")
    training_limit: int = Field(default=100_000, ge=1, description="Vectors that it is trained on.")


class WeaviateBq(ConfigBlock):
    """Binary quantisation: one bit a dimension."""

    type: Literal["bq"] = Field(default="bq", description="Binary quantisation.")
    rescore_limit: int | None = Field(
        default=None, ge=0, description="Candidates compared again in full; null: the server's choice."
    )


class WeaviateSq(ConfigBlock):
    """Scalar quantisation: eight bits a dimension."""

    type: Literal["sq"] = Field(default="sq", description="Scalar quantisation.")
    training_limit: int = Field(default=100_000, ge=1, description="Vectors that it is trained on.")
    rescore_limit: int | None = Field(
        default=None, ge=0, description="Candidates compared again in full; null: the server's choice."
    )


class WeaviateRq(ConfigBlock):
    """Rotational quantisation; needs no training."""

    type: Literal["rq"] = Field(default="rq", description="Rotational quantisation.")
    bits: Literal[1, 8] = Field(default=8, description="Bits a dimension.")
    rescore_limit: int | None = Field(
        default=None, ge=0, description="Candidates compared again in full; null: the server's choice."
    )


def _by_type(default: str) -> Discriminator:
    """Choose a union's member by ``type``, which may be left out for the default."""

    def type_(value: Any) -> Any:
        return value.get("type", default) if isinstance(value, dict) else getattr(value, "type", None)

    return Discriminator(type_)


WeaviateQuantizer: TypeAlias = Annotated[
    Annotated[NoWeaviateQuantizer, Tag("none")]
    | Annotated[WeaviatePq, Tag("pq")]
    | Annotated[WeaviateBq, Tag("bq")]
    | Annotated[WeaviateSq, Tag("sq")]
    | Annotated[WeaviateRq, Tag("rq")],
    _by_type("none"),
]


class WeaviateHnsw(ConfigBlock):
    """A graph in memory."""

    type: Literal["hnsw"] = Field(default="hnsw", description="A graph in memory.")
    max_connections: int = Field(default=32, ge=4, le=2047, description="Links per vector in the graph.")
    ef_construction: int = Field(default=128, ge=4, le=4096, description="Breadth of the search while building.")
    ef: int | None = Field(
        default=None, ge=1, le=10_000, description="Breadth of the search of a query; null: 100 to 500, by top_k."
    )
    flat_search_cutoff: int = Field(
        default=40_000, ge=0, description="A filter that leaves fewer records is answered by a scan of them."
    )
    quantizer: WeaviateQuantizer = Field(default=NoWeaviateQuantizer(), description="How vectors are made smaller.")


class WeaviateFlat(ConfigBlock):
    """Every vector is scanned, from disk: for small collections and tenants."""

    type: Literal["flat"] = Field(default="flat", description="Every vector is scanned.")
    quantizer: WeaviateQuantizer = Field(default=NoWeaviateQuantizer(), description="How vectors are made smaller.")

    @model_validator(mode="after")
    def _server_has_it(self) -> WeaviateFlat:
        if self.quantizer.type in ("pq", "sq"):
            raise contradiction(("quantizer",), f"a flat index has no {self.quantizer.type}; use bq, rq or none")
        return self


class WeaviateDynamic(ConfigBlock):
    """Flat up to a number of records, then a graph. Needs a server with ASYNC_INDEXING."""

    type: Literal["dynamic"] = Field(default="dynamic", description="Flat, later a graph.")
    threshold: int = Field(default=10_000, ge=1, description="Records from which the graph is built.")
    hnsw: WeaviateHnsw = Field(default=WeaviateHnsw(), description="The graph.")


WeaviateIndex: TypeAlias = Annotated[
    Annotated[WeaviateHnsw, Tag("hnsw")]
    | Annotated[WeaviateFlat, Tag("flat")]
    | Annotated[WeaviateDynamic, Tag("dynamic")],
    _by_type("hnsw"),
]


class WeaviateStoreConfig(ConfigBlock):
    """A Weaviate server or cloud cluster."""

    type: Literal["weaviate"] = Field(default="weaviate", description="A Weaviate server or cloud cluster.")
    uri: str = Field(
        default="http://127.0.0.1:8080", min_length=1, description="Where the store is: http(s)://host[:port]."
    )
    grpc_uri: str | None = Field(
        default=None,
        min_length=1,
        description="Where its gRPC is: http(s)://host:port; null: grpc_port at the host of uri.",
    )
    grpc_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of gRPC at the host of uri; null: 50051, or 443 at grpc-<host> in Weaviate's cloud.",
    )
    api_key: SecretStr | None = Field(default=None, description="The key that the store asks for.")
    prefix: str = Field(
        default="ragstack",
        pattern=r"^[A-Za-z][A-Za-z0-9]*$",
        max_length=40,
        description="Begins the names of the collections, so that several indexes can share one store.",
    )
    timeout_s: float = Field(default=30.0, gt=0, description="Seconds that one request may take.")
    index: WeaviateIndex = Field(default=WeaviateHnsw(), description="How vectors of new collections are indexed.")
    replication_factor: int | None = Field(
        default=None, ge=1, description="Copies of each record in new collections; null: the server's default."
    )
    consistency: Literal["one", "quorum", "all"] = Field(
        default="quorum", description="Copies that must answer a read or a write."
    )
    tenant_field: str | None = Field(
        default=None,
        min_length=1,
        description="A keyword field whose values become Weaviate's tenants in new collections; null: no tenants.",
    )
    max_results: int = Field(
        default=10_000,
        ge=100,
        le=1_000_000,
        description="Most hits of a request: the server's QUERY_MAXIMUM_RESULTS.",
    )
    batch_bytes: int = Field(
        default=8 * 1024 * 1024, ge=65536, description="Bytes of records in one write, below the server's gRPC limit."
    )

    @field_validator("uri", "grpc_uri")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is None:
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError("expected http://host:port or https://host:port")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("expected http(s)://host:port alone; a key belongs into api_key")
        if parts.port == 0:
            raise ValueError("expected a port from 1 to 65535")
        return value

    @model_validator(mode="after")
    def _one_place_for_grpc(self) -> WeaviateStoreConfig:
        if self.grpc_uri is not None and self.grpc_port is not None:
            raise contradiction(("grpc_port", "grpc_uri"), "grpc_port and grpc_uri both say where gRPC is; give one")
        return self
