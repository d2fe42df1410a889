"""The rerankers by the name used as ``reranker.type`` in a config."""

from __future__ import annotations

from ragstack.registry import Entry, Registry

RERANKERS = Registry(
    "rerankers",
    {
        "late_interaction": Entry("ragstack.reranking.late_interaction:LateInteractionReranker"),
        "none": Entry("ragstack.reranking.none:NoReranker"),
    },
)
