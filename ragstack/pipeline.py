"""One pipeline, opened for use from Python: index, query, stream, verify.

import ragstack

with ragstack.open("ragstack.yaml") as pipeline:
    pipeline.index("docs/")
    print(pipeline.query("How long are records kept?").text)
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ragstack.assembly import (
    SharedIndex,
    build_embedder,
    build_store,
    build_text_reranker,
    snapshot_pins,
    text_reranker,
)
from ragstack.cancellation import Cancellation
from ragstack.citations.chain import Chain
from ragstack.citations.verify import Finding, load_chain, verify_chain
from ragstack.config.loader import LoadedConfig, load_config, parse_config
from ragstack.config.models import PipelineConfig, RootConfig
from ragstack.embedding.base import Embedder
from ragstack.errors import IndexStateError, InputError, StoreUnavailableError
from ragstack.filters import Filter, as_filter
from ragstack.generation.base import Turn
from ragstack.indexer.erase import EraseReport, erase
from ragstack.indexer.interruption import Interruption
from ragstack.indexer.report import IndexProgress, IndexReport
from ragstack.indexer.run import IndexRequest, index
from ragstack.indexer.source_files import SourceFiles
from ragstack.ledger.schema import LEDGER_FILE
from ragstack.ledger.snapshot import no_index
from ragstack.reranking.base import Reranker, close_reranker
from ragstack.retrieval.engine import QueryEngine, QueryRequest
from ragstack.retrieval.events import QueryEvent
from ragstack.retrieval.evidence import open_evidence
from ragstack.retrieval.explain.chain import changes_too_often, explain_chain
from ragstack.retrieval.explain.explanation import Explanation
from ragstack.retrieval.explain.session import open_session
from ragstack.retrieval.explain.target import Expected, parse_expected
from ragstack.retrieval.result import QueryResult

_END = object()
_FILES_KEPT = 4
_EXPLAIN_ATTEMPTS = 4


def open_pipeline(
    config: str | os.PathLike[str] | Mapping[str, Any] | PipelineConfig | None = None,
    *,
    state_dir: str | os.PathLike[str] | None = None,
) -> Pipeline:
    """Open a pipeline: a YAML file, the same as a mapping, a parsed config, or None.

    None means ``./ragstack.yaml``, or the built-in default without one. ``state_dir`` replaces
    ``indexer.state_dir``. Nothing is loaded or locked until it is used. Raises ConfigError, InputError.
    """
    loaded = _loaded(config)
    if state_dir is not None:
        indexer = loaded.config.indexer.model_copy(update={"state_dir": os.fspath(state_dir)})
        changed = loaded.config.model_copy(update={"indexer": indexer})
        loaded = LoadedConfig(changed, loaded.origin, loaded.path, loaded.places)
    return Pipeline(loaded)


@dataclass
class _Held:
    """What a pipeline has opened, and in which process: 0 before anything was."""

    stack: ExitStack = field(default_factory=ExitStack)
    pid: int = 0

    def release(self) -> None:
        # In a forked child these are the parent's: giving back its lock or ending its transactions would be its harm.
        if self.pid == os.getpid():
            self.stack.close()


class Pipeline:
    """An opened pipeline. Safe to use from several threads; queries go on while it indexes.

    Store and model are opened on first use and held until :meth:`close`, or until nobody refers to the pipeline any
    more; with the embedded store, other processes cannot open the index meanwhile. It belongs to the process that
    opened it: a forked child opens its own, and pickling it is an error.
    """

    def __init__(self, loaded: LoadedConfig) -> None:
        self._loaded = loaded
        self._held = _Held()
        self._release = weakref.finalize(self, self._held.release)
        self._opening = threading.RLock()
        self._writing = threading.Lock()
        self._writer: int | None = None
        self._shared: SharedIndex | None = None
        self._embedder: Embedder | None = None
        self._text_reranker: Reranker | None = None
        self._engine: QueryEngine | None = None
        self._closed = False

    @property
    def config(self) -> PipelineConfig:
        """The pipeline's config."""
        return self._loaded.config

    @property
    def loaded(self) -> LoadedConfig:
        """The config with the places in the file that it came from."""
        return self._loaded

    @property
    def state_dir(self) -> Path:
        """The folder of ledger, archive and embedded store."""
        return Path(self.config.indexer.state_dir)

    @property
    def embedder(self) -> Embedder:
        """The embedder of the config; the pipeline closes it."""
        self._require_open()
        with self._opening:
            self._require_open()
            if self._embedder is None:
                self._embedder = build_embedder(self.config.embedder)
                self._hold(self._embedder.close)
            return self._embedder

    @property
    def text_reranker(self) -> Reranker | None:
        """What ranks texts that are in no index; the pipeline closes it.

        None for late interaction, which is made anew for the token vectors of each set of texts.
        """
        self._require_open()
        if text_reranker(self.config).type == "late_interaction":
            return None
        with self._opening:
            self._require_open()
            if self._text_reranker is None:
                self._text_reranker = made = build_text_reranker(self.config, None)
                self._hold(lambda: close_reranker(made))
            return self._text_reranker

    @property
    def engine(self) -> QueryEngine:
        """The query engine. Raises IndexNotFoundError without an index, IndexLockedError while another holds it."""
        self._require_open()
        with self._opening:
            self._require_open()
            if self._engine is None:
                if not (self.state_dir / LEDGER_FILE).exists():
                    raise no_index(self.state_dir)  # before a store is made for it
                self._engine = QueryEngine(self.config, self.state_dir, self.shared, self.embedder)
                self._hold(self._engine.close)
            return self._engine

    @property
    def shared(self) -> SharedIndex:
        """The opened store and the pins of its readers. Raises IndexLockedError while another process holds it."""
        self._require_open()
        with self._opening:
            self._require_open()
            if self._shared is None:
                self.state_dir.mkdir(parents=True, exist_ok=True)
                store = build_store(self.config.store, self.state_dir, self.config.indexer.lock_timeout_s)
                self._hold(store.close)
                self._shared = SharedIndex(store, snapshot_pins(store, self.state_dir))
            return self._shared

    def index(
        self,
        *paths: str | os.PathLike[str] | RootConfig,
        prune: bool = False,
        rebuild: bool = False,
        progress: IndexProgress | None = None,
        interruption: Interruption | None = None,
    ) -> IndexReport:
        """Bring the index in line with files and folders; without any, with everything indexed before.

        A RootConfig is a folder with a label of its own.
        Calls from several threads wait for one another; one from ``progress`` raises IndexStateError. Raises what
        :func:`ragstack.indexer.run.index` raises; faults of single files are in the report.
        """
        self._require_open()
        leave_out = [self._loaded.path] if self._loaded.path is not None else []
        targets = [path if isinstance(path, RootConfig) else os.fspath(path) for path in paths]
        request = IndexRequest(targets, prune, rebuild, leave_out)
        with self._as_writer():
            return index(
                self._loaded, self.state_dir, request, progress, self.shared, interruption, embedder=self.embedder
            )

    def erase(self, *sources: str) -> EraseReport:
        """Erase sources (ids, paths, or folders of either) from index, archive and ledger; files are not touched.

        Queries wait until it has ended. Raises what :func:`ragstack.indexer.erase.erase` raises.
        """
        self._require_open()
        with self._as_writer(), self._opening, self._engine.paused() if self._engine else nullcontext():
            return erase(self._loaded, self.state_dir, sources, shared=self.shared)

    def query(
        self,
        text: str,
        *,
        filter: Filter | Mapping[str, Any] | None = None,
        top_n: int | None = None,
        with_answer: bool = True,
        history: Sequence[Turn] = (),
    ) -> QueryResult:
        """Answer a question with its passages, citations and whole chain.

        ``filter`` in its JSON form or parsed; ``top_n`` passages are kept, the config's number without it.
        Raises what :meth:`ragstack.retrieval.engine.QueryEngine.stream` raises before the first event.
        """
        request = QueryRequest(text, as_filter(filter), top_n, with_answer, history)
        return QueryResult(self.engine.query(request))

    async def aquery(
        self,
        text: str,
        *,
        filter: Filter | Mapping[str, Any] | None = None,
        top_n: int | None = None,
        with_answer: bool = True,
        history: Sequence[Turn] = (),
    ) -> QueryResult:
        """:meth:`query` in a thread, for callers that must not block. Cancelling it ends the query."""
        cancellation = Cancellation()
        request = QueryRequest(text, as_filter(filter), top_n, with_answer, history, cancellation)
        try:
            return QueryResult(await asyncio.to_thread(lambda: self.engine.query(request)))
        finally:
            cancellation.request()

    def explain(
        self,
        text: str,
        expected: str | None = None,
        *,
        filter: Filter | Mapping[str, Any] | None = None,
        top_n: int | None = None,
        with_answer: bool = True,
        history: Sequence[Turn] = (),
    ) -> Explanation:
        """Answer a question, and explain how: what became of an expected passage, and where it was lost.

        ``expected`` is ``FILE``, ``FILE:LINE``, ``FILE:FIRST-LAST``, ``FILE@START-END`` (bytes of the canonical text),
        a source id, a chunk id, or a text in quotes; without it, the passages found and near misses are explained.
        Raises what :meth:`query` raises, InputError for a line or a range that is not there, and IndexStateError when
        the index keeps changing meanwhile.
        """
        wanted = None if expected is None else parse_expected(expected)
        request = QueryRequest(text, as_filter(filter), top_n, with_answer, history)
        for _ in range(_EXPLAIN_ATTEMPTS):
            explanation = self.explain_chain(self.engine.query(request), wanted, request.filter)
            if explanation is not None:
                return explanation
        raise changes_too_often()

    def explain_chain(
        self,
        chain: Chain,
        expected: Expected | None,
        filter: Filter | None,
        access_filter: Filter | None = None,
        *,
        with_files: bool = True,
    ) -> Explanation | None:
        """Explain a query that was just answered; None when the index has changed since.

        ``filter`` is the asker's. What ``access_filter`` does not match is as if it were not there, and held beside
        ``filter`` in the query. Without ``with_files`` nothing is told of files and folders.
        """
        files = SourceFiles(self.config, self.state_dir, self._loaded.path) if with_files else None
        with open_session(self.config, self.state_dir, self.engine, self.shared, access_filter) as session:
            return explain_chain(chain, expected, session, filter, files)

    def stream(
        self,
        text: str,
        *,
        filter: Filter | Mapping[str, Any] | None = None,
        top_n: int | None = None,
        history: Sequence[Turn] = (),
    ) -> Generator[QueryEvent, None, None]:
        """What happens while a question is answered: passages, sentences as they are settled, the chain.

        Closing the iterator stops the answer. Raises what :meth:`query` raises, and StoreUnavailableError when the
        pipeline is closed meanwhile.
        """
        with closing(self.engine.stream(QueryRequest(text, as_filter(filter), top_n, True, history))) as events:
            yield from events

    async def astream(
        self,
        text: str,
        *,
        filter: Filter | Mapping[str, Any] | None = None,
        top_n: int | None = None,
        history: Sequence[Turn] = (),
    ) -> AsyncGenerator[QueryEvent, None]:
        """:meth:`stream` in threads, for callers that must not block. Cancelling or closing it ends the query."""
        cancellation = Cancellation()
        request = QueryRequest(text, as_filter(filter), top_n, True, history, cancellation)
        # A cancelled await leaves its thread running, and a generator that runs cannot be closed.
        running = threading.Lock()
        events: Generator[QueryEvent, None, None] | None = None

        def advance() -> Any:
            nonlocal events
            with running:
                if events is None:
                    events = self.engine.stream(request)
                return next(events, _END)

        def close() -> None:
            with running:
                if events is not None:
                    events.close()

        try:
            while (event := await asyncio.to_thread(advance)) is not _END:
                yield event
        finally:
            cancellation.request()
            await asyncio.to_thread(close)

    def verify(self, chain: QueryResult | Chain | Mapping[str, Any] | str | os.PathLike[str]) -> list[Finding]:
        """Check an answer, its chain, the chain's JSON, or a file of it against archive and sources.

        A finding for each place, more where links fail. Raises InputError for what is not a chain.
        """
        with open_evidence(self.state_dir) as evidence:
            # Passages often share a file, and each check reads the whole of it.
            read = lru_cache(maxsize=_FILES_KEPT)(evidence.read)
            return verify_chain(_chain(chain), replace(evidence, read=read))

    def close(self) -> None:
        """Release store, model and files. A run of the indexer ends first; answers under way break off. Idempotent."""
        if self._is_anothers:
            return
        with self._as_writer(), self._opening:
            self._closed = True
            self._release()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a Pipeline holds files and locks and cannot be pickled; open one in each process")

    @property
    def _is_anothers(self) -> bool:
        """True in a forked child of the process that opened something."""
        return self._held.pid not in (0, os.getpid())

    @contextmanager
    def _as_writer(self) -> Iterator[None]:
        if self._writer == threading.get_ident():
            raise IndexStateError(
                "the pipeline is writing its index, and was asked to write or close from within.",
                hint="Do it when index() has returned; to stop a run, give it an Interruption.",
            )
        with self._writing:
            self._writer = threading.get_ident()
            try:
                yield
            finally:
                self._writer = None

    def _hold(self, close: Callable[[], object]) -> None:
        self._held.pid = os.getpid()
        self._held.stack.callback(close)

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the pipeline is closed.", hint="Open it again with ragstack.open().")
        if self._is_anothers:
            raise StoreUnavailableError(
                f"the pipeline was opened by process {self._held.pid}, of which this one is a fork.",
                hint="Open a pipeline in each process, after the fork.",
            )


def _loaded(config: str | os.PathLike[str] | Mapping[str, Any] | PipelineConfig | None) -> LoadedConfig:
    if isinstance(config, PipelineConfig):
        return LoadedConfig(config)
    if isinstance(config, Mapping):
        return parse_config(json.dumps({"version": 1, **config}).encode(), "config", os.environ)
    if config is not None and not isinstance(config, (str, os.PathLike)):
        raise InputError(
            f"a pipeline is opened from a config; got {type(config).__name__}.",
            hint="Pass a YAML file's path, a mapping, a PipelineConfig, or nothing.",
        )
    return load_config(None if config is None else Path(config), os.environ)


def _chain(chain: QueryResult | Chain | Mapping[str, Any] | str | os.PathLike[str]) -> Chain:
    if isinstance(chain, QueryResult):
        return chain.chain
    if isinstance(chain, Chain):
        return chain
    if isinstance(chain, Mapping):
        return load_chain(json.dumps(dict(chain)), "chain")
    try:
        text = Path(chain).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{os.fspath(chain)} cannot be read: {error}.", hint="Name a file with a chain.") from error
    return load_chain(text, os.fspath(chain))
