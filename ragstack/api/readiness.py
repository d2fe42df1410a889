"""Can questions be answered: each thing that an answer needs is asked."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from ragstack.api.schemas import ReadinessCheck
from ragstack.errors import RagstackError
from ragstack.ledger.snapshot import SnapshotReader
from ragstack.pipeline import Pipeline

TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 2.0
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Readiness:
    """Asks all of it in one thread of its own; whoever comes meanwhile gets the same answer.

    So probes that come faster than a hanging store answers do not pile up, and a pool that is busy is not called dead.
    """

    def __init__(self, pipeline: Pipeline, background: TaskGroup) -> None:
        self._pipeline = pipeline
        self._background = background
        self._running: _Round | None = None

    async def checks(self) -> Sequence[ReadinessCheck]:
        """What each thing says, within ``TIMEOUT_S``."""
        if self._running is None:
            self._running = _Round()
            self._background.start_soon(self._run, self._running)
        running = self._running
        with anyio.move_on_after(TIMEOUT_S):
            await running.ended.wait()
            return running.checks
        return [ReadinessCheck(name="time", ok=False, detail=f"the checks did not end within {TIMEOUT_S:g} s")]

    async def _run(self, running: _Round) -> None:
        try:
            running.checks = await anyio.to_thread.run_sync(_ask, self._pipeline, limiter=anyio.CapacityLimiter(1))
        finally:
            self._running = None
            running.ended.set()


class _Round:
    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.checks: Sequence[ReadinessCheck] = ()


def _ask(pipeline: Pipeline) -> list[ReadinessCheck]:
    asked: list[tuple[str, Callable[[Pipeline], str]]] = [
        ("store", _store),
        ("index", _index),
        ("embedder", lambda pipeline: pipeline.embedder.info.name),
    ]
    if getattr(pipeline.config.generator, "base_url", None) is not None:
        asked.append(("generator", _generator))
    return [_answer(name, ask, pipeline) for name, ask in asked]


def _answer(name: str, ask: Callable[[Pipeline], str], pipeline: Pipeline) -> ReadinessCheck:
    try:
        return ReadinessCheck(name=name, ok=True, detail=ask(pipeline))
    except RagstackError as error:
        return ReadinessCheck(name=name, ok=False, detail=error.message)
    except OSError as error:
        return ReadinessCheck(name=name, ok=False, detail=f"cannot be reached: {error.strerror or error}")


def _store(pipeline: Pipeline) -> str:
    health = pipeline.shared.store.health()
    return f"{health.engine} {health.version}"


def _index(pipeline: Pipeline) -> str:
    """From the ledger: the engine would have to wait for its turn among the questions."""
    with closing(SnapshotReader(pipeline.state_dir)) as ledger:
        return f"{ledger.read().chunk_count} chunks"


def _generator(pipeline: Pipeline) -> str:
    """Whether something listens where the language model should be; asking it would cost tokens."""
    where = urlsplit(str(getattr(pipeline.config.generator, "base_url", "")))
    port = where.port or _DEFAULT_PORTS.get(where.scheme, 80)
    with socket.create_connection((where.hostname or "", port), timeout=_CONNECT_TIMEOUT_S):
        return f"{where.hostname} port {port} takes connections"
