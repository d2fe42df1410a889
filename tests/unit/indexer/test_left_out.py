"""What is said about a single file agrees with what a run over everything finds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ragstack.config.models import SourcesConfig
from ragstack.indexer.discovery import discover
from ragstack.indexer.left_out import why_left_out
from ragstack.indexer.roots import Scope

_FILES = (
    "a.txt", "b.log", "keep.log", ".hidden/x.txt", "docs/a.txt", "docs/b.log", "docs/deep/c.txt", "docs/deep/keep.log",
    "node_modules/m.txt", "inner/a.txt", "inner/b.log", "inner/sub/d.txt", "state/ledger.txt", "big.txt",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in _FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("word " * (200 if name == "big.txt" else 1))
    (root / ".gitignore").write_text("*.log\n!keep.log\n/docs/deep/c.txt\n")
    (root / "inner" / ".gitignore").write_text("sub/\n")
    (root / "link.txt").symlink_to(root / "a.txt")
    (root / "docs" / "loop").symlink_to(root / "docs")
    os.mkfifo(root / "pipe")
    return root


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_gitignore": False},
        {"exclude": ["docs/*", "!docs/deep"]},
        {"include": ["*.txt"]},
        {"include": ["/docs/"], "exclude": []},
        {"follow_symlinks": True, "exclude": []},
        {"max_file_bytes": 100},
    ],
)
@pytest.mark.parametrize(
    "scoped",
    [[("root", "")], [("root", "docs")], [("root", "b.log")], [("root", ""), ("inner", "")], [("inner", "sub")]],
)
def test_agrees_with_discovery(root: Path, settings: dict[str, Any], scoped: list[tuple[str, str]]) -> None:
    config = SourcesConfig.model_validate(settings)
    roots = {"root": root, "inner": root / "inner"}
    scopes = [Scope(label, roots[label], relative) for label, relative in scoped]
    leave_out = [root / "state"]
    found = {str(file.path) for file in discover(scopes, roots, config, leave_out).files}
    for path in [root / name for name in (*_FILES, "link.txt", "pipe")]:
        told = why_left_out(path, scopes, roots, config, leave_out)
        assert (told is None) is (str(path) in found), (path, told)


def test_the_pattern_and_where_it_stands_are_named(root: Path) -> None:
    scopes = [Scope("root", root, "")]
    config = SourcesConfig()
    told = {
        name: why_left_out(root / name, scopes, {"root": root}, config, [root / "state"])
        for name in ("b.log", "inner/sub/d.txt", "node_modules/m.txt", "state/ledger.txt")
    }
    assert f"{root}/.gitignore names '*.log'" in str(told["b.log"])
    assert f"Its folder {root}/inner/sub is left out: {root}/inner/.gitignore names 'sub/'" in str(
        told["inner/sub/d.txt"]
    )
    assert "sources.exclude names 'node_modules/'" in str(told["node_modules/m.txt"])
    assert "the index itself" in str(told["state/ledger.txt"])
