from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ragstack.errors import IndexLockedError
from ragstack.process_lock import hold_lock

HOLD = """
import sys, time
from pathlib import Path
from ragstack.process_lock import hold_lock
lock = hold_lock(Path(sys.argv[1]), 0, "the index")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def holder(path: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_error_names_the_holder_and_what_to_do(tmp_path: Path) -> None:
    with holder(tmp_path / "lock", 60) as process:
        try:
            with pytest.raises(IndexLockedError) as caught:
                hold_lock(tmp_path / "lock", 0.1, "the index at X")
        finally:
            process.kill()
    message = caught.value.message
    assert message.startswith("the index at X is held by process ")
    assert str(process.pid) in message
    assert socket.gethostname() in message
    assert "since 20" in message
    assert "Wait" in caught.value.hint
    assert caught.value.exit_status == 2


def test_a_killed_holder_leaves_nothing_to_clear_up(tmp_path: Path) -> None:
    with holder(tmp_path / "lock", 60) as process:
        process.kill()
    assert (tmp_path / "lock").read_bytes()
    with hold_lock(tmp_path / "lock", 5, "the index"):
        assert json.loads((tmp_path / "lock").read_bytes())["pid"] == os.getpid()
    assert (tmp_path / "lock").read_bytes() == b""


def test_it_waits_for_a_holder_that_finishes(tmp_path: Path) -> None:
    lock = hold_lock(tmp_path / "lock", 0, "the index")
    threading.Timer(0.2, lock.release).start()
    hold_lock(tmp_path / "lock", 60, "the index").release()


def test_a_second_lock_in_one_process_is_refused_as_its_own(tmp_path: Path) -> None:
    with hold_lock(tmp_path / "lock", 0, "the index"), pytest.raises(IndexLockedError, match="this process"):
        hold_lock(tmp_path / "lock", 0, "the index")


@pytest.mark.parametrize("content", [b"", b"garbage", b"[]", b'{"pid": 1}'])
def test_a_holder_without_a_readable_name(tmp_path: Path, content: bytes) -> None:
    with hold_lock(tmp_path / "lock", 0, "the index"):
        (tmp_path / "lock").write_bytes(content)
        with pytest.raises(IndexLockedError, match="did not write its name"):
            hold_lock(tmp_path / "lock", 0, "the index")


def test_release_is_idempotent(tmp_path: Path) -> None:
    lock = hold_lock(tmp_path / "lock", 0, "the index")
    lock.release()
    lock.release()
    with hold_lock(tmp_path / "lock", 0, "the index"), pytest.raises(IndexLockedError):
        lock.release()  # must not free the lock that another holds now
        hold_lock(tmp_path / "lock", 0, "the index")


def test_a_missing_folder_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hold_lock(tmp_path / "no" / "lock", 0, "the index")
