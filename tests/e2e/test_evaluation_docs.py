"""The commands and the Python of docs/evaluation.md work as typed, on the example corpus with the real model."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PATIENCE_S = 600


def test_every_command_works_as_typed(tmp_path: Path, repository: Path) -> None:
    page = (repository / "docs" / "evaluation.md").read_text("utf-8")
    shutil.copytree(repository / "examples", tmp_path / "examples")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "ragstack"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ragstack "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
    blocks = re.findall(r"```(sh|python)\n(.*?)```", page, re.DOTALL)
    shown = ""
    for kind, block in blocks:
        if "pip install" in block:
            continue
        run = ["bash", "-c", f"set -euo pipefail\n{block}"] if kind == "sh" else [sys.executable, "-c", block]
        done = subprocess.run(
            run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        assert done.returncode == 0, (block, done.stdout[-2000:], done.stderr[-2000:])
        shown += done.stdout
    for name in ("report.html", "report.json", "compare.html", "tuned.yaml"):
        assert (tmp_path / name).is_file(), name
    assert {kind for kind, _ in blocks} == {"sh", "python"}
    exact = re.findall(r"quote_exactness +(\S+)", shown)
    assert set(exact) == {"1.0000"}
    assert "retrieval.mode: dense → hybrid" in shown


def test_every_measure_and_option_is_explained(repository: Path) -> None:
    from ragstack.evaluation.measures import CITATION_MEASURES

    page = (repository / "docs" / "evaluation.md").read_text("utf-8")
    for name in CITATION_MEASURES:
        assert f"`{name}`" in page
    for command in ("eval", "tune"):
        done = subprocess.run(
            [sys.executable, "-m", "ragstack", command, "--help"],
            capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        options = set(re.findall(r"(?<!\S)(--[a-z-]+)", done.stdout.split("Options:")[1].split("Examples:")[0]))
        for option in options - {"--help", "--config", "--output", "--force"}:
            assert option in page, option
