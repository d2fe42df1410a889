"""A full disk: one message, an index that opens, and a run that completes when there is room again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ragstack.errors import StoreError
from ragstack.indexer.interruption import Interruption
from ragstack.indexer.overlap import Writer
from tests.integration.harness import SMALL_CONFIG, Index
from tests.integration.killing import write_new


class Usage(NamedTuple):
    """What :func:`shutil.disk_usage` returns, bytes."""

    total: int
    used: int
    free: int


class Disk:
    """Stands for the disk: so much is free, counted down by every question about it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int, step: int = 0) -> None:
        self.free, self.step = free, step
        monkeypatch.setattr(shutil, "disk_usage", self.usage)

    def usage(self, _: object) -> Usage:
        self.free -= self.step
        return Usage(10**9, 10**9 - self.free, max(self.free, 0))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "corpus"
    write_new(root)
    return root


def test_reserve_is_kept(idx: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idx.config = {**SMALL_CONFIG, "indexer": {**SMALL_CONFIG["indexer"], "min_free_bytes": 10**9}}
    with monkeypatch.context() as patch:
        Disk(patch, 900_000_000)
        with pytest.raises(StoreError, match=r"nearly full: 900\.0 MB are free.* 1000 MB are kept in reserve"):
            idx.run(corpus)
    idx.config = SMALL_CONFIG
    assert idx.run(corpus).exit_status == 0


@pytest.mark.parametrize("free", [1_000_000, 30_000_000, 60_000_000])
def test_run_on_a_disk_that_fills_up(
    free: int, idx: Index, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Disk(patch, free, step=1_000_000)
        with pytest.raises(StoreError, match="nearly full"):
            idx.run(corpus)
    if free == 60_000_000:
        # What was published answers meanwhile.
        assert idx.query("pump valve").candidates
    idx.run(corpus)
    clean = Index(tmp_path / "clean")
    clean.run(corpus)
    assert idx.content() == clean.content()


def test_nothing_is_published_behind_a_step_that_failed() -> None:
    done: list[str] = []

    class FailingStager:
        def stage(self, batch: Any) -> None:
            raise StoreError("the disk is full.")

        def publish(self, sources: Any, deleted: Any) -> None:
            done.append("published")

    stager: Any = FailingStager()
    batch: Any = None
    with pytest.raises(StoreError), Writer(stager, Interruption(), lambda: None) as writer:
        writer.stage(batch)
        writer.publish([], [])
    assert done == []


STEPS = """
import json, shutil, subprocess, sys
from pathlib import Path

disk, config, corpus = map(Path, sys.argv[1:4])
outcomes = {}

def ragstack(*arguments):
    done = subprocess.run([sys.executable, "-m", "ragstack", *arguments], capture_output=True, text=True)
    return {"status": done.returncode, "errors": done.stderr, "output": done.stdout}

outcomes["index"] = ragstack("index", "-c", str(config), str(corpus))
outcomes["again"] = ragstack("index", "-c", str(config), str(corpus))
outcomes["query"] = ragstack("query", "-c", str(config), "--json", "w17 w99")
for left in (0, 1_000_000, 5_000_000):
    free = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(bytes(max(free - left, 0)))
    outcomes[f"query at {left}"] = ragstack("query", "-c", str(config), "--json", "w17 w99")
    outcomes[f"index at {left}"] = ragstack("index", "-c", str(config), str(corpus))
    (disk / "filler").unlink()
subprocess.run(["mount", "-o", "remount,size=400m", str(disk)], check=True)
outcomes["room"] = ragstack("index", "-c", str(config), str(corpus))
shutil.copytree(disk / "state", config.parent / "state")
print(json.dumps(outcomes))
"""


def test_a_small_tmpfs(tmp_path: Path) -> None:
    """The store maps files: on a real full disk a mistake here ends in SIGBUS, not in an exception."""
    corpus, disk = tmp_path / "corpus", tmp_path / "disk"
    corpus.mkdir()
    disk.mkdir()
    for number in range(24):
        words = [" ".join(f"w{(number * 997 + part * 89 + i * i) % 50_000}" for i in range(60)) for part in range(40)]
        (corpus / f"{number}.txt").write_text("\n\n".join(words))
    config = {
        **SMALL_CONFIG,
        "chunker": {"type": "recursive", "max_tokens": 100},
        "embedder": {"type": "hashing", "dim": 384},
        "indexer": {"group_chunks": 40, "min_free_bytes": 0, "lock_timeout_s": 1},
    }
    idx = Index(tmp_path / "config", config)
    idx.loaded()
    idx.config_file.write_text(idx.config_file.read_text().replace(str(idx.state_dir), str(disk / "state")))
    # A mount of our own, in a namespace of our own: root may, and most systems let others, too.
    mount = f'mount -t tmpfs -o size=60m tmpfs "{disk}" && exec "$@"'
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    probe = [*namespace, "sh", "-c", mount, "sh", "true"]
    if shutil.which("unshare") is None or subprocess.run(probe, check=False).returncode:
        pytest.xfail("no tmpfs can be mounted here; the tests with a counted disk stand for it")
    command = [*namespace, "sh", "-c", mount, "sh", sys.executable, "-c", STEPS]
    done = subprocess.run(
        [*command, str(disk), str(idx.config_file), str(corpus)], stdout=subprocess.PIPE, timeout=600, check=True
    )
    outcomes = json.loads(done.stdout)
    for name, outcome in outcomes.items():
        assert outcome["status"] in (0, 1), (name, outcome)
        assert "Traceback" not in outcome["errors"]
        assert "internal error" not in outcome["errors"], (name, outcome)
        assert outcome["errors"].count("error:") <= 1
    assert outcomes["index"]["status"] == 1
    assert "nearly full" in outcomes["index"]["errors"]
    assert outcomes["query"]["status"] == 0, "the index opens"
    assert outcomes["query at 5000000"]["status"] == 0
    assert outcomes["room"]["status"] == 0, outcomes["room"]
    shutil.move(tmp_path / "config" / "state", idx.state_dir)
    clean = Index(tmp_path / "clean", config)
    clean.run(corpus)
    assert idx.content() == clean.content()
