"""Long work in the background: one worker, because the index has one writer.

Jobs live in memory. A server that stops interrupts the running one at a consistent point and forgets them all; what an
interrupted run had not indexed, the next run does.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal, TypeAlias

from ragstack.api.redaction import redacted
from ragstack.api.request_errors import ConflictError, NotFoundError, TooManyRequestsError
from ragstack.errors import InterruptedRunError, RagstackError
from ragstack.indexer.interruption import Interruption

JobKind: TypeAlias = Literal["index", "upload", "delete"]
JobState: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]
_LOG = logging.getLogger(__name__)
_NOTES_KEPT = 50
_RETRY_AFTER_S = 10.0


class JobProgress:
    """How far a run is: an :class:`~ragstack.indexer.report.IndexProgress`. Written by one thread, read by any."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._files_total = self._files_done = 0
        self._bytes_total = self._bytes_done = 0
        self._chunks = self._tokens = 0
        self._notes: deque[str] = deque(maxlen=_NOTES_KEPT)
        self._planned_at: float | None = None
        self._embedded_at: float | None = None

    def planned(self, files: int, size_bytes: int) -> None:
        """See :class:`~ragstack.indexer.report.IndexProgress`."""
        with self._guard:
            self._files_total, self._bytes_total = files, size_bytes
            self._planned_at = time.monotonic()

    def read(self, size_bytes: int) -> None:
        """See :class:`~ragstack.indexer.report.IndexProgress`."""
        with self._guard:
            self._files_done += 1
            self._bytes_done += size_bytes

    def embedded(self, chunks: int, tokens: int) -> None:
        """See :class:`~ragstack.indexer.report.IndexProgress`."""
        with self._guard:
            self._chunks += chunks
            self._tokens += tokens
            self._embedded_at = time.monotonic()

    def note(self, message: str) -> None:
        """See :class:`~ragstack.indexer.report.IndexProgress`."""
        with self._guard:
            self._notes.append(redacted(message))

    def drop_notes(self, drop: Callable[[str], bool]) -> None:
        """Forget the notes for which ``drop`` is true."""
        with self._guard:
            self._notes = deque((note for note in self._notes if not drop(note)), maxlen=_NOTES_KEPT)

    def to_json(self) -> dict[str, Any]:
        """``tokens_per_s`` is over the time from the plan to the last batch; 0 before there is one."""
        with self._guard:
            seconds = 0.0
            if self._planned_at is not None and self._embedded_at is not None:
                seconds = self._embedded_at - self._planned_at
            return {
                "files_done": self._files_done,
                "files_total": self._files_total,
                "bytes_done": self._bytes_done,
                "bytes_total": self._bytes_total,
                "chunks": self._chunks,
                "tokens": self._tokens,
                "tokens_per_s": round(self._tokens / seconds, 1) if seconds > 0 else 0.0,
                "notes": list(self._notes),
            }


Work: TypeAlias = Callable[[JobProgress, Interruption], Mapping[str, Any]]
"""What a job does; returns its report. Raises RagstackError when it failed, InterruptedRunError when it was stopped."""


@dataclass
class Job:
    """One piece of work. ``owner`` names who asked for it: the caller's key id, or its name without one.

    ``discard`` is called instead of ``work`` when the job never runs. ``can_stop``: the work heeds an interruption.
    """

    kind: JobKind
    owner: str
    work: Work
    discard: Callable[[], None] = lambda: None
    can_stop: bool = True
    job_id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: JobState = "queued"
    created_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    started_at: datetime | None = None
    ended_at: datetime | None = None
    report: Mapping[str, Any] | None = None
    error: RagstackError | None = None
    progress: JobProgress = field(default_factory=JobProgress)
    interruption: Interruption = field(default_factory=Interruption)

    def to_json(self) -> dict[str, Any]:
        """The job as ``GET /v1/jobs/{id}`` shows it."""
        error = None
        if self.error is not None:
            error = {
                "type": type(self.error).__name__,
                "message": redacted(self.error.message),
                "hint": redacted(self.error.hint),
            }
        return {
            "job_id": self.job_id,
            "kind": self.kind,
            "state": self.state,
            "cancel_requested": self.interruption.requested,
            "created_at": _text(self.created_at),
            "started_at": _text(self.started_at),
            "ended_at": _text(self.ended_at),
            "progress": self.progress.to_json(),
            "report": None if self.report is None else dict(self.report),
            "error": error,
        }


