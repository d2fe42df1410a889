"""Jobs: one at a time, followed, stopped, refused when too many wait, forgotten in the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import ragstack
from ragstack.api.app import create_app
from ragstack.api.jobs import Job, JobProgress, JobRunner
from ragstack.api.request_errors import ConflictError, NotFoundError, TooManyRequestsError
from ragstack.errors import InputError, InterruptedRunError
from ragstack.indexer.interruption import Interruption
from tests.integration.api.tenants import finished
from tests.integration.harness import SMALL_CONFIG

_WAIT_S = 30.0


@pytest.fixture
def runner() -> Iterator[JobRunner]:
    """A runner with room for two and a memory of three."""
    opened = JobRunner(max_queued=2, keep=3)
    yield opened
    opened.close()


class Gate:
    """Work that has begun waits here until it is let go on; it heeds an interruption."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()

    def __call__(self, progress: JobProgress, interruption: Interruption) -> Mapping[str, Any]:
        self.begun.set()
        deadline = time.monotonic() + _WAIT_S
        while not self.open.wait(0.01) and time.monotonic() < deadline:
            if interruption.requested:
                raise InterruptedRunError(interruption.message())
        return {"went": "through"}


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def quick(progress: JobProgress, interruption: Interruption) -> Mapping[str, Any]:
    """Work that is done at once."""
    return {}


def test_one_job_runs_at_a_time_and_the_queue_is_bounded(runner: JobRunner) -> None:
    first, second = Gate(), Gate()
    jobs = [runner.submit(Job("index", "a", first))]
    assert first.begun.wait(_WAIT_S)
    jobs += [runner.submit(Job("index", "a", second)), runner.submit(Job("index", "b", quick))]
    assert [job.state for job in jobs] == ["running", "queued", "queued"]
    for refused in (lambda: runner.submit(Job("index", "a", quick)), runner.require_room):
        with pytest.raises(TooManyRequestsError) as raised:
            refused()
        assert raised.value.headers["Retry-After"] == "10"
    assert not second.begun.is_set()
    first.open.set()
    assert second.begun.wait(_WAIT_S)
    second.open.set()
    until(lambda: jobs[2].state == "done")
    assert jobs[0].report == {"went": "through"}


def test_a_waiting_job_is_dropped_and_a_running_one_is_stopped(runner: JobRunner) -> None:
    gate, discarded = Gate(), []
    running = runner.submit(Job("index", "a", gate))
    assert gate.begun.wait(_WAIT_S)
    waiting = runner.submit(Job("upload", "a", quick, lambda: discarded.append(True)))
    assert runner.cancel(waiting.job_id, "a").state == "cancelled"
    assert discarded == [True]
    runner.cancel(running.job_id, None)
    until(lambda: running.state == "cancelled")
    assert running.error is not None
    assert runner.cancel(running.job_id, None).state == "cancelled"  # again: nothing happens
    done = runner.submit(Job("index", "a", quick))
    until(lambda: done.state == "done")
    assert runner.cancel(done.job_id, None).state == "done"


def test_a_job_that_cannot_stop_says_so(runner: JobRunner) -> None:
    gate = Gate()
    job = runner.submit(Job("delete", "a", gate, can_stop=False))
    assert gate.begun.wait(_WAIT_S)
    with pytest.raises(ConflictError, match="cannot be stopped"):
        runner.cancel(job.job_id, "a")
    gate.open.set()
    until(lambda: job.state == "done")


def test_jobs_are_their_owners(runner: JobRunner) -> None:
    job = runner.submit(Job("index", "a", quick))
    assert [found.job_id for found in runner.jobs("a")] == [job.job_id]
    assert runner.jobs("b") == []
    assert len(runner.jobs(None)) == 1
    for look in (runner.get, runner.cancel):
        with pytest.raises(NotFoundError):
            look(job.job_id, "b")


def test_only_the_last_jobs_are_remembered(runner: JobRunner) -> None:
    made = []
    for _ in range(6):
        made.append(runner.submit(Job("index", "a", quick)))
        until(lambda: made[-1].state == "done")
    assert [job.job_id for job in runner.jobs(None)] == [job.job_id for job in reversed(made[-3:])]


def test_a_failure_is_told_and_the_next_job_runs(runner: JobRunner, caplog: pytest.LogCaptureFixture) -> None:
    def mistaken(progress: JobProgress, interruption: Interruption) -> Mapping[str, Any]:
        raise InputError("nothing to index was named.", hint="Name a folder.")

    def broken(progress: JobProgress, interruption: Interruption) -> Mapping[str, Any]:
        raise ZeroDivisionError("secret detail")

    first = runner.submit(Job("index", "a", mistaken))
    until(lambda: first.state == "failed")
    assert first.to_json()["error"] == {
        "type": "InputError",
        "message": "nothing to index was named.",
        "hint": "Name a folder.",
    }
    second = runner.submit(Job("index", "a", broken))
    until(lambda: second.state == "failed")
    assert "secret detail" not in str(second.to_json())
    assert "secret detail" in caplog.text  # the log is where it belongs
    third = runner.submit(Job("index", "a", quick))
    until(lambda: third.state == "done")


