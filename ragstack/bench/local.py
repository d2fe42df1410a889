"""What is measured in this process: the config's embedder, its reranker, and its index.

Requests are made by as many threads as may be under way, as a server makes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

from tokenizers import Tokenizer

from ragstack.assembly import build_text_reranker, compares_vectors, text_reranker, token_vectors_of_texts
from ragstack.bench.load import Good, Outcome
from ragstack.bench.plan import EmbedLoad, Load, RerankLoad
from ragstack.bench.target import RequestFailedError, Target, TargetFacts
from ragstack.bench.work import AnyWork, Question, RerankWork, TextWork, WorkMaker
from ragstack.cancellation import Cancellation
from ragstack.config.models import PipelineConfig
from ragstack.embedding.base import Embedder, VocabularyTokenizer
from ragstack.errors import InputError, RagstackError
from ragstack.inference.batch_counts import BatchTokens
from ragstack.pipeline import Pipeline
from ragstack.reranking.base import Reranker, RerankQuery, no_idf
from ragstack.retrieval.engine import QueryRequest
from ragstack.retrieval.text_ranking import bare_query, rank_in_order, text_ids

Call = Callable[[AnyWork], Mapping[str, float]]
"""Does some work and gives the seconds of its stages, where it has any."""


@runtime_checkable
class ReadsPairs(Protocol):
    """A reranker whose model reads query and passage together, with a tokenizer of its own."""

    name: str

    def tokenizer(self) -> Tokenizer: ...

    def pair_tokens(self, query: str, passages: Sequence[str]) -> list[int]: ...


class Measurable(Protocol):
    """What a kind of work is done with, in this process."""

    def call(self, work: AnyWork) -> Mapping[str, float]:
        """Do some work; gives the seconds of its stages, where it has any. Raises RagstackError."""

    def check(self, loads: Sequence[Load]) -> None:
        """Raise InputError for loads that can never be done."""

    def batch_tokens(self) -> BatchTokens | None:
        """See :class:`ragstack.bench.target.Target`."""

    @property
    def model(self) -> str: ...

    def facts(self) -> dict[str, Any]:
        """What else is known of it."""


@dataclass
class LocalEndpoint:
    """See :class:`ragstack.bench.target.Endpoint`; ``threads`` is the largest concurrency of its loads."""

    kind: str
    measured: Measurable
    maker: WorkMaker
    threads: int
    _pool: ThreadPoolExecutor | None = field(default=None, init=False)

    is_remote = False

    def check(self, loads: Sequence[Load]) -> None:
        """See :class:`ragstack.bench.target.Endpoint`."""
        self.measured.check(loads)

    def facts(self) -> TargetFacts:
        """See :class:`ragstack.bench.target.Endpoint`."""
        return TargetFacts("local", self.measured.model, self.maker.tokenizer_name, self.measured.facts())

    def target(self, load: Load) -> Target:
        """See :class:`ragstack.bench.target.Endpoint`."""
        return _LocalTarget(self, load)

    async def close(self) -> None:
        """End the threads; model and index are the pipeline's."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)

    def pool(self) -> ThreadPoolExecutor:
        """The threads."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="ragstack-bench")
        return self._pool


@dataclass(frozen=True)
class _LocalTarget:
    endpoint: LocalEndpoint
    load: Load

    def request(self, number: int) -> _LocalRequest:
        return _LocalRequest(self.endpoint, self.endpoint.maker.work(self.load, number))

    def batch_tokens(self) -> BatchTokens | None:
        return self.endpoint.measured.batch_tokens()


@dataclass
class _LocalRequest:
    endpoint: LocalEndpoint
    work: AnyWork
    stages_s: Mapping[str, float] = field(default_factory=dict)

    async def send(self) -> None:
        running = asyncio.get_running_loop().run_in_executor(
            self.endpoint.pool(), self.endpoint.measured.call, self.work
        )
        try:
            self.stages_s = await running
        except RagstackError as error:
            raise RequestFailedError(type(error).__name__, error.message) from error

    def outcome(self) -> Outcome:
        return Good(self.work.counted, None, self.stages_s)


@dataclass(frozen=True)
class LocalEmbedder:
    """Embeds texts with the config's embedder."""

    embedder: Embedder

    def call(self, work: AnyWork) -> Mapping[str, float]:
        """See :class:`Measurable`."""
        assert isinstance(work, TextWork)
        self.embedder.embed(work.texts, work.input_type)
        return {}

    def check(self, loads: Sequence[Load]) -> None:
        """Nothing longer than the model reads."""
        for load in loads:
            if isinstance(load, EmbedLoad):
                require_readable(self.embedder, load.tokens.high)

    def batch_tokens(self) -> BatchTokens | None:
        """See :class:`Measurable`."""
        return _batch_tokens(self.embedder)

    @property
    def model(self) -> str:
        """The model's name."""
        return self.embedder.info.name

    def facts(self) -> dict[str, Any]:
        """Profile, device and budget."""
        return _placement(self.embedder)


