"""Commands that go through the server that holds the index, where one does."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import ragstack.errors
from ragstack.api.discovery import RunningServer, running_server
from ragstack.errors import IndexLockedError, InputError, InterruptedRunError, RagstackError

if TYPE_CHECKING:
    from ragstack.citations.chain import Chain
    from ragstack.filters import Filter
    from ragstack.indexer.erase import EraseReport
    from ragstack.indexer.interruption import Interruption
    from ragstack.indexer.report import IndexProgress, IndexReport
    from ragstack.retrieval.explain.explanation import Explanation

_CONNECT_TIMEOUT_S = 5.0
_POLL_S = 0.2


class ServerGoneError(RagstackError):
    """Nothing listens at the URL any more: the server ended after the command had found its file."""


def server_of(state_dir: Path) -> RunningServer | None:
    """The server that keeps others from opening the index at ``state_dir``, or None."""
    server = running_server(state_dir)
    return server if server is not None and server.exclusive else None


def forward_query(server: RunningServer, text: str, filter: Filter | None, top_n: int | None, answer: bool) -> Chain:
    """The chain that the server answers. Raises the error that it tells of, and ServerGoneError."""
    from ragstack.citations.verify import load_chain

    body = _question(text, filter, top_n)
    return load_chain(_call(server, "POST", "/v1/query" if answer else "/v1/retrieve", body), server.url)


def forward_explain(
    server: RunningServer, text: str, expected: str | None, filter: Filter | None, top_n: int | None, answer: bool
) -> Explanation:
    """The server's explanation of what it answers. Raises what :func:`forward_query` raises."""
    from pydantic import ValidationError

    from ragstack.retrieval.explain.explanation import Explanation

    body = {**_question(text, filter, top_n), "answer": answer}
    if expected is not None:
        body["expected"] = _expected_as_named_here(expected)
    told = _call(server, "POST", "/v1/explain", body)
    try:
        return Explanation.model_validate_json(told)
    except ValidationError as error:
        raise RagstackError(
            f"the server at {server.url} gave an explanation of another form.",
            hint="It runs another version of ragstack: restart it.",
        ) from error


def forward_index(
    server: RunningServer,
    targets: list[str],
    *,
    prune: bool,
    rebuild: bool,
    progress: IndexProgress,
    interruption: Interruption,
) -> IndexReport:
    """Let the server index; what it does is followed, and a stop is passed on.

    Raises the error that the job ended with, InterruptedRunError when it was stopped, ServerGoneError.
    """
    from collections import Counter

    from ragstack.indexer.report import FailedSource, IndexReport

    # The server has a working directory of its own.
    paths = [os.path.abspath(target) for target in targets]  # noqa: PTH100 - links stay as they were named
    body = {"kind": "index", "paths": paths, "prune": prune, "rebuild": rebuild}
    told = _job(server, body, _followed(progress), interruption)
    told.pop("exit_status", None)
    told["skipped"] = Counter(told["skipped"])
    told["failed"] = [FailedSource(**failed) for failed in told["failed"]]
    return IndexReport(**told)


def forward_erase(server: RunningServer, targets: list[str]) -> EraseReport:
    """Let the server erase sources. Raises what :func:`forward_index` raises."""
    from ragstack.indexer.erase import ErasedSource, EraseReport

    body = {"kind": "delete", "sources": [_as_named_here(target) for target in targets]}
    told = _job(server, body, lambda progress: None, None)
    erased = [
        ErasedSource(
            source_id=source["source_id"],
            chunks=source["chunks"],
            path=None if source["path"] is None else Path(source["path"]),
            returns=source["indexed_again_by_next_run"],
            same_text_in=tuple(source["same_text_in"]),
        )
        for source in told["erased"]
    ]
    return EraseReport(erased, told["generation"], told["chunk_count"], told["dry_run"])


def _question(text: str, filter: Filter | None, top_n: int | None) -> dict[str, Any]:
    from ragstack.filters import filter_to_json

    body: dict[str, Any] = {"query": text}
    if filter is not None:
        body["filter"] = filter_to_json(filter)
    if top_n is not None:
        body["top_n"] = top_n
    return body


