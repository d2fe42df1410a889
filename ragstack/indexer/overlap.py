"""The two threads beside the embedder: files prepared a few ahead, groups written a few steps behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from ragstack.embedding.base import Embedder, PipelinedEmbedder
from ragstack.indexer.discovery import FoundFile
from ragstack.indexer.interruption import Interruption
from ragstack.indexer.prepare import Outcome, Prepared
from ragstack.indexer.staging import EmbeddedBatch, Stager

_FILES_AHEAD = 16
_STAGES_AHEAD = 2
_OPTIMIZE_EVERY = 20_000
"""Chunks between two calls to the store's ``optimize``: what was not optimised lies in memory, in some stores."""


class Writer:
    """Runs staging and publishing in one thread, in order, a few steps behind the caller.

    An error of a step is raised by a later call, or at the end of the ``with`` block; steps behind a failed
    one are not run, so nothing is published that was not staged. After the block no step is running,
    whatever ended it. ``optimize`` is called between publications, whenever many chunks were published.
    """

    def __init__(self, stager: Stager, interruption: Interruption, optimize: Callable[[], object]) -> None:
        self._stager = stager
        self._optimize = optimize
        self._not_optimized = 0
        self._interruption = interruption
        self._pool = ThreadPoolExecutor(1, "stage")
        self._pending: deque[Future[None]] = deque()
        self._failed = False

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._wait(0)
        finally:
            self._shut()

    def _shut(self) -> None:
        while True:
            try:
                self._pool.shutdown(wait=True, cancel_futures=True)
            except KeyboardInterrupt:
                # Impatience must not leave a step running beside the clean-up that follows.
                continue
            return

    def stage(self, batch: EmbeddedBatch) -> None:
        """See :meth:`Stager.stage`."""
        self._submit(lambda: self._stager.stage(batch))

    def publish(self, sources: Sequence[Prepared], deleted: Sequence[str]) -> None:
        """See :meth:`Stager.publish`; counts what was kept."""

        def step() -> None:
            self._stager.publish(sources, deleted)
            self._interruption.kept += sum(not source.row.skipped for source in sources)
            self._not_optimized += sum(len(source.chunks) for source in sources)
            if self._not_optimized >= _OPTIMIZE_EVERY:
                self._not_optimized = 0
                self._optimize()

        self._submit(step)

    def _submit(self, step: Callable[[], None]) -> None:
        self._pending.append(self._pool.submit(self._run, step))
        self._wait(_STAGES_AHEAD)

    def _run(self, step: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            step()
        except BaseException:
            self._failed = True
            raise

    def _wait(self, most: int) -> None:
        while len(self._pending) > most or (self._pending and self._pending[0].done()):
            with self._interruption.anywhere():
                self._pending[0].result()
            self._pending.popleft()


def prepared_ahead(
    prepare: Callable[[FoundFile], Outcome], files: deque[FoundFile], interruption: Interruption
) -> Generator[tuple[FoundFile, Outcome], None, None]:
    """Each file with its outcome, in order, a few computed ahead; unfinished ones are dropped when the caller leaves.

    Files are taken out of ``files`` on the way: a large tree's list is memory that the store needs later.
    """
    waiting: deque[tuple[FoundFile, Future[Outcome]]] = deque()
    pool = ThreadPoolExecutor(1, "prepare")
    try:
        while files or waiting:
            while files and len(waiting) <= _FILES_AHEAD:
                file = files.popleft()
                waiting.append((file, pool.submit(prepare, file)))
            file, future = waiting.popleft()
            yield file, _result(future, interruption)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future[Outcome], interruption: Interruption) -> Outcome:
    with interruption.anywhere():
        return future.result()


@contextmanager
def preloaded(embedder: Embedder, *, wanted: bool) -> Iterator[None]:
    """A block during whose beginning the model is loaded, while the first files are prepared."""
    if not (wanted and isinstance(embedder, PipelinedEmbedder)):
        yield
        return
    with ThreadPoolExecutor(1, "preload") as pool:
        # What goes wrong is raised where the model is first used: the embedder tries again there.
        pool.submit(embedder.preload)
        yield
