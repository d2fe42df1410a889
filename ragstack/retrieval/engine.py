"""The query path: embed → retrieve → rerank → passages → answer → chain."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ragstack.adapters.base import VectorStore
from ragstack.archive.sqlite import SqliteArchive
from ragstack.assembly import SharedIndex, build_generator, build_store, snapshot_pins
from ragstack.cancellation import Cancellation
from ragstack.citations.chain import AnswerLink, Chain
from ragstack.citations.places import DocumentReader
from ragstack.config.models import PipelineConfig
from ragstack.embedding.base import Embedder, Embeddings
from ragstack.errors import InputError, StoreUnavailableError
from ragstack.filters import Filter, all_of
from ragstack.generation.base import AnswerEnd, AnswerSentence, ContextPassage, Question, Turn, WeightedTokens
from ragstack.ledger.schema import ARCHIVE_FILE, collection_name
from ragstack.ledger.snapshot import Snapshot, SnapshotReader
from ragstack.reranking.base import RerankScore, preload_reranker
from ragstack.reranking.cascade import stage_errors
from ragstack.retrieval.answering import AnswerWriter
from ragstack.retrieval.candidates import Retriever
from ragstack.retrieval.chain_builder import Found, OpenPassage, build_chain
from ragstack.retrieval.context import ContextBuilder, context_passage
from ragstack.retrieval.events import Answered, PassagesFound, QueryEvent, SentenceWritten
from ragstack.retrieval.generation_parts import GenerationParts
from ragstack.retrieval.stage_clock import StageClock
from ragstack.retrieval.turns import Turns
from ragstack.types import Float32Array


@dataclass(frozen=True)
class QueryRequest:
    """One query. ``filter`` is put beside the config's own; None for the others means the config's value.

    ``history`` are the turns before it, oldest first; the generator words the question so that it stands alone.
    ``cancellation`` ends the query early with InterruptedRunError. ``on_ranked`` is given every reranked candidate,
    best first, also those that no passage is made of.
    """

    text: str
    filter: Filter | None = None
    top_n: int | None = None
    with_answer: bool = True
    history: Sequence[Turn] = ()
    cancellation: Cancellation = field(default_factory=Cancellation)
    on_ranked: Callable[[Sequence[RerankScore]], None] | None = None


@dataclass(frozen=True)
class _Context:
    """What an answer is made of: the question, the relevant passages, and every passage by its rank."""

    question: Question
    relevant: Sequence[ContextPassage]
    passages: Sequence[OpenPassage]


class QueryEngine:
    """Everything that answers queries over one index, opened once and used for many.

    The model and the fields are those the active generation was built with, whatever the config says
    now (``config_differs`` tells); when another generation becomes the active one, the engine moves on
    to it. Safe to share between threads: retrieval is done for one query at a time, reranking and answering side by
    side.
    """

    def __init__(
        self,
        config: PipelineConfig,
        state_dir: Path,
        shared: SharedIndex | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        """``shared`` is given where this process indexes too; the store is opened otherwise.

        ``embedder`` is one that the caller opened for ``config.embedder`` and closes after the engine; it is used
        for the generations that were built with that model.

        Raises IndexNotFoundError without an index, IndexLockedError while another process holds the store.
        """
        self._given = config
        self._lent_embedder = embedder
        self._state_dir = state_dir
        self._turns = Turns()
        self._lock = self._turns.lock
        self._closed = False
        with ExitStack() as stack:
            self._ledger = SnapshotReader(state_dir)
            stack.callback(self._ledger.close)
            snapshot = self._ledger.read()
            if shared is None:
                store = build_store(config.store, state_dir, config.indexer.lock_timeout_s)
                stack.callback(store.close)
                shared = SharedIndex(store, snapshot_pins(store, state_dir))
            self._store, self._pins = shared.store, shared.pins
            archive = SqliteArchive(state_dir / ARCHIVE_FILE)
            stack.callback(archive.close)
            self._documents = DocumentReader(archive)
            self._generator = build_generator(config.generator)
            stack.callback(self._generator.close)
            self._parts = GenerationParts.open(config, snapshot, state_dir, embedder)
            stack.callback(lambda: self._parts.close())  # noqa: PLW0108 - the parts of the time of closing
            self._stack = stack.pop_all()

    @property
    def config_differs(self) -> bool:
        """True when the config says other things than the index was built with."""
        return self._parts.config != self._given

    def close(self) -> None:
        """Release store, files and model. Retrieval under way ends first; answers under way break off. Idempotent."""
        with self._lock:
            self._closed = True
            self._stack.close()

    def __enter__(self) -> QueryEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A block in which no query reads the index; afterwards nothing of what was erased meanwhile is held."""
        with self._turns.alone():
            try:
                yield
            finally:
                self._documents.forget()
                self._parts_of(self._ledger.read())

    def warm_up(self) -> None:
        """Load model and store at the same time, so that the first query is as quick as the next."""
        with ThreadPoolExecutor(2, "warm-up") as pool:
            model = pool.submit(self._parts.embedder.embed, ["warm up"], "query", ("dense",))
            reranker = pool.submit(preload_reranker, self._parts.reranker)
            self._store.count(collection_name(self._parts.generation))
            for loading in (model, reranker):
                loading.result()

    def query(self, request: QueryRequest) -> Chain:
        """Answer one query with its whole chain. Raises what :meth:`stream` raises."""
        with closing(self._events(request)) as events:
            for event in events:
                if isinstance(event, Answered):
                    return event.chain.sealed()
        raise AssertionError("a stream of query events ends with the answer")

    def stream(self, request: QueryRequest) -> Generator[QueryEvent, None, None]:
        """The passages, the sentences of the answer as they are settled, and the whole chain at the end.

        Closing the iterator stops the generator. A fault of the language model is in ``chain.answer.error``, and
        the passages stand. Raises InputError for an empty text, a text longer than the model reads, or a bad
        ``top_n``; FilterError for a filter that names an undeclared field; GenerationError when earlier turns have
        to be condensed and the model cannot be asked. All of these come before the first event; InterruptedRunError
        after ``request.cancellation`` was asked, and StoreUnavailableError after :meth:`close`, may come at any time.
        """
        passages: PassagesFound | None = None
        with closing(self._events(request)) as events:
            for event in events:
                if isinstance(event, PassagesFound):
                    passages = PassagesFound(event.chain.sealed())
                    yield passages
                elif isinstance(event, Answered):
                    same = None if request.with_answer else passages
                    yield Answered(event.chain.sealed() if same is None else same.chain)
                else:
                    yield event

    def _events(self, request: QueryRequest) -> Generator[QueryEvent, None, None]:
        """As :meth:`stream`, with chains that are not sealed."""
        self._require_open()
        try:
            yield from self._answered(request)
        except Exception:
            # What is closed under a query fails in its own words, and some of them speak of damage.
            self._require_open()
            raise

    def _answered(self, request: QueryRequest) -> Generator[QueryEvent, None, None]:
        retrieval = self._given.retrieval
        top_n = retrieval.top_n if request.top_n is None else request.top_n
        if not 1 <= top_n <= retrieval.rerank_k:
            raise InputError(f"top_n must be between 1 and rerank_k ({retrieval.rerank_k}); got {top_n}.")
        if not isinstance(request.text, str) or not request.text.strip():
            raise InputError("the query is empty.", hint="Ask a question: ragstack query 'How do I ...?'")
        clock = StageClock()
        search_text = request.text
        if request.history:
            with clock.stage("condense"):
                search_text = self._generator.condense(request.history, request.text)
        with self._parts_in_use() as current:
            asked = self._ask_for_query(search_text, current, request.cancellation, clock)
            with self._lock, self._pins.reading() as hold:
                self._require_open()
                request.cancellation.check()  # it may have waited long for its turn
                chain, context = self._retrieve(request, search_text, top_n, hold, current, clock, asked)
            found = chain.with_timings(clock.seconds)
            yield PassagesFound(found)
            if not request.with_answer:
                yield Answered(found)
                return
            with clock.stage("answer"):
                answer = yield from self._answer(context)
            yield Answered(chain.model_copy(update={"answer": answer}).with_timings(clock.seconds))

    @contextmanager
    def reading(self) -> Iterator[tuple[VectorStore, str]]:
        """A block in which the store and the name of its collection that answers now may be read."""
        with self._lock, self._pins.reading() as hold:
            self._require_open()
            snapshot = self._ledger.read()
            hold(snapshot)
            yield self._store, collection_name(snapshot.generation)

    @contextmanager
    def parts_of(self, snapshot: Snapshot) -> Iterator[GenerationParts]:
        """A block with the model and reranker of the snapshot's generation; to be entered inside :meth:`reading`."""
        with self._parts_in_use() as use:
            yield use(self._parts_of(snapshot))

    def _ask_for_query(
        self, text: str, in_use: _InUse, cancellation: Cancellation, clock: StageClock
    ) -> tuple[GenerationParts, Embeddings] | None:
        """The question's vectors where another server makes them: asked for before it is this query's turn.

        With the parts whose model it was; None for a model on this machine, which queries share in turn.
        """
        with self._lock:
            self._require_open()
            if not self._parts.asks_a_server:
                return None
            with self._pins.reading() as hold:
                snapshot = self._ledger.read()
                hold(snapshot)
                parts = in_use(self._parts_of(snapshot))
        with clock.stage("embed"):
            return parts, parts.ask_for_query(text, snapshot, cancellation)

    def _retrieve(
        self,
        request: QueryRequest,
        search_text: str,
        top_n: int,
        hold: Callable[[Snapshot], None],
        in_use: _InUse,
        clock: StageClock,
        asked: tuple[GenerationParts, Embeddings] | None,
    ) -> tuple[Chain, _Context]:
        """The chain without an answer, and what an answer is to be made of.

        ``asked`` is what :meth:`_ask_for_query` gave.
        """
        retrieval = self._given.retrieval
        with clock.stage("embed"), self._ledger.consistent():
            snapshot = self._ledger.read()
            hold(snapshot)
            parts = in_use(self._parts_of(snapshot))
            frequencies = partial(self._frequencies, snapshot.generation)
            # Another generation may answer since then, with another model.
            made = asked[1] if asked is not None and asked[0] is parts else None
            query, legs = parts.encode_query(search_text, snapshot, frequencies, made)
        retriever = Retriever(self._store, retrieval, parts.search_params)
        pinned = all_of(retrieval.parsed_filter(), request.filter)
        with clock.stage("retrieve"):
            hits = retriever.candidates(legs, snapshot, pinned, retrieval.top_k)
        with clock.stage("rerank"):
            considered = hits[: retrieval.rerank_k]
            candidates = retriever.with_scores(legs, considered, snapshot)
            with self._turns.waiting():
                ranked = parts.reranker.rerank(replace(query, cancellation=request.cancellation), candidates)
        if request.on_ranked is not None:
            request.on_ranked(ranked)
        min_relevance = retrieval.min_relevance
        if min_relevance is None:
            min_relevance = parts.reranker.min_relevance
        # One passage that answers makes its weaker neighbours worth showing; the answer rests on relevant ones alone.
        is_answered = any(score.relevance >= min_relevance for score in ranked)
        payloads = {hit.id: hit.payload for hit in considered}
        with clock.stage("cite"):
            builder = ContextBuilder(retrieval, self._store, self._ledger, snapshot)
            passages = builder.passages(ranked, payloads, top_n) if is_answered else []
            opened = [OpenPassage.open(passage, self._documents, self._ledger.source_uri) for passage in passages]
            found = Found(
                request.text, search_text, pinned, snapshot, hits, opened, top_n, min_relevance, parts.reranker.name
            )
            chain = build_chain(found, parts.config, stage_errors(ranked))
        relevant = [(rank, p) for rank, p in enumerate(opened, 1) if p.passage.score.relevance >= min_relevance]
        tokens = parts.passage_tokens([each.passage for _, each in relevant]) if request.with_answer else {}
        question = Question(
            search_text,
            WeightedTokens(query.tokens, query.token_idf),
            lambda text: parts.tokens_of(text, snapshot, frequencies),
            request.cancellation,
        )
        context = [context_passage(rank, each, tokens) for rank, each in relevant if request.with_answer]
        return chain, _Context(question, context, opened)

    def _answer(self, context: _Context) -> Generator[SentenceWritten, None, AnswerLink]:
        """Yields the sentences; the whole answer is what the iterator returns."""
        writer = AnswerWriter(self._generator.name, context.passages)
        end = AnswerEnd()
        if context.relevant:  # a model is not asked what nothing answers
            with closing(self._generator.stream(context.question, context.relevant)) as events:
                for event in events:
                    self._require_open()
                    if isinstance(event, AnswerSentence):
                        yield writer.add(event)
                    else:
                        end = event
        return writer.finish(end)

    def _frequencies(self, generation: int, kind: int, ids: Sequence[int]) -> Float32Array:
        with self._lock:  # one connection, any one thread at a time
            return self._ledger.frequencies(generation, kind, ids)

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the index was closed, perhaps under this query.", hint="Open it again.")

    def _parts_of(self, snapshot: Snapshot) -> GenerationParts:
        if snapshot.generation != self._parts.generation:
            old, self._parts = (
                self._parts,
                GenerationParts.open(self._given, snapshot, self._state_dir, self._lent_embedder),
            )
            old.retired = True
            self._close_if_unused(old)
        return self._parts

    @contextmanager
    def _parts_in_use(self) -> Iterator[_InUse]:
        """A block in which the parts that it names are kept open, though another generation may become active."""
        used: list[GenerationParts] = []

        def use(parts: GenerationParts) -> GenerationParts:
            parts.users += 1
            used.append(parts)
            return parts

        try:
            yield use
        finally:
            with self._lock:
                for parts in used:
                    parts.users -= 1
                    self._close_if_unused(parts)

    @staticmethod
    def _close_if_unused(parts: GenerationParts) -> None:
        if parts.retired and parts.users == 0:
            parts.close()


_InUse = Callable[[GenerationParts], GenerationParts]