@dataclass
class LocalReranker:
    """Ranks texts as the model server does: one that compares vectors has them made by the embedder first."""

    pipeline: Pipeline

    def call(self, work: AnyWork) -> Mapping[str, float]:
        """See :class:`Measurable`."""
        assert isinstance(work, RerankWork)
        config = self.pipeline.config
        if compares_vectors(text_reranker(config)):
            self._by_vectors(config, work)
        else:
            reranker = cast(Reranker, self.pipeline.text_reranker)
            rank_in_order(reranker, bare_query(work.query, Cancellation()), work.passages)
        return {}

    def check(self, loads: Sequence[Load]) -> None:
        """Nothing longer than the embedder reads, where it reads the texts."""
        if text_reranker(self.pipeline.config).type == "none":
            raise InputError("the config has no reranker.", hint="Name another config with -c, or a server with --url.")
        if not compares_vectors(text_reranker(self.pipeline.config)):
            return
        for load in loads:
            if isinstance(load, RerankLoad):
                require_readable(self.pipeline.embedder, load.tokens.high - load.query_tokens)

    def batch_tokens(self) -> BatchTokens | None:
        """See :class:`Measurable`."""
        if compares_vectors(text_reranker(self.pipeline.config)):
            return _batch_tokens(self.pipeline.embedder)
        return _batch_tokens(self.pipeline.text_reranker)

    @property
    def model(self) -> str:
        """The reranker's name."""
        block = text_reranker(self.pipeline.config)
        own = self.pipeline.text_reranker
        return block.type if own is None else own.name

    def facts(self) -> dict[str, Any]:
        """Profile, device and budget of what runs the model."""
        if compares_vectors(text_reranker(self.pipeline.config)):
            return {"embedder": self.pipeline.embedder.info.name, **_placement(self.pipeline.embedder)}
        return _placement(self.pipeline.text_reranker)

    def _by_vectors(self, config: PipelineConfig, work: RerankWork) -> None:
        embedder = self.pipeline.embedder
        asked = embedder.embed([work.query], "query", ("dense", "tokens"))
        passages = embedder.embed(work.passages, "passage", ("dense", "tokens"))
        assert asked.dense is not None and asked.tokens is not None  # they were asked for
        assert passages.dense is not None and passages.tokens is not None
        ids = text_ids(len(work.passages))
        store = token_vectors_of_texts(config, dict(zip(ids, passages.tokens, strict=True)))
        tokens = store.prepare(asked.tokens[0])
        query = RerankQuery(work.query, asked.dense[0], tokens, no_idf(len(tokens)))
        reranker = self.pipeline.text_reranker or build_text_reranker(config, store)
        rank_in_order(reranker, query, work.passages, passages.dense @ asked.dense[0])


@dataclass(frozen=True)
class LocalQueries:
    """Asks the config's index."""

    pipeline: Pipeline
    top_n: int | None
    with_answer: bool

    def call(self, work: AnyWork) -> Mapping[str, float]:
        """See :class:`Measurable`."""
        assert isinstance(work, Question)
        chain = self.pipeline.engine.query(QueryRequest(work.text, None, self.top_n, self.with_answer))
        if chain.answer is not None and chain.answer.error is not None:
            raise RagstackError(f"no answer: {chain.answer.error.message}")
        return chain.timings_s

    def check(self, loads: Sequence[Load]) -> None:
        """Opens the index and loads the model. Raises IndexNotFoundError, IndexLockedError."""
        self.pipeline.engine.warm_up()

    def batch_tokens(self) -> BatchTokens | None:
        """Not told: a query embeds one text."""
        return None

    @property
    def model(self) -> str:
        """The embedder's name."""
        return self.pipeline.embedder.info.name

    def facts(self) -> dict[str, Any]:
        """Profile, device and budget of the embedder; what orders the passages."""
        return {"reranker": self.pipeline.config.reranker.type, **_placement(self.pipeline.embedder)}


def require_readable(embedder: Embedder, tokens: int) -> None:
    """Raise InputError for texts of more tokens, special ones included, than the model reads."""
    tokenizer = embedder.tokenizer
    specials = tokenizer.specials if isinstance(tokenizer, VocabularyTokenizer) else 0
    most = embedder.info.max_tokens + specials
    if tokens > most:
        raise InputError(
            f"{embedder.info.name} reads at most {most} tokens of a text, special ones included; {tokens} were asked"
            " for.",
            hint="Lower --tokens.",
        )


def _batch_tokens(part: object) -> BatchTokens | None:
    """What a part that runs a model here counts of its batches."""
    found = getattr(part, "batch_tokens", None)
    return found if isinstance(found, BatchTokens) else None


def _placement(part: object) -> dict[str, Any]:
    """Where a part runs, where it says so."""
    names = ("profile", "device", "max_batch_tokens")
    return {name: getattr(part, name) for name in names if getattr(part, name, None) is not None}
