"""The command as a process of its own: start-up, terminals, pipes, exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def ragstack(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "ragstack", *arguments],
        cwd=cwd, env={**os.environ, **env}, capture_output=True, check=False,
    )  # fmt: skip


def test_help_imports_nothing_that_takes_time(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ragstack", "--help"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "ragstack.cli.main" in imported
    slow = {"typer", "rich", "pydantic", "numpy", "yaml", "onnxruntime", "qdrant_edge", "tokenizers"}
    assert imported & slow == set()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--version"], 0),
        (["nonsense"], 2),
        (["config", "check", "absent.yaml"], 2),
        (["query"], 2),
        (["query", "anything"], 2),
        (["verify", "absent.json"], 2),
        (["index", "absent-folder"], 2),
        (["status"], 2),
    ],
)
def test_status_and_no_traceback(arguments: list[str], status: int, tmp_path: Path) -> None:
    done = ragstack(*arguments, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert b"Traceback" not in done.stderr
    assert (done.stderr == b"") is (status == 0)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_name_can_be_printed_on_any_terminal(encoding: str, tmp_path: Path) -> None:
    name = os.fsdecode("é😀".encode() + b"\xff.yaml")
    done = ragstack("config", "check", name, cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert b"there is no such file" in done.stderr
    (tmp_path / "ragstack.yaml").write_text("sources: {paths: ['é😀']}\n", encoding="utf-8")
    for arguments in (["config", "show"], ["config", "show", "--json"], ["config", "schema"], ["doctor"]):
        assert ragstack(*arguments, cwd=tmp_path, PYTHONIOENCODING=encoding).returncode == 0


def test_a_reader_that_goes_away_is_no_error_to_shout_about(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as broken:
        done = subprocess.run(
            [sys.executable, "-m", "ragstack", "config", "schema"],
            cwd=tmp_path, stdout=broken, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, b"")


def test_the_shell_gets_completions(tmp_path: Path) -> None:
    done = ragstack(cwd=tmp_path, _RAGSTACK_COMPLETE="complete_bash", COMP_WORDS="ragstack ver", COMP_CWORD="1")
    assert b"verify" in done.stdout
