"""What a server tells Prometheus. Names, labels and their meaning are documented in docs/observability.md.

Labels have few values: route templates (never paths), stages, statuses, classes of errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from starlette.types import Scope

from ragstack.api.gpu_metrics import GpuCollector
from ragstack.citations.chain import Chain
from ragstack.citations.verify import Status
from ragstack.embedding.base import BudgetedEmbedder, Embedder
from ragstack.inference.batching import padding_share, plan_batches
from ragstack.version import __version__

UNMATCHED = "unmatched"
"""The route of a request that no route answers."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COUNTS = tuple(2**i for i in range(13))
_TOKENS = tuple(2**i for i in range(4, 18))
_SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)

current_scope: ContextVar[Scope | None] = ContextVar("ragstack_scope", default=None)
"""The ASGI scope of the request that is being answered; set by the observing middleware."""


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.request_seconds = Histogram(
            "ragstack_request_duration_seconds",
            "Time from a request's first byte to the last of its response.",
            ("route", "method", "status"),
            registry=registry,
            buckets=_SECONDS,
        )
        self.requests_in_flight = Gauge(
            "ragstack_requests_in_flight", "Requests that are being answered.", registry=registry
        )
        self.stage_seconds = Histogram(
            "ragstack_stage_duration_seconds",
            "Time of one stage of a request.",
            ("route", "stage"),
            registry=registry,
            buckets=_SECONDS,
        )
        self.errors = Counter(
            "ragstack_errors", "Requests that ended in an error, by its kind.", ("type",), registry=registry
        )
        self.tokens = Counter(
            "ragstack_embedded_tokens", "Tokens of clients' texts that were embedded.", registry=registry
        )
        self.llm_tokens = Counter(
            "ragstack_llm_tokens",
            "Tokens of the language model, as its server counts them.",
            ("kind",),
            registry=registry,
        )
        self.citations = Counter(
            "ragstack_citations",
            "Citations of answers, by what their check gave or why they were dropped.",
            ("outcome",),
            registry=registry,
        )
        self.answers = Counter("ragstack_answers", "Chains by what came of them.", ("outcome",), registry=registry)
        self.batch_texts = Histogram(
            "ragstack_batch_texts", "Texts in one batch of the embedder.", registry=registry, buckets=_COUNTS
        )
        self.batch_tokens = Histogram(
            "ragstack_batch_tokens", "Tokens in one batch of the embedder.", registry=registry, buckets=_TOKENS
        )
        self.batch_padding = Histogram(
            "ragstack_batch_padding_ratio",
            "Share of padding in what the model runs for one batch.",
            registry=registry,
            buckets=_SHARES,
        )
        self.pair_batch_pairs = Histogram(
            "ragstack_pair_batch_pairs", "Pairs in one batch of the reranker.", registry=registry, buckets=_COUNTS
        )
        self.pair_batch_tokens = Histogram(
            "ragstack_pair_batch_tokens", "Tokens in one batch of the reranker.", registry=registry, buckets=_TOKENS
        )
        self.queue_requests = Gauge(
            "ragstack_queue_requests", "Requests with texts that wait to be embedded or scored.", registry=registry
        )
        self.queue_tokens = Gauge(
            "ragstack_queue_tokens", "Tokens that wait to be embedded or scored.", registry=registry
        )
        build = Gauge("ragstack_build_info", "The version that runs; always 1.", ("version",), registry=registry)
        build.labels(__version__).set(1)
        for kind in ("prompt", "completion"):
            self.llm_tokens.labels(kind)
        for outcome in (*get_args(Status), "dropped_marker", "dropped_quote"):
            self.citations.labels(outcome)
        for outcome in ("answered", "unanswered", "failed"):
            self.answers.labels(outcome)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._gpus = GpuCollector.open()
        if self._gpus is not None:
            registry.register(self._gpus)

    def watch_queue(self, requests: Callable[[], int], tokens: Callable[[], int]) -> None:
        """Read the queue's depth whenever metrics are asked for."""
        self.queue_requests.set_function(requests)
        self.queue_tokens.set_function(tokens)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """One stage of the request that is being answered."""
        self.stage_seconds.labels(current_route(), stage).observe(seconds)

    def observe_batch(self, texts: int, token_counts: Sequence[int], embedder: Embedder) -> None:
        """One batch that was handed to the embedder, which cuts it by its own budget."""
        self.batch_texts.observe(texts)
        self.batch_tokens.observe(sum(token_counts))
        if isinstance(embedder, BudgetedEmbedder):  # others do not say whether they pad
            plan = [] if embedder.packs else plan_batches(token_counts, embedder.max_batch_tokens)
            self.batch_padding.observe(padding_share(token_counts, plan))

    def observe_pair_batch(self, token_counts: Sequence[int]) -> None:
        """One batch that was handed to a reranker that scores pairs, which cuts it by its own budget."""
        self.pair_batch_pairs.observe(len(token_counts))
        self.pair_batch_tokens.observe(sum(token_counts))

    def observe_chain(self, chain: Chain, statuses: Iterable[Status]) -> None:
        """The stages and tokens of one finished chain, and what the check of each of its citations gave."""
        for stage, seconds in chain.timings_s.items():
            if stage != "total":
                self.observe_stage(stage, seconds)
        answer = chain.answer
        if answer is None:
            return
        for status in statuses:
            self.citations.labels(status).inc()
        self.citations.labels("dropped_marker").inc(answer.dropped_markers)
        self.citations.labels("dropped_quote").inc(answer.dropped_quotes)
        self.llm_tokens.labels("prompt").inc(answer.prompt_tokens or 0)
        self.llm_tokens.labels("completion").inc(answer.completion_tokens or 0)
        self.answers.labels("failed" if answer.error else "answered" if answer.text else "unanswered").inc()

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


def route_of(scope: Scope | None) -> str:
    """The template of the route that answers, ``unmatched`` before or without one."""
    path = getattr((scope or {}).get("route"), "path", None)
    return path if isinstance(path, str) else UNMATCHED


def current_route() -> str:
    """The template of the route that answers the current request."""
    return route_of(current_scope.get())
