"""Settings of the Milvus store."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ragstack.config.block import ConfigBlock, contradiction

_SCHEMES = ("http", "https", "tcp")


class FlatIndexConfig(ConfigBlock):
    """FLAT: no index, the server compares with every vector. Exact."""

    type: Literal["FLAT"] = Field(description="No index: every vector is compared. Exact.")


class HnswIndexConfig(ConfigBlock):
    """HNSW: a graph in memory."""

    type: Literal["HNSW"] = Field(default="HNSW", description="A graph in memory.")
    m: int = Field(default=16, ge=4, le=64, description="Links per vector in the graph.")
    ef_construction: int = Field(
        default=200, ge=8, le=512, description="Breadth of the search while the graph is built."
    )
    ef_search: int = Field(
        default=128, ge=1, le=32768, description="Breadth of the search of a query; never below the hits asked for."
    )


class IvfFlatIndexConfig(ConfigBlock):
    """IVF_FLAT: vectors grouped into clusters, of which a query reads some."""

    type: Literal["IVF_FLAT"] = Field(description="Clusters of whole vectors, of which a query reads some.")
    nlist: int = Field(default=128, ge=1, le=65536, description="Number of clusters.")
    nprobe: int = Field(default=32, ge=1, le=65536, description="Clusters that a query reads; at most nlist.")

    @model_validator(mode="after")
    def _check_nprobe(self) -> IvfFlatIndexConfig:
        _check_nprobe(self.nprobe, self.nlist)
        return self


class IvfSq8IndexConfig(ConfigBlock):
    """IVF_SQ8: as IVF_FLAT, one byte a number."""

    type: Literal["IVF_SQ8"] = Field(description="Clusters of vectors of one byte a number; hits are scored again.")
    nlist: int = Field(default=128, ge=1, le=65536, description="Number of clusters.")
    nprobe: int = Field(default=32, ge=1, le=65536, description="Clusters that a query reads; at most nlist.")

    @model_validator(mode="after")
    def _check_nprobe(self) -> IvfSq8IndexConfig:
        _check_nprobe(self.nprobe, self.nlist)
        return self


class DiskAnnIndexConfig(ConfigBlock):
    """DISKANN: a graph on disk. The server needs `queryNode.enableDisk` and an NVMe disk."""

    type: Literal["DISKANN"] = Field(description="A graph on the server's disk.")
    search_list: int = Field(
        default=100, ge=1, le=65535, description="Candidates of a query; never below the hits asked for."
    )


class GpuCagraIndexConfig(ConfigBlock):
    """GPU_CAGRA: a graph on the GPUs of the server (its GPU build)."""

    type: Literal["GPU_CAGRA"] = Field(description="A graph on the GPUs of the server.")
    intermediate_graph_degree: int = Field(default=128, ge=1, description="Links per vector before pruning.")
    graph_degree: int = Field(default=64, ge=1, description="Links per vector; at most intermediate_graph_degree.")
    build_algo: Literal["IVF_PQ", "NN_DESCENT"] = Field(
        default="IVF_PQ", description="How the graph is built: IVF_PQ is better, NN_DESCENT quicker."
    )
    cache_dataset_on_device: bool = Field(
        default=True, description="Keep the vectors on the GPU, so that hits are scored exactly."
    )
    itopk_size: int = Field(
        default=128, ge=1, le=1024, description="Candidates of a query; never below the hits asked for."
    )
    search_width: int = Field(default=4, ge=1, description="Entry points into the graph.")
    team_size: Literal[0, 2, 4, 8, 16, 32] = Field(
        default=0, description="CUDA threads that share one distance; 0: chosen by the server."
    )
    min_iterations: int = Field(default=0, ge=0, description="Least steps of a search; 0: chosen by the server.")
    max_iterations: int = Field(default=0, ge=0, description="Most steps of a search; 0: chosen by the server.")

    @model_validator(mode="after")
    def _check_degrees(self) -> GpuCagraIndexConfig:
        if self.graph_degree > self.intermediate_graph_degree:
            message = (
                f"graph_degree is {self.graph_degree}, intermediate_graph_degree {self.intermediate_graph_degree}; "
                "the graph is pruned to graph_degree, so it must not be larger"
            )
            raise contradiction(("graph_degree", "intermediate_graph_degree"), message)
        if 0 < self.max_iterations < self.min_iterations:
            message = f"max_iterations is {self.max_iterations}, below min_iterations, {self.min_iterations}"
            raise contradiction(("max_iterations", "min_iterations"), message)
        return self


def _check_nprobe(nprobe: int, nlist: int) -> None:
    if nprobe > nlist:
        message = f"nprobe is {nprobe}, but there are only nlist = {nlist} clusters to read"
        raise contradiction(("nprobe", "nlist"), message)


MilvusIndexConfig: TypeAlias = Annotated[
    FlatIndexConfig
    | HnswIndexConfig
    | IvfFlatIndexConfig
    | IvfSq8IndexConfig
    | DiskAnnIndexConfig
    | GpuCagraIndexConfig,
    Field(discriminator="type"),
]


class MilvusStoreConfig(ConfigBlock):
    """Milvus: a Milvus Lite file, a server or a cluster."""

    type: Literal["milvus"] = Field(default="milvus", description="Milvus: a Milvus Lite file, a server or a cluster.")
    uri: str = Field(
        default="http://127.0.0.1:19530",
        min_length=1,
        description="Where the store is: http://HOST:PORT, https://HOST:PORT, or a path ending in .db (Milvus Lite).",
    )
    token: SecretStr | None = Field(default=None, description="What the server asks for: an API key, or USER:PASSWORD.")
    database: str = Field(
        default="",
        pattern=r"^([A-Za-z_][A-Za-z0-9_]{0,254})?$",
        description="Name of the database; empty: the default one.",
    )
    prefix: str = Field(
        default="ragstack",
        pattern=r"^[A-Za-z][A-Za-z0-9]*$",
        max_length=40,
        description="Begins the names of the collections, so that several indexes can share one store.",
    )
    timeout_s: float = Field(default=30.0, gt=0, description="Seconds that one request may take, retries included.")
    index: MilvusIndexConfig = Field(
        default=HnswIndexConfig(),
        description="How vectors are searched; holds for collections created from now on.",
    )
    exact: bool = Field(
        default=False, description="Compare with every vector: on the server with FLAT, else by reading them all."
    )
    tenant_field: str | None = Field(
        default=None,
        min_length=1,
        description="A declared keyword field that partitions the collections (Milvus: partition key).",
    )
    partitions: int = Field(
        default=64, ge=1, le=1024, description="Partitions that the values of tenant_field are spread over."
    )

    @field_validator("uri")
    @classmethod
    def _check_uri(cls, uri: str) -> str:
        if uri.endswith(".db") and "://" not in uri:
            return uri
        try:
            parts = urlsplit(uri)
            host, userinfo, _ = parts.hostname, "@" in parts.netloc, parts.port
        except ValueError:
            parts, host, userinfo = urlsplit(""), None, False
        if parts.scheme not in _SCHEMES or not host:
            raise PydanticCustomError(
                "uri", "expected http://HOST:PORT, https://HOST:PORT, or a path that ends in .db (Milvus Lite)"
            )
        if userinfo:
            raise PydanticCustomError("uri", "the URI holds a user and password; give them as token: USER:PASSWORD")
        if parts.path.strip("/") or parts.query:
            raise PydanticCustomError("uri", "expected no path after the host; give the database as `database`")
        return uri

    @model_validator(mode="after")
    def _check_lite(self) -> MilvusStoreConfig:
        if self.is_lite and self.token is not None:
            raise contradiction(("token", "uri"), "a Milvus Lite file asks for no token; leave it out")
        if self.is_lite and self.index.type in ("DISKANN", "GPU_CAGRA"):
            message = f"Milvus Lite has no {self.index.type} index; use FLAT, HNSW, IVF_FLAT or IVF_SQ8"
            raise contradiction(("index", "uri"), message)
        return self

    @property
    def is_lite(self) -> bool:
        """Whether ``uri`` is a Milvus Lite file."""
        return "://" not in self.uri