class JobRunner:
    """The queue and its one worker thread. Safe to call from several threads; :meth:`close` ends it."""

    def __init__(self, max_queued: int, keep: int) -> None:
        """``max_queued`` jobs may wait; ``keep`` ended ones are remembered."""
        self._max_queued = max_queued
        self._keep = keep
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._is_closed = False
        self._worker = threading.Thread(target=self._run, name="ragstack-jobs", daemon=True)
        self._worker.start()

    @property
    def queue_depth(self) -> int:
        """Jobs that wait now."""
        with self._changed:
            return len(self._waiting)

    def require_room(self) -> None:
        """Raise TooManyRequestsError when a job submitted now would be refused: asked before an upload is read."""
        with self._changed:
            self._require_room()

    def submit(self, job: Job) -> Job:
        """Put a job at the end of the queue. Raises TooManyRequestsError when the queue is full."""
        with self._changed:
            self._require_room()
            self._waiting.append(job)
            self._jobs[job.job_id] = job
            self._changed.notify_all()
        return job

    def get(self, job_id: str, owner: str | None) -> Job:
        """The job; with ``owner``, only if it is that owner's. Raises NotFoundError otherwise."""
        with self._changed:
            job = self._jobs.get(job_id)
        if job is None or owner not in (None, job.owner):
            raise NotFoundError("there is no such job.", hint="Jobs are forgotten when the server stops.")
        return job

    def jobs(self, owner: str | None) -> list[Job]:
        """Every job that is remembered, newest first; with ``owner``, that owner's."""
        with self._changed:
            return [job for job in reversed(self._jobs.values()) if owner in (None, job.owner)]

    def cancel(self, job_id: str, owner: str | None) -> Job:
        """Drop a waiting job, or ask the running one to stop at the next consistent point. An ended one stays as it is.

        Raises NotFoundError as :meth:`get` does, ConflictError for a running job that cannot be stopped.
        """
        job = self.get(job_id, owner)
        with self._changed:
            was_waiting = job.state == "queued"
            if was_waiting:
                self._waiting.remove(job)
                self._end(job, "cancelled")
            elif job.state == "running":
                if not job.can_stop:
                    raise ConflictError(
                        f"a job of the kind {job.kind!r} cannot be stopped once it runs.",
                        hint="Wait until it has ended.",
                    )
                job.interruption.request()
        if was_waiting:
            job.discard()
        return job

    def forget_texts_about(self, names: Collection[str]) -> None:
        """Take out of every remembered job what it says of these sources or files: reasons may quote them."""

        def names_one(text: object) -> bool:
            return any(name in str(text) for name in names)

        with self._changed:
            for job in self._jobs.values():
                job.progress.drop_notes(names_one)
                if job.report is not None:
                    job.report = _without(job.report, names_one)
                if job.error is not None and names_one(job.error):
                    job.error = RagstackError("the reason is not kept: it was about a document that is erased now.")

    def close(self) -> None:
        """Drop what waits, stop what runs, and return when it has stopped. Idempotent."""
        with self._changed:
            self._is_closed = True
            dropped = list(self._waiting)
            self._waiting.clear()
            for job in dropped:
                self._end(job, "cancelled")
            for job in self._jobs.values():
                if job.state == "running":
                    job.interruption.request()
            self._changed.notify_all()
        for job in dropped:
            job.discard()
        self._worker.join()

    def _require_room(self) -> None:
        if self._is_closed:
            raise TooManyRequestsError("the server is stopping.", _RETRY_AFTER_S)
        if len(self._waiting) >= self._max_queued:
            raise TooManyRequestsError(
                f"{len(self._waiting)} jobs are waiting already.",
                _RETRY_AFTER_S,
                hint="Send it again later; server.jobs.max_queued sets the limit.",
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                job = self._waiting.popleft()
                job.state, job.started_at = "running", datetime.now(timezone.utc)
            state, error, report = self._do(job)
            with self._changed:
                job.report, job.error = report, error
                self._end(job, state)

    def _do(self, job: Job) -> tuple[JobState, RagstackError | None, Mapping[str, Any] | None]:
        try:
            return "done", None, job.work(job.progress, job.interruption)
        except InterruptedRunError as error:
            return "cancelled", error, None
        except RagstackError as error:
            _LOG.warning("the job %s (%s) failed: %s", job.job_id, job.kind, error)
            return "failed", error, None
        except BaseException:
            # The worker must outlive a mistake in one job; what went wrong is for the log, not for the caller.
            _LOG.exception("the job %s (%s) failed", job.job_id, job.kind)
            hint = "The server's log says what happened; report it."
            return "failed", RagstackError("the job failed because of a mistake in ragstack.", hint=hint), None

    def _end(self, job: Job, state: JobState) -> None:
        job.state, job.ended_at = state, datetime.now(timezone.utc)
        # What the job held (names, paths of uploads) is not needed any more.
        job.work = _nothing
        ended = [known.job_id for known in self._jobs.values() if known.ended_at is not None]
        for job_id in ended[: max(0, len(ended) - self._keep)]:
            del self._jobs[job_id]
        self._changed.notify_all()


def _nothing(progress: JobProgress, interruption: Interruption) -> Mapping[str, Any]:
    return {}


def _without(value: Any, drop: Callable[[object], bool]) -> Any:
    """A report without the members of its lists, at any depth, for which ``drop`` is true."""
    if isinstance(value, Mapping):
        return {key: _without(part, drop) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without(part, drop) for part in value if not drop(part)]
    return value


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
