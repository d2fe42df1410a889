"""The index follows the sources: added, changed, deleted, moved, failed, put back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ragstack.errors import EmptyRootError, IndexLockedError, InputError
from ragstack.ledger.schema import LOCK_FILE
from ragstack.process_lock import hold_lock
from ragstack.types import chunk_id
from tests.integration.harness import Index, write_corpus


def clean(tmp_path: Path, corpus: Path, like: Index) -> Index:
    """An index of the same folder made by one run."""
    other = Index(tmp_path / "clean", like.config)
    other.run(corpus)
    return other


def test_first_run_counts_everything(idx: Index, corpus: Path) -> None:
    report = idx.run(corpus)
    assert report.exit_status == 0
    assert report.added == 11
    assert report.skipped == {"empty": 1, "binary": 1}
    content = idx.content()
    assert report.chunk_count == report.chunks_written == len(content["ids"]) == content["chunk_count"]
    assert content["token_ids"] == content["ids"]
    assert not content["group_open"]


def test_every_chunk_is_a_byte_range_of_its_file(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    content = idx.content()
    fingerprint = idx.query("pump").index.fingerprint
    for identity, payload in content["payloads"].items():
        raw = (corpus.parent / payload["source_id"]).read_bytes()
        canonical = raw.removeprefix(b"\xef\xbb\xbf")
        start, end = payload["byte_start"], payload["byte_end"]
        assert canonical[start:end].decode() == payload["text"]
        assert identity == chunk_id(payload["source_id"], payload["source_version"], start, end, fingerprint)


def test_running_again_does_nothing(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    before = idx.content()
    report = idx.run(corpus)
    assert (report.added, report.changed, report.deleted, report.chunks_written) == (0, 0, 0, 0)
    assert report.unchanged == 11
    assert report.skipped == {"empty": 1, "binary": 1}
    assert idx.content() == before


def test_touched_file_is_not_indexed_again(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    os.utime(corpus / "guide.md", (1, 1))
    report = idx.run(corpus)
    assert report.chunks_written == 0
    assert report.unchanged == 11


def test_changes_end_as_a_clean_run_would(idx: Index, corpus: Path, tmp_path: Path) -> None:
    idx.run(corpus)
    (corpus / "guide.md").write_text("# Guide\n\nThe pump is primed with water now.\n")
    (corpus / "notes" / "crlf.txt").unlink()
    (corpus / "notes" / "new.md").write_text("# New\n\nA new note.\n")
    (corpus / "tool.py").rename(corpus / "renamed.py")
    (corpus / "empty.txt").write_text("No longer empty.")
    (corpus / "notes" / "bom.txt").write_bytes(b"")
    report = idx.run(corpus)
    assert (report.added, report.changed, report.deleted) == (2, 2, 2)
    content = idx.content()
    assert content["superseded"] == []
    assert content == clean(tmp_path, corpus, idx).content()


def test_a_version_that_comes_back(idx: Index, corpus: Path, tmp_path: Path) -> None:
    first = (corpus / "guide.md").read_bytes()
    idx.run(corpus)
    (corpus / "guide.md").write_text("Something else for a while.\n")
    idx.run(corpus)
    (corpus / "guide.md").write_bytes(first)
    idx.run(corpus)
    assert idx.content() == clean(tmp_path, corpus, idx).content()


def test_ids_do_not_depend_on_the_folders_above(idx: Index, corpus: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "far" / "away" / "corpus"
    shutil.copytree(corpus, elsewhere)
    other = Index(tmp_path / "other")
    idx.run(corpus)
    other.run(elsewhere)
    assert idx.content()["ids"] == other.content()["ids"]


def test_one_root_leaves_the_other_alone(idx: Index, corpus: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    write_corpus(second)
    idx.run(corpus, second)
    (second / "guide.md").unlink()
    (corpus / "guide.md").unlink()
    report = idx.run(corpus)
    assert report.deleted == 1
    sources = idx.content()["sources"]
    assert "corpus/guide.md" not in sources
    assert "second/guide.md" in sources
    assert idx.run().deleted == 1, "without arguments all roots are looked at"


def test_a_sub_folder_leaves_the_rest_alone(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    (corpus / "guide.md").unlink()
    (corpus / "notes" / "crlf.txt").unlink()
    assert idx.run(corpus / "notes").deleted == 1
    assert "corpus/guide.md" in idx.content()["sources"]


def test_emptied_root_is_refused_unless_pruned(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    before = idx.content()
    shutil.rmtree(corpus)
    with pytest.raises(EmptyRootError, match="nothing was deleted"):
        idx.run(corpus)
    corpus.mkdir()
    with pytest.raises(EmptyRootError, match="nothing was deleted"):
        idx.run(corpus)
    assert idx.content() == before
    report = idx.run(corpus, prune=True)
    assert report.deleted == 13
    assert idx.content()["ids"] == []
    assert idx.content()["archive"] == []


def test_bad_file_is_reported_and_its_last_good_version_kept(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    (corpus / "guide.md").write_bytes(b"Broken \xff\xfe\x00 bytes \x80\x81 inside.\n")
    report = idx.run(corpus)
    assert report.exit_status == 3
    assert [Path(failure.path).name for failure in report.failed] == ["guide.md"]
    assert "byte" in report.failed[0].reason
    texts = [p["text"] for p in idx.content()["payloads"].values() if p["source_id"] == "corpus/guide.md"]
    assert any("primed with oil" in text for text in texts)
    again = idx.run(corpus)
    assert again.exit_status == 3, "a failure is not forgotten"


def test_unreadable_folder_keeps_what_was_indexed_below_it(
    idx: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idx.run(corpus)
    scandir = os.scandir

    def refuse(path: os.PathLike[str]) -> object:
        if Path(path).name == "notes":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = idx.run(corpus)
    assert report.exit_status == 3
    assert report.deleted == 0
    assert "corpus/notes/crlf.txt" in idx.content()["sources"]


def test_broken_front_matter_is_a_warning(idx: Index, corpus: Path) -> None:
    (corpus / "broken.md").write_text("---\ntitle: [unclosed\n---\n\nStill a note about pumps.\n")
    report = idx.run(corpus)
    assert report.exit_status == 0
    assert len(report.warnings) == 1
    assert "broken.md" in report.warnings[0]


def test_second_writer_is_told_who_holds_the_index(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    with hold_lock(idx.state_dir / LOCK_FILE, 0, "the index"), pytest.raises(IndexLockedError, match=str(os.getpid())):
        idx.run(corpus)


def test_nothing_named(idx: Index) -> None:
    with pytest.raises(InputError, match="nothing to index"):
        idx.run()


def test_order_of_targets_does_not_matter(idx: Index, corpus: Path, tmp_path: Path) -> None:
    other = Index(tmp_path / "other")
    names = sorted(path for path in corpus.rglob("*") if path.is_file())
    idx.run(corpus)
    for path in reversed(names):
        other.run(path)
    # Files named alone belong to the folder they are in, so only the root differs in its parts.
    other.config = {**other.config}
    first, second = idx.content(), other.content()
    assert len(first["ids"]) == len(second["ids"])
    assert sorted(p["text"] for p in first["payloads"].values()) == sorted(
        p["text"] for p in second["payloads"].values()
    )
    assert first["frequencies"] == second["frequencies"]


def test_declared_fields_reach_the_store(idx: Index, corpus: Path) -> None:
    idx.config = {**idx.config, "fields": {"team": {"type": "keyword"}, "year": {"type": "integer"}}}
    (corpus / "tagged.md").write_text("---\nteam: [a, b]\nyear: 2024\n---\n\nA tagged note about pumps.\n")
    (corpus / "wrong.md").write_text("---\nyear: soon\n---\n\nA wrong note.\n")
    report = idx.run(corpus)
    assert [Path(failure.path).name for failure in report.failed] == ["wrong.md"]
    assert "declared as integer" in report.failed[0].reason
    from ragstack.filters import Condition

    chain = idx.query("pumps", filter=Condition("year", "gte", 2024))
    assert {passage.place.source_id for passage in chain.passages} <= {"corpus/tagged.md"}
    assert {candidate.source_id for candidate in chain.candidates} == {"corpus/tagged.md"}
