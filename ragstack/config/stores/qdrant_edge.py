"""Settings of the embedded store."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ragstack.config.block import ConfigBlock


class QdrantEdgeStoreConfig(ConfigBlock):
    """The embedded store: Qdrant's engine in this process, files below the state directory."""

    type: Literal["qdrant_edge"] = Field(default="qdrant_edge", description="Qdrant's engine, embedded.")
    path: str | None = Field(default=None, min_length=1, description="Folder of the store; null: <state_dir>/store.")
    hnsw_m: int = Field(default=16, ge=4, le=128, description="Links per vector in the HNSW graph.")
    ef_construct: int = Field(default=100, ge=4, le=4096, description="Breadth of the search while the graph is built.")
    hnsw_min_points: int = Field(
        default=20_000, ge=0, description="Chunks from which the graph is built; below, every vector is scanned."
    )
    ef_search: int = Field(default=128, ge=1, le=10000, description="Breadth of the search of a query.")
    exact: bool = Field(default=False, description="Scan every vector instead of using the HNSW graph.")
