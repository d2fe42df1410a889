"""``ragstack serve`` as a process, and the commands that go through it."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

PATIENCE_S = 60.0
CONFIG = "embedder: {type: hashing, dim: 32}\nretrieval: {min_relevance: 0.0}\nindexer: {lock_timeout_s: 0.2}\n"
QUESTION = "How many bar does the pump run at?"


def ragstack(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "ragstack", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


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
    assert done.returncode == 0, done.stderr
    return folder


def without_times(chain: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in chain.items() if key not in ("created_at", "timings_s", "digest")}


def test_commands_give_the_same_with_a_server_and_without(site: Path) -> None:
    lines = (
        ("query", QUESTION),
        ("query", QUESTION, "--no-answer", "--top-n", "1"),
        ("query", QUESTION, "--filter", '{"field": "source_id", "op": "eq", "value": "none"}'),
        ("query", QUESTION, "--filter", '{"field": "colour", "op": "eq", "value": "red"}'),
        ("query", "   "),
    )
    alone = [ragstack(site, *line) for line in lines]
    chain = json.loads(ragstack(site, "query", QUESTION, "--json").stdout)
    with serving(site, "--port", "0") as (_, process):
        for line, before in zip(lines, alone, strict=True):
            after = ragstack(site, *line)
            assert after.returncode == before.returncode, line
            assert after.stdout == before.stdout, line
            assert after.stderr == before.stderr, line
        forwarded = json.loads(ragstack(site, "query", QUESTION, "--json").stdout)
        assert without_times(forwarded) == without_times(chain)
        (site / "forwarded.json").write_text(json.dumps(forwarded))
        assert ragstack(site, "verify", "forwarded.json").returncode == 0
        refused = ragstack(site, "index", "--watch")
        assert refused.returncode == 2
        assert f"process {process.pid} serves this index" in refused.stderr
    assert process.returncode == 0


def test_index_and_rm_go_through_the_server(site: Path) -> None:
    with serving(site, "--port", "0") as (url, _):
        (site / "docs" / "lamp.txt").write_text("The lamp of the tower is green at night.\n")
        indexed = ragstack(site, "index", "docs", "--json")
        assert indexed.returncode == 0, indexed.stderr
        assert json.loads(indexed.stdout)["added"] == 1
        shown = ragstack(site, "index", "docs")
        assert "Sources: 3 unchanged." in shown.stdout
        answer = httpx.post(f"{url}/v1/query", json={"query": "What colour is the lamp at night?"}).json()["answer"]
        assert "green" in answer["text"]
        missing = ragstack(site, "index", "nowhere")
        assert missing.returncode == 2
        assert "nowhere" in missing.stderr
        (site / "docs" / "lamp.txt").unlink()
        erased = ragstack(site, "rm", "docs/lamp.txt", "--json")
        assert erased.returncode == 0, erased.stderr
        assert [source["source_id"] for source in json.loads(erased.stdout)["erased"]] == ["docs/lamp.txt"]
        again = ragstack(site, "rm", "docs/lamp.txt")
        assert again.returncode == 2
    assert ragstack(site, "fsck").returncode == 0


def test_ctrl_c_of_a_forwarded_run_stops_the_job(site: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(3000):
        (many / f"{number}.txt").write_text(f"Report {number}. " + f"Turbine {number} was inspected. " * 30)
    with serving(site, "--port", "0") as (url, _):
        command = [sys.executable, "-m", "ragstack", "index", str(many)]
        run = subprocess.Popen(command, cwd=site, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        _eventually(lambda: any(job["state"] == "running" and job["progress"]["chunks"] for job in _jobs(url)))
        run.send_signal(signal.SIGINT)
        _, told = run.communicate(timeout=PATIENCE_S)
        assert run.returncode == 130, told
        _eventually(lambda: _jobs(url)[0]["state"] == "cancelled")
    erased = ragstack(site, "rm", "id:many")
    assert erased.returncode in (0, 2), erased.stderr  # 2: nothing of it was published before the stop


def _jobs(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{url}/v1/jobs").json()["jobs"]
    return found


def _eventually(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_is_found_while_it_runs_and_ends_cleanly(site: Path) -> None:
    found = site / ".ragstack" / "server.json"
    for number in (signal.SIGTERM, signal.SIGINT):
        with serving(site, "--port", "0") as (url, process):
            told = json.loads(found.read_text())
            assert (told["pid"], told["url"]) == (process.pid, url)
            assert stat.S_IMODE(found.stat().st_mode) == 0o600
            second = ragstack(site, "serve", "--port", "0")
            assert second.returncode == 2
            assert f"process {process.pid}" in second.stderr
            assert found.exists()
            port = url.rpartition(":")[2]
            taken = ragstack(site, "serve", "--port", port)
            assert taken.returncode == 2
            assert f"port {port}" in taken.stderr
            assert "--port" in taken.stderr
            process.send_signal(number)
            _, errors = process.communicate(timeout=PATIENCE_S)
            assert (process.returncode, errors) == (0, "")
        assert not found.exists()


def test_what_a_killed_server_left_is_passed_over(site: Path) -> None:
    with serving(site, "--port", "0") as (_, process):
        process.kill()
        process.wait()
    assert (site / ".ragstack" / "server.json").exists()
    asked = ragstack(site, "query", QUESTION)
    assert (asked.returncode, "40 bar" in asked.stdout) == (0, True), asked.stderr
    with serving(site, "--port", "0") as (url, _):
        assert httpx.get(f"{url}/v1/health/ready").status_code == 200


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


def test_a_stream_under_way_is_ended_with_an_error(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "slow"
    folder.mkdir()
    state = f"indexer: {{state_dir: {site / '.ragstack'}}}\nserver: {{shutdown_timeout_s: 0.5}}\n"
    (folder / "ragstack.yaml").write_text(CONFIG.replace("indexer: {lock_timeout_s: 0.2}\n", "") + state)
    with serving(folder, program=("-c", SLOW_SERVER)) as (url, process):
        lines: list[str] = []
        streaming = threading.Thread(target=_read_stream, args=(url, lines))
        streaming.start()
        _eventually(lambda: "event: sentence" in lines)
        process.send_signal(signal.SIGTERM)
        streaming.join()
        assert "event: error" in lines
        assert '"type":"ShuttingDown"' in lines[lines.index("event: error") + 1]
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0


def _read_stream(url: str, lines: list[str]) -> None:
    body = {"query": QUESTION, "stream": True}
    with httpx.stream("POST", f"{url}/v1/query", json=body, timeout=PATIENCE_S) as response:
        for line in response.iter_lines():
            lines.append(line)  # noqa: PERF402 - the other thread watches them come


def test_without_the_extra_the_message_names_it(site: Path) -> None:
    blocked = "import sys; sys.modules['fastapi'] = None; from ragstack.cli.main import main; sys.exit(main(['serve']))"
    done = subprocess.run([sys.executable, "-c", blocked], cwd=site, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "ragstack[server]" in done.stderr


def test_an_index_that_is_not_there_yet_can_be_made_while_it_serves(tmp_path: Path) -> None:
    (tmp_path / "ragstack.yaml").write_text(CONFIG)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "pump.txt").write_text("The pump of line seven runs at 40 bar.\n")
    with serving(tmp_path, "--port", "0") as (url, _):
        assert httpx.post(f"{url}/v1/query", json={"query": QUESTION}).status_code == 503
        assert ragstack(tmp_path, "index", "docs").returncode == 0
        assert "40 bar" in httpx.post(f"{url}/v1/query", json={"query": QUESTION}).json()["answer"]["text"]


def test_a_free_port_is_taken_on_ipv6_too(site: Path) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return  # no IPv6 on this machine
    with serving(site, "--host", "::1", "--port", "0") as (url, _):
        assert url.startswith("http://[::1]:")
        assert "40 bar" in ragstack(site, "query", QUESTION).stdout
