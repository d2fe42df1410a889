"""The rerankers by the name used as ``reranker.type`` in a config."""

from __future__ import annotations

from ragstack.registry import Entry, Registry

RERANKERS = Registry(
    "rerankers",
    {
        "late_interaction": Entry("ragstack.reranking.late_interaction:LateInteractionReranker"),
        "cross_encoder": Entry("ragstack.reranking.cross_encoder:CrossEncoderReranker"),
        "llm_yes_no": Entry("ragstack.reranking.llm_yes_no:LlmYesNoReranker"),
        "remote": Entry("ragstack.reranking.remote:RemoteReranker", extra="client"),
        "cascade": Entry("ragstack.reranking.cascade:CascadeReranker"),
        "none": Entry("ragstack.reranking.none:NoReranker"),
    },
)
