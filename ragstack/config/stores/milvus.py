"""Settings of the Milvus store."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from ragstack.config.block import ConfigBlock


class MilvusStoreConfig(ConfigBlock):
    """Milvus: a Milvus Lite file, a server or a cluster."""

    type: Literal["milvus"] = Field(default="milvus", description="Milvus: a Milvus Lite file, a server or a cluster.")
    uri: str = Field(default="http://127.0.0.1:19530", min_length=1, description="Where the store is.")
    token: SecretStr | None = Field(default=None, description="The key that the store asks for.")
    prefix: str = Field(
        default="ragstack",
        pattern=r"^[A-Za-z][A-Za-z0-9]*$",
        max_length=40,
        description="Begins the names of the collections, so that several indexes can share one store.",
    )
    timeout_s: float = Field(default=30.0, gt=0, description="Seconds that one request may take.")
