"""Settings of the Qdrant store."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from ragstack.config.block import ConfigBlock, contradiction
from ragstack.config.http_urls import require_http_url

IN_MEMORY = ":memory:"


class QdrantStoreConfig(ConfigBlock):
    """A Qdrant server or cloud cluster, over HTTP or gRPC.

    The settings of graph, quantization, disk and shards hold for collections that are created from then on.
    """

    type: Literal["qdrant"] = Field(default="qdrant", description="A Qdrant server, over HTTP or gRPC.")
    uri: str = Field(
        default="http://127.0.0.1:6333",
        min_length=1,
        description="Where the server is: http:// or https://; `:memory:` for the client's local mode, for tests.",
    )
    api_key: SecretStr | None = Field(default=None, description="The key that the store asks for.")
    prefix: str = Field(
        default="ragstack",
        pattern=r"^[A-Za-z][A-Za-z0-9]*$",
        max_length=40,
        description="Begins the names of the collections, so that several indexes can share one store.",
    )
    timeout_s: float = Field(
        default=30.0, ge=0.1, description="Seconds that one request may take, attempts after a failure included."
    )
    retries: int = Field(
        default=30,
        ge=0,
        le=100,
        description="Attempts after one that failed for a passing reason, at growing distances, while timeout_s lasts;"
        " until the server has answered once at most 2.",
    )
    prefer_grpc: bool = Field(default=False, description="Send requests over gRPC instead of HTTP.")
    grpc_port: int = Field(default=6334, ge=1, le=65535, description="Port of the server's gRPC interface.")
    tls_ca_file: str | None = Field(
        default=None, min_length=1, description="PEM file of the authority that signed the server's certificate."
    )
    hnsw_m: int = Field(
        default=16, ge=0, le=128, description="Links per vector in the HNSW graph; 0 builds graphs of tenants alone."
    )
    hnsw_payload_m: int | None = Field(
        default=None, ge=0, le=128, description="Links in the graph of each tenant; null: as hnsw_m."
    )
    ef_construct: int = Field(default=100, ge=4, le=4096, description="Breadth of the search while the graph is built.")
    ef_search: int = Field(default=128, ge=1, le=10000, description="Breadth of the search of a query.")
    exact: bool = Field(default=False, description="Scan every vector instead of using the HNSW graph.")
    indexing_threshold_kb: int | None = Field(
        default=None,
        ge=1,
        description="Size of a segment from which its graph is built and searched; null: the server's own.",
    )
    quantization: Literal["none", "scalar", "binary", "product"] = Field(
        default="none", description="Smaller vectors that are searched first: scalar (int8), binary or product."
    )
    quantile: float | None = Field(
        default=None, ge=0.5, le=1.0, description="Scalar: share of the values that the eight bits span."
    )
    compression: Literal["x4", "x8", "x16", "x32", "x64"] | None = Field(
        default=None, description="Product: how much smaller vectors get; null: x16."
    )
    quantized_in_ram: bool = Field(default=True, description="Keep the quantized vectors in memory.")
    rescore: bool = Field(default=True, description="Score what quantized vectors find again with the full ones.")
    oversampling: float | None = Field(
        default=None, ge=1.0, le=100.0, description="How many times top_k the quantized search gathers for rescoring."
    )
    vectors_on_disk: bool = Field(default=False, description="Keep the dense vectors on disk, not in memory.")
    hnsw_on_disk: bool = Field(default=False, description="Keep the HNSW graph on disk.")
    sparse_on_disk: bool = Field(default=False, description="Keep the index of the sparse vectors on disk.")
    payload_on_disk: bool = Field(default=True, description="Keep payloads on disk; indexed fields stay in memory.")
    shard_number: int | None = Field(default=None, ge=1, description="Shards of a collection; null: the server's own.")
    replication_factor: int | None = Field(
        default=None, ge=1, description="Copies of each shard in a cluster; null: the server's own."
    )
    write_consistency_factor: int | None = Field(
        default=None, ge=1, description="Copies that must have a write before it returns; null: more than half of them."
    )
    write_ordering: Literal["weak", "medium", "strong"] = Field(
        default="weak", description="Order of writes in a cluster that come from several clients at a time."
    )
    read_consistency: Literal["majority", "quorum", "all"] | int | None = Field(
        default=None, description="Copies that are asked in a read; null: majority with several copies, else one."
    )
    tenant_field: str | None = Field(
        default=None, min_length=1, description="Declared keyword field by which the server keeps tenants apart."
    )
    batch_points: int = Field(default=256, ge=1, le=10_000, description="Most records in one request to write.")
    batch_bytes: int = Field(
        default=8_000_000,
        ge=100_000,
        le=32_000_000,
        description="Estimated bytes of one request to write; the server's own limit is 32 MB unless it was changed.",
    )
    optimize_timeout_s: float = Field(
        default=3600.0, gt=0, description="Seconds to wait until the server has built an index."
    )

    @field_validator("uri")
    @classmethod
    def _uri_of_a_server(cls, uri: str) -> str:
        if uri == IN_MEMORY:
            return uri
        return require_http_url(uri, "http://host:port, https://host:port or :memory:", "URI")

    @field_validator("read_consistency")
    @classmethod
    def _some_copies(cls, value: str | int | None) -> str | int | None:
        if isinstance(value, int) and value < 1:
            raise ValueError("expected 1 or more copies, majority, quorum or all")
        return value

    @model_validator(mode="after")
    def _settings_agree(self) -> QdrantStoreConfig:
        self._check_connection()
        if self.quantile is not None and self.quantization != "scalar":
            raise contradiction(("quantile", "quantization"), "quantile belongs to quantization: scalar")
        if self.compression is not None and self.quantization != "product":
            raise contradiction(("compression", "quantization"), "compression belongs to quantization: product")
        if self.oversampling is not None and self.quantization == "none":
            raise contradiction(("oversampling", "quantization"), "oversampling needs quantization")
        if self.oversampling is not None and not self.rescore:
            raise contradiction(("oversampling", "rescore"), "oversampling does nothing without rescore")
        if self.hnsw_m == 0 and not (self.hnsw_payload_m and self.tenant_field):
            raise contradiction(
                ("hnsw_m", "hnsw_payload_m", "tenant_field"),
                "hnsw_m is 0, so tenant_field must be named and hnsw_payload_m be 1 or more",
            )
        copies = self.replication_factor or 1
        if self.write_consistency_factor is not None and self.write_consistency_factor > copies:
            raise contradiction(
                ("write_consistency_factor", "replication_factor"),
                f"write_consistency_factor ({self.write_consistency_factor}) is more than the {copies} copies of"
                " replication_factor",
            )
        return self

    def _check_connection(self) -> None:
        if self.uri == IN_MEMORY:
            for key in ("api_key", "tls_ca_file"):
                if getattr(self, key) is not None:
                    raise contradiction(("uri", key), f"{key} has no meaning with uri: {IN_MEMORY}")
            if self.prefer_grpc:
                raise contradiction(("uri", "prefer_grpc"), f"prefer_grpc has no meaning with uri: {IN_MEMORY}")
        elif self.tls_ca_file is not None and not self.uri.startswith("https:"):
            raise contradiction(("tls_ca_file", "uri"), "tls_ca_file needs a uri that begins with https:")