def _expected_as_named_here(expected: str) -> str:
    """An expected passage with its path made absolute, where it names a file of this working directory."""
    from ragstack.retrieval.explain.target import parse_expected

    for place in parse_expected(expected).places:
        path = Path(place.name)
        if not place.name.startswith("id:") and path.expanduser().exists():
            return f"{os.path.abspath(path.expanduser())}{expected[len(place.name) :]}"  # noqa: PTH100 - as named
    return expected


def _as_named_here(target: str) -> str:
    """A target that can only be a path, made absolute: the server has a working directory of its own."""
    if target.startswith("id:") or not (target.startswith((".", "~")) or Path(target).exists()):
        return target
    return os.path.abspath(Path(target).expanduser())  # noqa: PTH100 - links stay as they were named


def _job(
    server: RunningServer,
    body: dict[str, Any],
    follow: Callable[[dict[str, Any]], None],
    interruption: Interruption | None,
) -> dict[str, Any]:
    """The report of a job that the server does."""
    job = json.loads(_call(server, "POST", "/v1/jobs", body))
    path = f"/v1/jobs/{job['job_id']}"
    asked_to_stop = False
    while True:
        job = json.loads(_call(server, "GET", path))
        follow(job["progress"])
        if job["state"] == "done":
            return dict(job["report"])
        if job["state"] == "failed":
            raise _error(job["error"])
        if job["state"] == "cancelled":
            told = job["error"] or {"message": "stopped before it began.", "hint": ""}
            raise InterruptedRunError(told["message"], hint=told["hint"])
        if interruption is not None and interruption.requested and not asked_to_stop:
            _call(server, "DELETE", path)
            asked_to_stop = True
        time.sleep(_POLL_S)


def held_by_server(server: RunningServer, command: str) -> IndexLockedError:
    """The error for a command that no server does for others."""
    return IndexLockedError(
        f"process {server.pid} serves this index at {server.url} and holds it; {command} cannot open it.",
        hint="Stop that server (Ctrl-C or SIGTERM), then run this again.",
    )


def _followed(progress: IndexProgress) -> Callable[[dict[str, Any]], None]:
    """Tells a display what has been added since it was told last."""
    files = size_bytes = chunks = tokens = 0
    planned = False
    notes: list[str] = []

    def follow(now: dict[str, Any]) -> None:
        nonlocal files, size_bytes, chunks, tokens, planned, notes
        if now["files_total"] and not planned:
            planned = True
            progress.planned(now["files_total"], now["bytes_total"])
        more = now["files_done"] - files
        for number in range(more):
            # What each file has is not told, so the last of them takes the bytes of all.
            progress.read(now["bytes_done"] - size_bytes if number == more - 1 else 0)
        if now["chunks"] > chunks:
            progress.embedded(now["chunks"] - chunks, now["tokens"] - tokens)
        for note in now["notes"]:
            if note not in notes:
                progress.note(note)
        files, size_bytes, chunks, tokens = now["files_done"], now["bytes_done"], now["chunks"], now["tokens"]
        notes = now["notes"]

    return follow


def _call(server: RunningServer, method: str, path: str, body: Any = None) -> str:
    """One request; the body of its answer. Raises the error that the answer tells of, and ServerGoneError."""
    where = urlsplit(server.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=_CONNECT_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    try:
        connection.connect()
    except OSError as error:
        raise ServerGoneError(f"nothing answers at {server.url}: {error.strerror or error}.") from error
    try:
        # An answer takes as long as the server lets it: its own timeouts hold.
        connection.sock.settimeout(None)
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        status, text = response.status, response.read().decode("utf-8")
    except (OSError, http.client.HTTPException) as error:
        raise RagstackError(
            f"the server at {server.url} broke the connection off: {error or type(error).__name__}.",
            hint="Run the same command again.",
        ) from error
    finally:
        connection.close()
    if status < 400:
        return text
    try:
        told = json.loads(text)["error"]
    except (ValueError, LookupError, TypeError):
        told = {"type": "", "message": f"the server at {server.url} answered with status {status}.", "hint": ""}
    raise _error(told)


def _error(told: dict[str, Any]) -> RagstackError:
    """The error of the family that a response tells of."""
    kind = getattr(ragstack.errors, told["type"], None)
    if told["type"] == "InvalidRequest":
        kind = InputError
    takes_text = isinstance(kind, type) and issubclass(kind, RagstackError) and kind.__init__ is RagstackError.__init__
    return (kind if takes_text and kind is not None else RagstackError)(told["message"], hint=told["hint"])
