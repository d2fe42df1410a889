"""Ctrl-C and SIGTERM: the run ends at a consistent point and says what was kept; the next run goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from ragstack.errors import InterruptedRunError
from ragstack.indexer.interruption import Interruption
from ragstack.indexer.report import SilentProgress
from ragstack.indexer.run import IndexRequest
from ragstack.indexer.run import index as run_index
from tests.integration.harness import SMALL_CONFIG, Index
from tests.integration.killing import write_new

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are sent the way of POSIX systems")

_TIMEOUT_S = 120


def start(idx: Index, *arguments: str) -> subprocess.Popen[str]:
    """``ragstack index`` in a process of its own, returned once it has told how much there is to do."""
    idx.loaded()
    command = [sys.executable, "-m", "ragstack", "index", "-c", str(idx.config_file), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if " to read, " in line:
            return process
    raise AssertionError(f"it ended before it began: {process.wait()}")


def stop(process: subprocess.Popen[str], *signals: signal.Signals) -> str:
    """Send the signals and wait; its error output."""
    for number in signals:
        process.send_signal(number)
    return process.communicate(timeout=_TIMEOUT_S)[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_at_random_moments(number: signal.Signals, idx: Index, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_new(corpus)
    for _ in range(4):
        process = start(idx, str(corpus))
        time.sleep(random.random() * 0.4)
        errors = stop(process, number)
        assert process.returncode in (0, 130), errors
        if process.returncode == 130:
            assert "the index is consistent" in errors
            assert "Run the same command again" in errors
            assert "Traceback" not in errors
        else:
            # Finished before the signal: begin anew, so that there is something to stop.
            (corpus / "long.md").write_text(f"Written again {random.random()}.\n\n" * 200)
    process = start(idx, str(corpus))
    process.communicate(timeout=_TIMEOUT_S)
    assert process.returncode == 0
    clean = Index(tmp_path / "clean")
    clean.run(corpus)
    assert idx.content() == clean.content()


def test_stopped_while_the_model_embeds(tmp_path: Path) -> None:
    config = {**SMALL_CONFIG, "chunker": {"type": "recursive", "max_tokens": 60}}
    config["embedder"] = {"type": "local", "threads": 1}
    config["indexer"] = {**SMALL_CONFIG["indexer"], "group_chunks": 512}
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    text = "The pump of hall {} is primed with oil before the red lever is turned; wait for the lamp to go out.\n\n"
    (corpus / "long.txt").write_text("".join(text.format(number) for number in range(400)))
    idx = Index(tmp_path / "index", config)
    process = start(idx, str(corpus))
    time.sleep(0.5)
    errors = stop(process, signal.SIGINT)
    assert process.returncode == 130, errors
    assert "stopped: 0 new and changed sources" in errors
    report = idx.run(corpus)
    clean = Index(tmp_path / "clean", config)
    clean.run(corpus)
    assert report.chunk_count == 200
    ours, theirs = idx.content(), clean.content()
    assert {k: ours[k] for k in ("ids", "archive", "frequencies", "tokens")} == {
        k: theirs[k] for k in ("ids", "archive", "frequencies", "tokens")
    }


def test_two_signals_in_a_row(idx: Index, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_new(corpus)
    process = start(idx, str(corpus))
    errors = stop(process, signal.SIGINT, signal.SIGINT)
    assert process.returncode in (130, 0), errors
    assert "Traceback" not in errors
    idx.run(corpus)
    clean = Index(tmp_path / "clean")
    clean.run(corpus)
    assert idx.content() == clean.content()


def test_the_error_is_json_where_that_was_asked_for(idx: Index, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(60):
        (corpus / f"{number}.txt").write_text(f"Note {number} on pumps.\n\n" * 40)
    idx.loaded()
    command = [sys.executable, "-m", "ragstack", "index", "-c", str(idx.config_file), "--json", str(corpus)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not (idx.state_dir / "archive.db").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=_TIMEOUT_S)[0]
    assert process.returncode in (0, 130)
    if process.returncode == 130:
        assert json.loads(output)["error"]["type"] == "InterruptedRunError"


STUCK = """
import sys, time
from ragstack.cli.interrupt import stopping_on_signals
from ragstack.indexer.interruption import Interruption

interruption = Interruption()
interruption.kept = 7
with stopping_on_signals(interruption, as_json=False, grace_s=float(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(600)   # stands for clean-up that takes long: a request is noted, nothing is interrupted
"""


@pytest.mark.parametrize(("grace_s", "signals"), [(0.2, 1), (600, 2)])
def test_a_stop_that_takes_too_long_ends_anyway(grace_s: float, signals: int) -> None:
    command = [sys.executable, "-c", STUCK, str(grace_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for number in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3 if number + 1 < signals else 0)
    errors = process.communicate(timeout=_TIMEOUT_S)[1]
    assert process.returncode == 130
    assert "7 new and changed sources were indexed before the stop and are kept" in errors


def test_handlers_are_put_back() -> None:
    script = textwrap.dedent("""
        import signal
        from ragstack.cli.interrupt import stopping_on_signals
        from ragstack.indexer.interruption import Interruption
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        with stopping_on_signals(Interruption(), as_json=False):
            pass
        assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
        assert signal.set_wakeup_fd(-1) == -1
    """)
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=_TIMEOUT_S).returncode == 0


class StopAt(SilentProgress):
    """Asks for a stop when the batch of that number has been embedded."""

    def __init__(self, interruption: Interruption, batch: int) -> None:
        self.interruption, self.left = interruption, batch

    def embedded(self, chunks: int, tokens: int) -> None:
        self.left -= 1
        if not self.left:
            thread = threading.Thread(target=self.interruption.request)
            thread.start()
            thread.join()


@pytest.mark.parametrize("batch", [1, 2, 7, 12])
def test_another_thread_may_ask(batch: int, idx: Index, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_new(corpus)
    interruption = Interruption()
    with pytest.raises(InterruptedRunError, match=r"stopped: \d+ new"):
        run_index(
            idx.loaded(), idx.state_dir, IndexRequest([str(corpus)]), StopAt(interruption, batch),
            interruption=interruption,
        )  # fmt: skip
    report = idx.run(corpus)
    assert report.unchanged == interruption.kept, "what was said to be kept is not done again"
    assert not report.recovered, "the stop took back what was not finished"
    clean = Index(tmp_path / "clean")
    clean.run(corpus)
    assert idx.content() == clean.content()
