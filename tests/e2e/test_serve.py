"""``ragstack serve`` as a process, and the commands that go through it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from ragstack.cli.main import main

PATIENCE_S = 60.0
CONFIG = "embedder: {type: hashing, dim: 32}\nretrieval: {min_relevance: 0.0}\nindexer: {lock_timeout_s: 0.2}\n"
QUESTION = "How many bar does the pump run at?"


@dataclass(frozen=True)
class Done:
    """What a command left."""

    status: int
    stdout: str
    stderr: str


def ragstack(folder: Path, *arguments: str) -> Done:
    """Run a command to its end, in this process: starting one takes longer than most commands."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with redirect_stdout(StringIO()) as stdout, redirect_stderr(StringIO()) as stderr:
            status = main(arguments)
    finally:
        os.chdir(before)
    return Done(status, stdout.getvalue(), stderr.getvalue())


@contextmanager
def serving(
    folder: Path, *arguments: str, program: Sequence[str] = ("-m", "ragstack", "serve")
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URL of a server over ``folder``, and its process, which is ended at the end of the block."""
    command = [sys.executable, *program, *arguments]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Serving at http://"), (line, process.stderr.read() if process.stderr else "")
        yield line.split()[2], process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and an index."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "docs").mkdir()
    (folder / "docs" / "pump.txt").write_text("The pump of line seven runs at 40 bar. It is checked on Mondays.\n")
    (folder / "docs" / "valve.txt").write_text("The valve is replaced after 300 hours.\n")
    (folder / "ragstack.yaml").write_text(CONFIG)
    done = ragstack(folder, "index", "docs")
    assert done.status == 0, done.stderr
    return folder


def without_times(chain: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in chain.items() if key not in ("created_at", "timings_s", "digest")}


LINES = (
    ("query", QUESTION),
    ("query", QUESTION, "--no-answer", "--top-n", "1"),
    ("query", QUESTION, "--filter", '{"field": "source_id", "op": "eq", "value": "none"}'),
    ("query", QUESTION, "--filter", '{"field": "colour", "op": "eq", "value": "red"}'),
    ("query", "   "),
)


@pytest.fixture(scope="module")
def alone(site: Path) -> list[Done]:
    """What commands do while no server is there."""
    return [ragstack(site, *line) for line in (*LINES, ("query", QUESTION, "--json"))]


@pytest.fixture(scope="module")
def server(site: Path, alone: list[Done]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server over the folder."""
    with serving(site, "--port", "0") as running:
        yield running


def test_queries_give_the_same_with_a_server_and_without(site: Path, alone: list[Done], server: Any) -> None:
    *_, whole = alone
    for line, before in zip(LINES, alone, strict=False):
        assert ragstack(site, *line) == before, line
    forwarded = json.loads(ragstack(site, "query", QUESTION, "--json").stdout)
    assert without_times(forwarded) == without_times(json.loads(whole.stdout))
    (site / "forwarded.json").write_text(json.dumps(forwarded))
    assert ragstack(site, "verify", "forwarded.json").status == 0


def test_another_config_is_noted(site: Path, server: Any) -> None:
    (site / "other.yaml").write_text(CONFIG + "reranker: {type: none}\n")
    asked = ragstack(site, "query", QUESTION, "-c", "other.yaml")
    assert asked.status == 0
    assert "answers by its own config" in asked.stderr


def test_index_and_rm_go_through_the_server(site: Path, server: tuple[str, subprocess.Popen[str]]) -> None:
    url, process = server
    (site / "docs" / "lamp.txt").write_text("The lamp of the tower is green at night.\n")
    indexed = ragstack(site, "index", "docs", "--json")
    assert indexed.status == 0, indexed.stderr
    assert json.loads(indexed.stdout)["added"] == 1
    assert "Sources: 3 unchanged." in ragstack(site, "index", "docs").stdout
    answer = httpx.post(f"{url}/v1/query", json={"query": "What colour is the lamp at night?"}).json()["answer"]
    assert "green" in answer["text"]
    missing = ragstack(site, "index", "nowhere")
    assert missing.status == 2
    assert "nowhere" in missing.stderr
    (site / "docs" / "lamp.txt").unlink()
    erased = ragstack(site, "rm", "docs/lamp.txt", "--json")
    assert erased.status == 0, erased.stderr
    assert [source["source_id"] for source in json.loads(erased.stdout)["erased"]] == ["docs/lamp.txt"]
    assert ragstack(site, "rm", "docs/lamp.txt").status == 2
    refused = ragstack(site, "index", "--watch")
    assert refused.status == 2
    assert f"process {process.pid} serves this index" in refused.stderr


def test_a_second_server_is_refused(site: Path, server: tuple[str, subprocess.Popen[str]]) -> None:
    url, process = server
    found = site / ".ragstack" / "server.json"
    told = json.loads(found.read_text())
    assert (told["pid"], told["url"]) == (process.pid, url)
    assert stat.S_IMODE(found.stat().st_mode) == 0o600
    second = ragstack(site, "serve", "--port", "0")
    assert second.status == 2
    assert f"process {process.pid}" in second.stderr
    port = url.rpartition(":")[2]
    taken = ragstack(site, "serve", "--port", port)
    assert taken.status == 2
    assert f"port {port}" in taken.stderr
    assert "--port" in taken.stderr
    assert json.loads(found.read_text()) == told


def test_ctrl_c_of_a_forwarded_run_stops_the_job(
    site: Path, tmp_path: Path, server: tuple[str, subprocess.Popen[str]]
) -> None:
    url, _ = server
    many = tmp_path / "many"
    many.mkdir()
    for number in range(3000):
        (many / f"{number}.txt").write_text(f"Report {number}. " + f"Turbine {number} was inspected. " * 30)
    command = [sys.executable, "-m", "ragstack", "index", str(many)]
    run = subprocess.Popen(command, cwd=site, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _eventually(lambda: any(job["state"] == "running" and job["progress"]["chunks"] for job in _jobs(url)))
    run.send_signal(signal.SIGINT)
    _, told = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 130, told
    _eventually(lambda: _jobs(url)[0]["state"] == "cancelled")


def _jobs(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{url}/v1/jobs").json()["jobs"]
    return found


def _eventually(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A folder with a config and a document, and no index."""
    (tmp_path / "ragstack.yaml").write_text(CONFIG)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "pump.txt").write_text("The pump of line seven runs at 40 bar.\n")
    return tmp_path


def test_from_nothing_to_a_clean_end(fresh: Path) -> None:
    with serving(fresh, "--port", "0") as (url, process):
        assert httpx.post(f"{url}/v1/query", json={"query": QUESTION}).status_code == 503
        assert ragstack(fresh, "index", "docs").status == 0
        assert "40 bar" in httpx.post(f"{url}/v1/query", json={"query": QUESTION}).json()["answer"]["text"]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, errors) == (0, "")
    assert not (fresh / ".ragstack" / "server.json").exists()
    assert ragstack(fresh, "fsck").status == 0


def test_what_a_killed_server_left_is_passed_over(fresh: Path) -> None:
    assert ragstack(fresh, "index", "docs").status == 0
    with serving(fresh, "--host", _loopback(), "--port", "0") as (_, process):
        assert "40 bar" in ragstack(fresh, "query", QUESTION).stdout
        process.kill()
        process.wait()
    assert (fresh / ".ragstack" / "server.json").exists()
    asked = ragstack(fresh, "query", QUESTION)
    assert (asked.status, "40 bar" in asked.stdout) == (0, True), asked.stderr


def _loopback() -> str:
    """The address of IPv6 where there is one: its URLs have brackets."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return "127.0.0.1"
    return "::1"


SLOW_SERVER = """
import sys
import ragstack.retrieval.engine as engine
from ragstack.cli.main import main
from ragstack.generation.base import AnswerEnd, AnswerSentence, Quote
import threading

class Slow:
    name = "slow"
    def stream(self, question, passages):
        chunk = passages[0].chunk
        end = chunk.byte_start + len(chunk.text.encode())
        yield AnswerSentence(chunk.text, (Quote(1, chunk.byte_start, end),), 1.0)
        woken = threading.Event()
        with question.cancellation.calling(woken.set):
            woken.wait(60)
        yield AnswerEnd()
    def condense(self, history, text):
        return text
    def close(self):
        pass

engine.build_generator = lambda block: Slow()
sys.exit(main(["serve", "--port", "0"]))
"""


def test_a_stream_under_way_is_ended_with_an_error(fresh: Path) -> None:
    assert ragstack(fresh, "index", "docs").status == 0
    (fresh / "ragstack.yaml").write_text(f"{CONFIG}server: {{shutdown_timeout_s: 0.5}}\n")
    with serving(fresh, program=("-c", SLOW_SERVER)) as (url, process):
        lines: list[str] = []
        streaming = threading.Thread(target=_read_stream, args=(url, lines))
        streaming.start()
        _eventually(lambda: "event: sentence" in lines)
        process.send_signal(signal.SIGTERM)
        streaming.join()
        assert '"type":"ShuttingDown"' in lines[lines.index("event: error") + 1]
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0


def _read_stream(url: str, lines: list[str]) -> None:
    body = {"query": QUESTION, "stream": True}
    with httpx.stream("POST", f"{url}/v1/query", json=body, timeout=PATIENCE_S) as response:
        for line in response.iter_lines():
            lines.append(line)  # noqa: PERF402 - the other thread watches them come


def test_without_the_extra_the_message_names_it(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ragstack.api.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = ragstack(fresh, "serve")
    assert done.status == 2
    assert "ragstack[server]" in done.stderr
