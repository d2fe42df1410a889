"""From named paths to roots and scopes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragstack.config.models import RootConfig
from ragstack.errors import EmptyRootError, InputError
from ragstack.indexer.roots import Scope, require_sources, resolve_scopes
from ragstack.source_names import name_of_path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("docs/a.md", "docs/sub/b.md", "other/docs/c.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_folder_is_its_own_root(tree: Path) -> None:
    assert resolve_scopes([str(tree / "docs")], {}) == [Scope("docs", tree / "docs", "")]


def test_file_belongs_to_the_folder_it_is_in(tree: Path) -> None:
    assert resolve_scopes([str(tree / "docs" / "a.md")], {}) == [Scope("docs", tree / "docs", "a.md")]


def test_path_inside_a_known_root_belongs_to_it(tree: Path) -> None:
    known = {"docs": name_of_path(tree / "docs")}
    assert resolve_scopes([str(tree / "docs" / "sub")], known) == [Scope("docs", tree / "docs", "sub")]


def test_nested_scopes_are_merged(tree: Path) -> None:
    scopes = resolve_scopes([str(tree / "docs"), str(tree / "docs" / "sub"), str(tree / "docs" / "a.md")], {})
    assert scopes == [Scope("docs", tree / "docs", "")]


def test_two_roots_with_one_label_are_refused(tree: Path) -> None:
    with pytest.raises(InputError, match="share ids") as caught:
        resolve_scopes([str(tree / "docs"), str(tree / "other" / "docs")], {})
    assert "label" in caught.value.hint


def test_a_label_tells_them_apart(tree: Path) -> None:
    scopes = resolve_scopes([str(tree / "docs"), RootConfig(path=str(tree / "other" / "docs"), label="other")], {})
    assert [scope.label for scope in scopes] == ["docs", "other"]


def test_a_moved_root_keeps_its_label(tree: Path) -> None:
    known = {"docs": name_of_path(tree / "gone" / "docs")}
    assert resolve_scopes([str(tree / "docs")], known) == [Scope("docs", tree / "docs", "")]


def test_missing_path(tree: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        resolve_scopes([str(tree / "nothing")], {})


def test_missing_root_that_was_indexed(tree: Path) -> None:
    known = {"gone": name_of_path(tree / "gone")}
    with pytest.raises(EmptyRootError, match="nothing was deleted"):
        resolve_scopes([str(tree / "gone")], known, [("gone", "")])
    with pytest.raises(EmptyRootError, match="nothing was deleted"):
        resolve_scopes([], known, [("gone", "")])
    assert resolve_scopes([str(tree / "gone")], known, [("gone", "")], prune=True) == [Scope("gone", tree / "gone", "")]


def test_without_targets_everything_known(tree: Path) -> None:
    known = {"docs": name_of_path(tree / "docs")}
    assert resolve_scopes([], known, [("docs", "sub"), ("docs", "a.md")]) == [
        Scope("docs", tree / "docs", "sub"),
        Scope("docs", tree / "docs", "a.md"),
    ]


def test_an_emptied_root_is_refused(tree: Path) -> None:
    scope = Scope("docs", tree / "docs", "")
    with pytest.raises(EmptyRootError, match="held 2 indexed sources"):
        require_sources([scope], [("other", "x")], [("docs", "a.md"), ("docs", "sub/b.md")])
    require_sources([scope], [], [])
    require_sources([scope], [("docs", "a.md")], [("docs", "a.md"), ("docs", "sub/b.md")])


def test_scope_contains_whole_path_parts_only() -> None:
    scope = Scope("docs", Path("/x/docs"), "sub")
    assert scope.contains("docs", "sub/b.md")
    assert not scope.contains("docs", "subway.md")
    assert not scope.contains("other", "sub/b.md")
