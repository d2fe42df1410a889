"""The walk: what is a source and what is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ragstack.config.models import SourcesConfig
from ragstack.indexer.discovery import Discovery, discover
from ragstack.indexer.roots import Scope


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def walk(root: Path, relative: str = "", **settings: object) -> Discovery:
    config = SourcesConfig.model_validate(settings)
    return discover([Scope("r", root, relative)], {"r": root}, config, [])


def names(found: Discovery) -> list[str]:
    return [file.source_id for file in found.files]


def test_sorted_and_hidden_left_out(tmp_path: Path) -> None:
    write(tmp_path, "b.md", "a/z.md", "a/.hidden.md", ".git/config", "node_modules/x.js")
    found = walk(tmp_path)
    assert names(found) == ["r/a/z.md", "r/b.md"]
    assert found.skipped["excluded"] == 3


def test_gitignore_rules_nest_and_negate(tmp_path: Path) -> None:
    write(tmp_path, "keep.log", "drop.log", "sub/keep.log", "sub/other.log", "build/x.md")
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\nbuild/\n")
    (tmp_path / "sub" / ".gitignore").write_text("keep.log\n")
    assert names(walk(tmp_path)) == ["r/keep.log"]
    assert names(walk(tmp_path, use_gitignore=False)) == [
        "r/build/x.md", "r/drop.log", "r/keep.log", "r/sub/keep.log", "r/sub/other.log",
    ]  # fmt: skip


def test_gitignore_above_a_scope_holds_in_it(tmp_path: Path) -> None:
    write(tmp_path, "sub/a.log", "sub/a.md")
    (tmp_path / ".gitignore").write_text("*.log\n")
    assert names(walk(tmp_path, "sub")) == ["r/sub/a.md"]


def test_include_and_size_limit(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "b.txt", "deep/c.md")
    (tmp_path / "big.md").write_bytes(b"x" * 100)
    found = walk(tmp_path, include=["*.md"], max_file_bytes=50)
    assert names(found) == ["r/a.md", "r/deep/c.md"]
    assert found.skipped["larger than max_file_bytes"] == 1


def test_a_file_named_alone_is_wanted(tmp_path: Path) -> None:
    write(tmp_path, ".env.md")
    assert names(walk(tmp_path, ".env.md")) == ["r/.env.md"]


def test_symlinks(tmp_path: Path) -> None:
    write(tmp_path, "real/a.md")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    assert names(walk(tmp_path)) == ["r/real/a.md"]
    followed = walk(tmp_path, follow_symlinks=True)
    assert len(followed.files) == 1, "each folder is entered once"
    assert followed.skipped["symlink loop"] >= 1
    assert followed.skipped["dangling symlink"] == 1


def test_left_out_folder(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "state/b.md")
    found = discover([Scope("r", tmp_path, "")], {"r": tmp_path}, SourcesConfig(), [tmp_path / "state"])
    assert names(found) == ["r/a.md"]


def test_a_known_root_inside_keeps_its_own_label(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "inner/b.md")
    roots = {"r": tmp_path, "inner": tmp_path / "inner"}
    found = discover([Scope("r", tmp_path, "")], roots, SourcesConfig(), [])
    assert names(found) == ["inner/b.md", "r/a.md"]
    assert Scope("inner", tmp_path / "inner", "") in found.scopes


def test_fifo_is_not_a_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert walk(tmp_path).skipped["not a regular file"] == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows names are Unicode")
def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.md"))
    path.write_text("x")
    assert names(walk(tmp_path)) == ["r/caf%E9.md"]


def test_unreadable_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.md", "locked/b.md")
    scandir = os.scandir

    def refuse(path: os.PathLike[str]) -> object:
        # The tests may run as root, who can read every folder.
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = walk(tmp_path)
    assert names(found) == ["r/a.md"]
    assert found.failed == [(tmp_path / "locked", "Permission denied")]
    assert found.could_not_read(tmp_path / "locked" / "b.md")
    assert not found.could_not_read(tmp_path / "a.md")


def test_deep_tree(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(150):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "a.md").write_text("x")
    assert len(walk(tmp_path).files) == 1
