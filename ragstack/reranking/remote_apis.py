"""What the reranking APIs have on the wire: paths, bodies, replies. Pure: no I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ragstack.config.rerankers import RemoteRerankerConfig, RerankApiName


@dataclass(frozen=True)
class RerankApi:
    """One API: where it is, what it is sent, and where the scores stand in what it sends back.

    ``scores`` is what they are unless the config says otherwise. ``items`` are the names under which the list of
    results may stand, empty where the reply is the list itself; ``score`` is a result's key.
    """

    path: str
    scores: Literal["logits", "probabilities"]
    body: Callable[[RemoteRerankerConfig, str, Sequence[str]], dict[str, Any]]
    items: tuple[str, ...]
    score: str


def _nim_body(config: RemoteRerankerConfig, query: str, texts: Sequence[str]) -> dict[str, Any]:
    return {
        "model": config.model,
        "query": {"text": query},
        "passages": [{"text": text} for text in texts],
        "truncate": config.truncate,
    }


def _tei_body(config: RemoteRerankerConfig, query: str, texts: Sequence[str]) -> dict[str, Any]:
    return {
        "query": query,
        "texts": list(texts),
        "raw_scores": config.scores != "probabilities",
        "truncate": config.truncate == "END",
    }


def _cohere_body(config: RemoteRerankerConfig, query: str, texts: Sequence[str]) -> dict[str, Any]:
    return {**_named(config), "query": query, "documents": list(texts)}


def _score_body(config: RemoteRerankerConfig, query: str, texts: Sequence[str]) -> dict[str, Any]:
    return {**_named(config), "text_1": query, "text_2": list(texts)}


def _named(config: RemoteRerankerConfig) -> dict[str, Any]:
    return {} if config.model is None else {"model": config.model}


APIS: dict[RerankApiName, RerankApi] = {
    # docs.nvidia.com/nim/nemo-retriever/text-reranking, "Reranking API reference"
    "nim": RerankApi("/ranking", "logits", _nim_body, ("rankings",), "logit"),
    # huggingface/text-embeddings-inference, router/src/http/types.rs
    "tei": RerankApi("/rerank", "logits", _tei_body, (), "score"),
    # docs.cohere.com/reference/rerank; Jina, vLLM, infinity and llama.cpp have the same, Voyage has `data`
    "cohere": RerankApi("/rerank", "probabilities", _cohere_body, ("results", "data"), "relevance_score"),
    # docs.vllm.ai, "Score API"
    "score": RerankApi("/score", "probabilities", _score_body, ("data",), "score"),
}


def request_body(config: RemoteRerankerConfig, query: str, texts: Sequence[str]) -> dict[str, Any]:
    """The body of the request that ranks ``texts``."""
    return {**config.extra_body, **APIS[config.api].body(config, query, texts)}


def read_scores(config: RemoteRerankerConfig, reply: Any, count: int) -> list[float]:
    """One score for each of ``count`` texts, in their order; NaN where the server gave none that is a number.

    Raises ValueError, in words that follow "the reranker ... ", for a reply of another shape, and for one that does
    not name every text once.
    """
    api = APIS[config.api]
    found = reply
    if api.items:
        found = next((reply[key] for key in api.items if key in reply), None) if isinstance(reply, dict) else None
    if not isinstance(found, list):
        where = f" in {api.items[0]!r}" if api.items else ""
        raise ValueError(f"answered, but not with a list of results{where}, as api: {config.api} has it")
    scores: dict[int, float] = {}
    for item in found:
        index = item.get("index") if isinstance(item, dict) else None
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count or index in scores:
            raise ValueError(f"named a passage by {index!r}, or one twice; there were {count}")
        scores[index] = _number(item.get(api.score))
    if len(scores) != count:
        raise ValueError(f"gave scores for {len(scores)} of {count} passages")
    return [scores[index] for index in range(count)]


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf


def batch_limit(info: Any) -> int | None:
    """The most texts in a request, as TEI's ``/info`` says; None where it does not."""
    limit = info.get("max_client_batch_size") if isinstance(info, dict) else None
    return limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None