def test_closing_stops_what_runs_and_drops_what_waits() -> None:
    runner = JobRunner(max_queued=2, keep=3)
    gate, discarded = Gate(), []
    running = runner.submit(Job("index", "a", gate))
    assert gate.begun.wait(_WAIT_S)
    waiting = runner.submit(Job("upload", "a", quick, lambda: discarded.append(True)))
    runner.close()
    assert (running.state, waiting.state, discarded) == ("cancelled", "cancelled", [True])
    with pytest.raises(TooManyRequestsError, match="stopping"):
        runner.submit(Job("index", "a", quick))
    runner.close()


# -- over HTTP -----------------------------------------------------------------------------------


def test_progress_report_and_history_of_an_index_job(client: TestClient, corpus: Path) -> None:
    (corpus / "more.txt").write_text("The crane is oiled in spring.\n" * 40)
    started = client.post("/v1/jobs", json={"kind": "index", "paths": [str(corpus)], "rebuild": True})
    assert started.status_code == 202
    job = finished(client, started.json()["job_id"])
    assert job["state"] == "done"
    assert job["kind"] == "index"
    assert job["report"]["added"] + len(job["report"]["failed"]) == 4
    assert job["report"]["generation"] == 2
    progress = job["progress"]
    assert progress["files_done"] == progress["files_total"] == 4
    assert progress["bytes_done"] == progress["bytes_total"] == sum(path.stat().st_size for path in corpus.iterdir())
    assert progress["chunks"] == job["report"]["chunks_written"]
    assert progress["tokens"] == job["report"]["tokens_embedded"] > 0
    assert progress["tokens_per_s"] > 0
    assert any("new generation" in note for note in progress["notes"])
    assert job["created_at"] <= job["started_at"] <= job["ended_at"]
    assert [found["job_id"] for found in client.get("/v1/jobs").json()["jobs"]] == [job["job_id"]]
    failed = client.post("/v1/jobs", json={"kind": "index", "paths": [str(corpus.parent / "nothing")]})
    told = finished(client, failed.json()["job_id"])
    assert told["state"] == "failed"
    assert told["error"]["type"] == "InputError"
    assert told["error"]["hint"]


def test_sources_are_erased_as_rm_does(client: TestClient, corpus: Path) -> None:
    started = client.post("/v1/jobs", json={"kind": "delete", "sources": [str(corpus / "pump.txt"), "corpus/valve.md"]})
    job = finished(client, started.json()["job_id"])
    assert [source["source_id"] for source in job["report"]["erased"]] == ["corpus/pump.txt", "corpus/valve.md"]
    assert len(list(corpus.iterdir())) == 3
    listed = {found["source_id"] for found in client.get("/v1/documents").json()["documents"]}
    assert not listed & {"corpus/pump.txt", "corpus/valve.md"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "other"},
        {"kind": "index", "paths": "docs"},
        {"kind": "index", "paths": [""]},
        {"kind": "index", "prune": "yes please"},
        {"kind": "index", "unknown": 1},
        {"kind": "delete", "sources": []},
        {"kind": "delete"},
        [],
    ],
)
def test_what_is_no_job_is_refused(shared_client: TestClient, body: Any) -> None:
    response = shared_client.post("/v1/jobs", json=body)
    assert response.status_code == 422
    assert response.json()["error"]["message"]


def test_a_running_index_job_is_cancelled_and_the_next_finishes_it(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(40):
        (corpus / f"{number:03}.txt").write_text(f"File {number} tells of the number {number}.\n" * 4)
    with TestClient(create_app(ragstack.open(SMALL_CONFIG, state_dir=tmp_path / "state"))) as client:
        job_id = client.post("/v1/jobs", json={"kind": "index", "paths": [str(corpus)]}).json()["job_id"]
        until(lambda: client.get(f"/v1/jobs/{job_id}").json()["progress"]["chunks"] > 0)
        assert client.delete(f"/v1/jobs/{job_id}").json()["cancel_requested"] is True
        job = finished(client, job_id)
        assert job["state"] == "cancelled"
        assert "consistent" in job["error"]["message"]
    # A new process has forgotten the job; the same run does the rest.
    with TestClient(create_app(ragstack.open(SMALL_CONFIG, state_dir=tmp_path / "state"))) as client:
        assert client.get("/v1/jobs").json() == {"jobs": []}
        assert client.get(f"/v1/jobs/{job_id}").status_code == 404
        again = client.post("/v1/jobs", json={"kind": "index", "paths": [str(corpus)]}).json()["job_id"]
        report = finished(client, again)["report"]
        assert report["added"] + report["unchanged"] == 40


def test_uploads_wait_for_room_in_the_queue(tmp_path: Path) -> None:
    config = {**SMALL_CONFIG, "server": {"jobs": {"max_queued": 1}}}
    with TestClient(create_app(ragstack.open(config, state_dir=tmp_path / "state"))) as client:
        state = client.app.state.ragstack  # type: ignore[attr-defined]
        gate = Gate()
        state.jobs.submit(Job("index", "test", gate))
        assert gate.begun.wait(_WAIT_S)
        files = [("files", ("a.txt", b"text"))]
        accepted = client.post("/v1/documents", files=files)
        refused = client.post("/v1/documents", files=files)
        assert (accepted.status_code, refused.status_code) == (202, 429)
        assert refused.headers["Retry-After"]
        incoming = tmp_path / "ragstack-uploads" / ".incoming"
        assert len(list(incoming.iterdir())) == 1
        assert client.delete(f"/v1/jobs/{accepted.json()['job_id']}").json()["state"] == "cancelled"
        assert list(incoming.iterdir()) == []
        gate.open.set()
