"""Embeddings and rankings of texts that come with a request, with the pipeline's own embedder and reranker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import anyio
from anyio import CapacityLimiter

from ragstack.api.admission import Gate, TokenBudget
from ragstack.api.batch_worker import BatchReport
from ragstack.api.embedding_worker import Embedded, EmbeddingWorker
from ragstack.api.metrics import Metrics
from ragstack.api.model_errors import ModelRequestError
from ragstack.api.model_texts import (
    PreparedTexts,
    TextInput,
    Truncate,
    check_readable,
    is_short,
    prepare_texts,
    texts_of,
)
from ragstack.api.served_models import PIPELINE_MODEL, reranker_names
from ragstack.api.text_rankings import Ranking, TextRankings, rankings, told_as_request_errors
from ragstack.api.tracing import Tracing
from ragstack.assembly import build_text_reranker, compares_vectors, text_reranker, token_vectors_of_texts
from ragstack.embedding.base import Embedder, InputType, Output
from ragstack.errors import RagstackError
from ragstack.inference.threads import usable_cores
from ragstack.pipeline import Pipeline
from ragstack.reranking.base import Reranker, RerankQuery, no_idf
from ragstack.retrieval.corpus_weights import corpus_idf
from ragstack.retrieval.text_ranking import rank_in_order, text_ids
from ragstack.types import Float32Array, TokenVectors

_FLOATS_AT_ONCE = 16_384  # about a millisecond of work
_SHORT = 4096  # characters, or token ids: well below a millisecond of tokenisation
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class EmbeddedTexts:
    """The vectors of one request; what was counted and how long the steps took, in seconds."""

    model: str
    dense: Float32Array
    tokens: tuple[TokenVectors, ...] | None
    token_counts: Sequence[int]
    tokenize_s: float
    queue_s: float
    embed_s: float


class ModelServer:
    """What the model-server routes call. Its coroutines run on one event loop; texts are prepared in threads.

    Each coroutine raises ModelRequestError, and gives up after ``server.model_server.timeout_s``.
    """

    def __init__(self, pipeline: Pipeline, metrics: Metrics, tracing: Tracing) -> None:
        self._pipeline = pipeline
        self._config = pipeline.config
        self.settings = pipeline.config.server.model_server
        self.max_texts = pipeline.config.server.limits.max_texts
        self._metrics = metrics
        self._tracing = tracing
        self.tokenization_workers = usable_cores()
        self._threads = CapacityLimiter(self.tokenization_workers)
        self._embeddings = Gate("embedding", self.settings.max_concurrent_requests)
        self._rankings = Gate("ranking", self.settings.max_concurrent_rankings)
        self._token_vectors = TokenBudget(self.settings.max_token_vectors)
        self.worker = EmbeddingWorker(
            lambda: pipeline.embedder, self.settings.max_batch_tokens, self.settings.max_queued_tokens, self._on_batch
        )
        self._text_rankings = TextRankings(
            self.settings, lambda report: metrics.observe_pair_batch(report.token_counts), self._threads
        )
        metrics.watch_queue(
            lambda: self.worker.queued_requests + self._text_rankings.queued_requests,
            lambda: self.worker.queued_tokens + self._text_rankings.queued_tokens,
        )

    @cached_property
    def embedder(self) -> Embedder:
        """The pipeline's embedder. Opening it may take a while: not to be asked for on the event loop first.

        Raises ModelRequestError (backend) when it cannot be opened; the worker's log says why.
        """
        try:
            return self._pipeline.embedder
        except RagstackError as error:
            raise ModelRequestError("backend", "The embedding model cannot be loaded.") from error

    @property
    def has_reranker(self) -> bool:
        """False where the config keeps the fused order: there is nothing that could rank texts."""
        return self._config.reranker.type != "none"

    @property
    def model_names(self) -> tuple[str, ...]:
        """Every name that a request may give; the model's own first."""
        configured = getattr(self._config.embedder, "model", None)
        own = (self.embedder.info.name, *((configured,) if configured else ()), PIPELINE_MODEL)
        return tuple(dict.fromkeys((*own, *self.settings.model_names)))

    async def embed(
        self,
        given: TextInput,
        *,
        param: str,
        model: str | None = None,
        input_type: InputType | None = None,
        truncate: Truncate = "NONE",
        outputs: tuple[Output, ...] = ("dense",),
    ) -> EmbeddedTexts:
        """Vectors of what a request gives as ``param``. Without ``input_type``, texts are passages.

        ``model`` may end in ``-query`` or ``-passage``, as NIM has it, which stands for ``input_type``.
        """

        def prepare() -> tuple[str, InputType, PreparedTexts]:
            name, named_type = self._resolve(model, self.model_names)
            of_type = input_type or named_type or "passage"
            self.check_size(given, param)
            if "tokens" in outputs and not self.embedder.info.token_dim:
                raise ModelRequestError("unsupported", f"{name} gives no vectors of tokens")
            texts = texts_of(self.embedder, given, param)
            return name, of_type, prepare_texts(self.embedder, texts, of_type, truncate, param)

        with self._embeddings.entered(self.worker.retry_after_s):
            async with self._in_time():
                started = time.perf_counter()
                name, of_type, prepared = await self._prepared(prepare, given)
                tokenized = time.perf_counter()
                held = sum(prepared.cost) if "tokens" in outputs else 0
                with self._token_vectors.held(held, self.worker.retry_after_s):
                    embedded = await self._embed(prepared, of_type, outputs)
                done = time.perf_counter()
        vectors = embedded.embeddings
        assert vectors.dense is not None  # it was asked for
        steps = (tokenized - started, embedded.queue_s, done - tokenized - embedded.queue_s)
        stages = dict(zip(("tokenize", "queue", "embed"), steps, strict=True))
        self._observe("ragstack.embed", stages, len(prepared.texts), sum(prepared.token_counts))
        return EmbeddedTexts(name, vectors.dense, vectors.tokens, prepared.token_counts, *steps)

    async def rank(
        self,
        query: str,
        texts: Sequence[str],
        *,
        param: str,
        model: str | None = None,
        truncate: Truncate = "NONE",
        with_corpus: bool = True,
    ) -> list[Ranking]:
        """Texts by how well they answer the query, best first; of equal ones, the first given comes first.

        A text's score does not depend on the others. ``with_corpus``: late interaction weighs the query's tokens by how
        rare they are in the index, where there is one; without it, all count the same.
        """
        if not self.has_reranker:
            raise ModelRequestError(
                "no_reranker",
                "model is not a re-ranker model",
                hint="The server's config has `reranker: {type: none}`.",
            )

        def check() -> None:
            self._resolve(model, (*self.model_names, *reranker_names(self._config)))
            if not query:
                raise ModelRequestError("empty", "`query` cannot be empty", param="query")
            if not texts:
                raise ModelRequestError("empty", f"`{param}` cannot be empty", param=param)
            self.check_size(texts, param)
            check_readable([query], "query")
            check_readable(texts, param)

        if not compares_vectors(text_reranker(self._config)):
            return await self._rank_by_text(query, texts, check)

        def prepare() -> tuple[PreparedTexts, PreparedTexts]:
            check()
            return (
                prepare_texts(self.embedder, [query], "query", truncate, "query"),
                prepare_texts(self.embedder, texts, "passage", truncate, param),
            )

        outputs: tuple[Output, ...] = ("dense", "tokens")
        with self._rankings.entered(self.worker.retry_after_s):
            async with self._in_time():
                prepared = await self._prepared(prepare, [query, *texts])
                started = time.perf_counter()
                with self._token_vectors.held(sum(prepared[1].cost), self.worker.retry_after_s):
                    asked, passages = await asyncio.gather(
                        self._embed(prepared[0], "query", outputs), self._embed(prepared[1], "passage", outputs)
                    )
                    embedded = time.perf_counter()
                    ranked = await self._in_thread(lambda: self._rank(query, texts, asked, passages, with_corpus))
        stages = {"embed": embedded - started, "rerank": time.perf_counter() - embedded}
        tokens = sum(sum(one.token_counts) for one in prepared)
        self._observe("ragstack.rank", stages, 1 + len(texts), tokens)
        return ranked

    async def in_thread(self, call: Callable[[], _Result]) -> _Result:
        """Run what needs the embedder's tokenizer, within the same limits as an embedding request."""
        with self._embeddings.entered(self.worker.retry_after_s):
            async with self._in_time():
                return await self._in_thread(call)

    async def encoded(self, vectors: Float32Array, encode: Callable[[], bytes]) -> bytes:
        """A response's body: many vectors are written in a thread, for they would hold up the event loop."""
        return encode() if vectors.size <= _FLOATS_AT_ONCE else await self._in_thread(encode)

    async def _embed(self, prepared: PreparedTexts, input_type: InputType, outputs: tuple[Output, ...]) -> Embedded:
        return await self.worker.embed(prepared.texts, prepared.cost, input_type, outputs)

    def _rank(
        self, query: str, texts: Sequence[str], asked: Embedded, passages: Embedded, with_corpus: bool
    ) -> list[Ranking]:
        of_query, of_texts = asked.embeddings, passages.embeddings
        assert of_query.dense is not None and of_query.tokens is not None  # both were asked for
        assert of_texts.dense is not None and of_texts.tokens is not None
        store = token_vectors_of_texts(self._config, dict(zip(text_ids(len(texts)), of_texts.tokens, strict=True)))
        tokens = store.prepare(of_query.tokens[0])
        idf = corpus_idf(self._config, self._pipeline.state_dir, tokens) if with_corpus else no_idf(len(tokens))
        asking = RerankQuery(query, of_query.dense[0], tokens, idf)
        reranker = self._pipeline.text_reranker or build_text_reranker(self._config, store)
        return rankings(rank_in_order(reranker, asking, texts, of_texts.dense @ of_query.dense[0]))

    async def _rank_by_text(self, query: str, texts: Sequence[str], check: Callable[[], None]) -> list[Ranking]:
        """With a reranker that reads nothing but the texts. It gives up when the client leaves or the time is over."""

        def checked_reranker() -> Reranker:
            check()
            with told_as_request_errors():
                reranker = self._pipeline.text_reranker
            assert reranker is not None  # it was looked at before
            return reranker

        with self._rankings.entered(self._text_rankings.retry_after_s):
            async with self._in_time():
                started = time.perf_counter()
                reranker = await self._in_thread(checked_reranker)
                ranked = await self._text_rankings.rank(reranker, query, texts)
        self._observe("ragstack.rank", {"rerank": time.perf_counter() - started}, 1 + len(texts), 0)
        return ranked

    def close(self) -> None:
        """Refuse what waits, and end the threads that run the models. Idempotent."""
        self.worker.close()
        self._text_rankings.close()

    def _resolve(self, model: str | None, known: Sequence[str]) -> tuple[str, InputType | None]:
        if model is None or model in known:
            return model or known[0], None
        input_type: InputType
        for input_type in ("query", "passage"):
            if model.removesuffix(f"-{input_type}") in known:
                return model, input_type
        raise ModelRequestError(
            "unknown_model",
            f"The model `{model[:200]}` does not exist or you do not have access to it.",
            hint=f"Served here: {', '.join(known)}.",
            param="model",
        )

    def check_size(self, given: Sequence[object] | str, param: str) -> None:
        """Raises ModelRequestError for more texts than one request may have."""
        is_one = isinstance(given, str) or (bool(given) and isinstance(given[0], int))
        size, most = 1 if is_one else len(given), self.max_texts
        if size > most:
            raise ModelRequestError(
                "batch_too_large", f"batch size {size} > maximum allowed batch size {most}", param=param
            )

    async def _prepared(self, prepare: Callable[[], _Result], given: TextInput | Sequence[str]) -> _Result:
        """Tokenise here what takes a fraction of a millisecond: handing it to a thread and back takes longer."""
        is_open = "embedder" in self.__dict__
        return prepare() if is_open and is_short(given, _SHORT) else await self._in_thread(prepare)

    async def _in_thread(self, call: Callable[[], _Result]) -> _Result:
        # A client that leaves is let go at once; the thread ends its few milliseconds of work.
        return await anyio.to_thread.run_sync(call, limiter=self._threads, abandon_on_cancel=True)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            with anyio.fail_after(self.settings.timeout_s):
                yield
        except TimeoutError as error:
            raise ModelRequestError(
                "timeout",
                f"The request was not done within {self.settings.timeout_s:g} s.",
                hint="Send fewer texts at a time, or try again when the server is less busy.",
                retry_after_s=self.worker.retry_after_s(),
            ) from error

    def _observe(self, name: str, stages: Mapping[str, float], texts: int, tokens: int) -> None:
        self._metrics.tokens.inc(tokens)
        for stage, seconds in stages.items():
            self._metrics.observe_stage(stage, seconds)
        self._tracing.stages(name, stages, {"ragstack.texts": texts, "ragstack.tokens": tokens})

    def _on_batch(self, report: BatchReport) -> None:
        self._metrics.observe_batch(report.texts, report.token_counts, self.embedder)


@asynccontextmanager
async def serving_models(pipeline: Pipeline, metrics: Metrics, tracing: Tracing) -> AsyncIterator[ModelServer]:
    """A model server whose worker runs inside the block; the weights are loaded at once, in its thread."""
    models = ModelServer(pipeline, metrics, tracing)
    models.worker.start()
    try:
        yield models
    finally:
        await anyio.to_thread.run_sync(models.close)
