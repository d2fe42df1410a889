"""Made once, whole or not at all, whoever asks and whatever happened to the file."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import EmbeddingError
from ragstack.inference.artifact_cache import cached_artifact
from ragstack.inference.role import EMBEDDER


def made(folder: Path, key: dict[str, object], value: bytes, calls: list[bytes]) -> bytes:
    def make() -> bytes:
        calls.append(value)
        return value

    return cached_artifact(folder, "engine", key, make, EMBEDDER)


def test_made_once_for_each_key(tmp_path: Path) -> None:
    calls: list[bytes] = []
    for _ in range(3):
        assert made(tmp_path / "new", {"onnx": "a", "gpu": "x"}, b"first\n\x00", calls) == b"first\n\x00"
        assert made(tmp_path / "new", {"onnx": "a", "gpu": "y"}, b"", calls) == b""
    assert calls == [b"first\n\x00", b""]


@given(data=st.data())
def test_a_damaged_file_is_made_again(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder, calls = tmp_path_factory.mktemp("cache"), []  # type: ignore[var-annotated]
    made(folder, {"a": 1}, b"the engine", calls)
    (file,) = folder.glob("*.engine")
    whole = file.read_bytes()
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    file.write_bytes(damaged)
    assert made(folder, {"a": 1}, b"the engine", calls) == b"the engine"
    assert len(calls) == 2
    assert made(folder, {"a": 1}, b"the engine", calls) == b"the engine"
    assert len(calls) == 2


def test_what_fails_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise EmbeddingError("no kernel")

    with pytest.raises(EmbeddingError, match="no kernel"):
        cached_artifact(tmp_path, "engine", {"a": 1}, fail, EMBEDDER)
    assert not list(tmp_path.glob("*.engine")) and not list(tmp_path.glob("*.part"))
    calls: list[bytes] = []
    assert made(tmp_path, {"a": 1}, b"x", calls) == b"x"


def test_threads_wait_for_the_one_that_makes_it(tmp_path: Path) -> None:
    calls: list[int] = []
    gate = threading.Event()

    def make() -> bytes:
        calls.append(1)
        gate.wait(timeout=30)
        return b"x"

    with ThreadPoolExecutor(3) as threads:
        jobs = [threads.submit(cached_artifact, tmp_path, "engine", {"a": 1}, make, EMBEDDER) for _ in range(3)]
        gate.set()
        assert [job.result(timeout=30) for job in jobs] == [b"x"] * 3
    assert len(calls) == 1


def test_two_processes_make_one(tmp_path: Path) -> None:
    program = f"""
import pathlib, time
from ragstack.inference.artifact_cache import cached_artifact
from ragstack.inference.role import EMBEDDER
folder = pathlib.Path({str(tmp_path)!r})
def make():
    with (folder / "made").open("a") as file:
        file.write("once ")
    time.sleep(0.3)
    return b"x"
assert cached_artifact(folder, "engine", {{"a": 1}}, make, EMBEDDER) == b"x"
"""
    both = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [one.wait(timeout=60) for one in both] == [0, 0]
    assert (tmp_path / "made").read_text() == "once "


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EmbeddingError, match="cannot be kept there") as raised:
        made(tmp_path / "file", {"a": 1}, b"x", [])
    assert "RAGSTACK_CACHE_DIR" in raised.value.hint
