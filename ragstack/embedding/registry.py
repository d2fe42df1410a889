"""The embedders by the name used as ``embedder.type`` in a config."""

from __future__ import annotations

from ragstack.registry import Entry, Registry

EMBEDDERS = Registry(
    "embedders",
    {
        "local": Entry("ragstack.embedding.encoder:EncoderEmbedder"),
        "remote": Entry("ragstack.embedding.remote:RemoteEmbedder", extra="client"),
        "hashing": Entry("ragstack.testing.hashing_embedder:HashingEmbedder"),
    },
)
