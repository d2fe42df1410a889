"""What is erased is gone from every file, to the byte; killed anywhere, the same command finishes."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.adapters.base import CollectionSpec
from ragstack.archive.base import DocumentKey
from ragstack.archive.sqlite import SqliteArchive
from ragstack.errors import IndexFormatError, IndexNotFoundError, InputError, StoreError
from ragstack.indexer.collect import collect_garbage
from ragstack.indexer.erase import EraseReport, erase, select_sources
from ragstack.indexer.repair import fsck
from ragstack.indexer.status import index_status
from ragstack.ledger.schema import ARCHIVE_FILE, ERASING_FILE, collection_name, token_vectors_file
from ragstack.ledger.writer import Ledger
from tests.integration.harness import Index
from tests.integration.sparse_files import extents

posix = pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a signal of POSIX systems")
SECRET = "corpus/notes/secret.md"


def secret_words(seed: int = 7) -> list[str]:
    """Words that occur nowhere else."""
    rng = random.Random(seed)
    return ["".join(rng.choices("bcdfghjklmnpqrstvwxz", k=11)) for _ in range(60)]


def add_secret(corpus: Path) -> list[str]:
    """A source whose text is known word by word."""
    words = secret_words()
    lines = [" ".join(words[i : i + 6]) + "." for i in range(0, len(words), 6)]
    (corpus / "notes" / "secret.md").write_text("# Secret\n\n" + "\n\n".join(lines) + "\n")
    return words


def traces(state_dir: Path, needles: list[bytes]) -> list[tuple[str, bytes]]:
    """The byte strings that are found in files below the state directory, each with the file's name."""
    found: list[tuple[str, bytes]] = []
    for path in sorted(state_dir.rglob("*")):
        if path.is_file():
            data = b"\0".join(part for _, part in extents(path))
            found += [(path.name, needle) for needle in needles if needle in data]
    return found


def run_erase(idx: Index, *targets: str, dry_run: bool = False) -> EraseReport:
    return erase(idx.loaded(), idx.state_dir, targets, dry_run=dry_run)


def command(idx: Index, *arguments: str, fault: str | None = None, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run ``ragstack`` in a process of its own: exit status, stdout, stderr."""
    idx.loaded()
    environment = dict(os.environ)
    if fault is not None:
        environment["RAGSTACK_FAULT_POINT"] = fault
    name, *rest = arguments
    done = subprocess.run(
        [sys.executable, "-m", "ragstack", name, "-c", str(idx.config_file), *rest],
        env=environment, capture_output=True, check=False, timeout=120, input=stdin,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def secret_bytes(idx: Index, words: list[str]) -> list[bytes]:
    """What the index holds of the secret: its words, its compressed text, its names, its token vectors."""
    ledger = Ledger(idx.state_dir)
    generation = next(g for g in ledger.generations() if g.state == "active")
    row = ledger.sources(generation.generation)[SECRET]
    ledger.close()
    archive = SqliteArchive(idx.state_dir / ARCHIVE_FILE)
    document = archive.get(DocumentKey(row.source_version, row.parser, ""))
    archive.close()
    assert document is not None
    database = sqlite3.connect(idx.state_dir / token_vectors_file(generation.generation))
    content = idx.content()
    ids = [i for i, payload in content["payloads"].items() if payload["source_id"] == SECRET]
    assert ids
    blobs = [
        database.execute("SELECT vectors FROM token_vectors WHERE chunk_id=?", (identity,)).fetchone()[0]
        for identity in ids
    ]
    database.close()
    compressed = zlib.compress(document.canonical_bytes, 3)
    return [
        *(word.encode() for word in words),
        compressed[20:60],
        *(blob[40:56] for blob in blobs),
        row.source_version.encode(),
        SECRET.encode(),
        b"secret.md",
    ]


def test_no_byte_is_left(idx: Index, corpus: Path, tmp_path: Path) -> None:
    words = add_secret(corpus)
    idx.run(corpus)
    needles = secret_bytes(idx, words)
    found = {needle for _, needle in traces(idx.state_dir, needles)}
    assert found == set(needles), "each can be found before, so that finding none afterwards means something"
    report = run_erase(idx, SECRET)
    assert [source.source_id for source in report.erased] == [SECRET]
    assert report.erased[0].returns
    assert traces(idx.state_dir, needles) == []
    assert not (idx.state_dir / ERASING_FILE).exists()
    (corpus / "notes" / "secret.md").unlink()
    clean = Index(tmp_path / "clean")
    clean.run(corpus)
    assert idx.content() == clean.content()
    assert fsck(idx.loaded(), idx.state_dir).exit_status == 0
    assert idx.run(corpus).chunks_written == 0, "what remains is still known to be indexed"


def test_versions_that_were_replaced_or_deleted_before_are_gone_too(idx: Index, corpus: Path) -> None:
    words = add_secret(corpus)
    idx.run(corpus)
    needles = secret_bytes(idx, words)
    (corpus / "notes" / "secret.md").write_text("Nothing of interest any more.\n")
    idx.run(corpus)
    (corpus / "notes" / "secret.md").unlink()
    idx.run(corpus)
    assert traces(idx.state_dir, [word.encode() for word in words]), "deleting alone leaves bytes behind"
    report = run_erase(idx, SECRET)
    assert report.erased[0].chunks == 0
    assert traces(idx.state_dir, needles) == []


def test_the_reports_of_runs_do_not_name_it(idx: Index, corpus: Path) -> None:
    add_secret(corpus)
    idx.run(corpus)
    (corpus / "notes" / "secret.md").write_bytes(b"Broken \xff\xfe\x00 bytes \x80\x81 inside.\n")
    assert idx.run(corpus).exit_status == 3
    run_erase(idx, SECRET)
    assert traces(idx.state_dir, [b"secret.md"]) == []


def test_the_same_text_under_another_name_is_said_and_stays(idx: Index, corpus: Path) -> None:
    add_secret(corpus)
    shutil.copy(corpus / "notes" / "secret.md", corpus / "copy.md")
    idx.run(corpus)
    report = run_erase(idx, SECRET)
    assert report.erased[0].same_text_in == ("corpus/copy.md",)
    content = idx.content()
    assert {p["source_id"] for p in content["payloads"].values()} >= {"corpus/copy.md"}
    assert fsck(idx.loaded(), idx.state_dir).exit_status == 0


def test_a_whole_root_is_forgotten(idx: Index, corpus: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept.txt").write_text("A source of another root, about turbines.\n")
    idx.run(corpus, other)
    run_erase(idx, "corpus")
    content = idx.content()
    assert set(content["sources"]) == {"other/kept.txt"}
    idx.run()
    assert set(idx.content()["sources"]) == {"other/kept.txt"}, "what was erased whole is not a root any more"
    run_erase(idx, str(other))
    assert idx.content()["ids"] == []
    assert fsck(idx.loaded(), idx.state_dir).exit_status == 0
    idx.run(corpus)
    assert len(idx.content()["sources"]) > 1, "an emptied index takes sources again"


def test_vectors_are_copied_not_made_again(idx: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_secret(corpus)
    idx.run(corpus)
    before = idx.content()

    def refuse(*_: object) -> None:
        raise AssertionError("nothing is embedded when sources are erased")

    monkeypatch.setattr("ragstack.testing.hashing_embedder.HashingEmbedder.embed", refuse)
    run_erase(idx, SECRET)
    after = idx.content()
    for part in ("dense", "sparse", "tokens", "payloads"):
        assert after[part] == {i: before[part][i] for i in after["ids"]}


def test_an_index_built_with_other_settings_is_erased_as_it_was_built(idx: Index, corpus: Path) -> None:
    words = add_secret(corpus)
    idx.run(corpus)
    needles = secret_bytes(idx, words)
    idx.config = {**idx.config, "embedder": {"type": "hashing", "dim": 48}, "reranker": {"type": "none"}}
    run_erase(idx, SECRET)
    assert traces(idx.state_dir, needles) == []
    assert fsck(idx.loaded(), idx.state_dir).exit_status == 0


def test_a_dry_run_changes_nothing(idx: Index, corpus: Path) -> None:
    add_secret(corpus)
    idx.run(corpus)
    before = idx.content()
    assert [s.source_id for s in run_erase(idx, SECRET, dry_run=True).erased] == [SECRET]
    assert idx.content() == before


@posix
@pytest.mark.parametrize(
    "fault",
    [
        "erasing",
        "copy-begun",
        "copied",
        "copy-flushed",
        "copy-switched",
        "activated",
        "retired",
        "dropped",
        "dropped-tokens:2",
        "forgotten",
        "erased-documents",
        "erased-archive",
        "erased-names",
    ],
)
def test_killed_while_erasing(fault: str, idx: Index, corpus: Path, tmp_path: Path) -> None:
    words = add_secret(corpus)
    idx.run(corpus)
    needles = secret_bytes(idx, words)
    assert command(idx, "rm", SECRET, fault=fault)[0] == -9
    assert idx.query("How is the pump primed?").candidates, "the index answers after a kill"
    assert index_status(idx.state_dir)["erasing"]
    run_erase(idx, SECRET)
    assert traces(idx.state_dir, needles) == []
    (corpus / "notes" / "secret.md").unlink()
    clean = Index(tmp_path / "clean")
    clean.run(corpus)
    assert idx.content() == clean.content()
    assert fsck(idx.loaded(), idx.state_dir).findings.pending == []


@posix
@pytest.mark.parametrize("fault", ["copied", "copy-flushed", "copy-switched", "dropped"])
def test_an_index_run_after_a_killed_erasure(fault: str, idx: Index, corpus: Path, tmp_path: Path) -> None:
    add_secret(corpus)
    idx.run(corpus)
    assert command(idx, "rm", SECRET, fault=fault)[0] == -9
    idx.run(corpus, rebuild=fault == "copied")
    clean = Index(tmp_path / "clean")
    clean.run(corpus)
    assert idx.content() == clean.content()


@posix
def test_erasing_after_a_killed_run(idx: Index, corpus: Path, tmp_path: Path) -> None:
    words = add_secret(corpus)
    idx.run(corpus)
    needles = secret_bytes(idx, words)
    (corpus / "guide.md").write_text("# Guide\n\nThe pump is primed with water now.\n")
    assert idx.run_in_child(corpus, fault="published") == -9
    run_erase(idx, SECRET)
    assert traces(idx.state_dir, needles) == []
    assert fsck(idx.loaded(), idx.state_dir).exit_status == 0
    (corpus / "notes" / "secret.md").unlink()
    clean = Index(tmp_path / "clean")
    clean.run(corpus)
    assert idx.content() == clean.content()


@posix
def test_erasing_before_the_first_run_has_ended(idx: Index, corpus: Path) -> None:
    words = add_secret(corpus)
    assert idx.run_in_child(corpus, fault="purged-chunks") == -9
    assert traces(idx.state_dir, [word.encode() for word in words])
    run_erase(idx, SECRET)
    assert traces(idx.state_dir, [word.encode() for word in words]) == []
    (corpus / "notes" / "secret.md").unlink()
    idx.run(corpus)
    assert fsck(idx.loaded(), idx.state_dir).exit_status == 0


def test_a_lost_chunk_is_named_and_the_index_left_as_it_was(idx: Index, corpus: Path) -> None:
    add_secret(corpus)
    idx.run(corpus)
    store = idx.store()
    victim = next(hit.id for hit in store.iterate(collection_name(1)) if hit.payload["source_id"] == "corpus/guide.md")
    store.delete(collection_name(1), ids=[victim])
    store.close()
    with pytest.raises(IndexFormatError, match="fsck --repair") as caught:
        run_erase(idx, SECRET)
    assert victim in caught.value.message
    ledger = Ledger(idx.state_dir)
    assert [(g.generation, g.state) for g in ledger.generations()] == [(1, "active")]
    ledger.close()


def test_too_little_space_is_refused_before_anything_changes(idx: Index, corpus: Path) -> None:
    add_secret(corpus)
    idx.run(corpus)
    before = idx.content()
    idx.config = {**idx.config, "indexer": {**idx.config["indexer"], "min_free_bytes": 10**18}}
    with pytest.raises(StoreError, match="Nothing was changed"):
        run_erase(idx, SECRET)
    assert idx.content() == before


def test_the_command(idx: Index, corpus: Path) -> None:
    add_secret(corpus)
    idx.run(corpus)
    code, out, error = command(idx, "rm", "--dry-run", SECRET)
    assert (code, error) == (0, "")
    assert "Would erase: 1 sources" in out
    code, _, error = command(idx, "rm", "corpus/notes/secrt.md")
    assert code == 2
    assert SECRET in error, "near matches are named"
    code, out, error = command(idx, "rm", "-", stdin=f"{SECRET}\n{corpus / 'guide.md'}\n".encode())
    assert (code, error) == (0, "")
    assert "Erased: 2 sources" in out
    assert "sources.exclude" in out
    code, out, _ = command(idx, "rm", "--json", "corpus/notes")
    body = json.loads(out)
    assert code == body["exit_status"] == 0
    assert all(source["source_id"].startswith("corpus/notes/") for source in body["erased"])
    assert command(idx, "rm", "-", stdin=b"")[0] == 2


def test_without_an_index(idx: Index) -> None:
    with pytest.raises(IndexNotFoundError):
        run_erase(idx, "anything")
    with pytest.raises(IndexNotFoundError):
        collect_garbage(idx.loaded(), idx.state_dir)
    assert not (idx.state_dir / "ledger.db").exists()


# -- naming sources ------------------------------------------------------------------------------


def test_names_that_mean_two_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    roots = {"docs": tmp_path / "far" / "docs", "near": tmp_path / "docs"}
    known = ["docs/a.md", "near/a.md", "near/b.md"]
    with pytest.raises(InputError, match="as a source id"):
        select_sources(["docs/a.md"], known, roots)
    assert select_sources(["id:docs/a.md"], known, roots).source_ids == {"docs/a.md"}
    assert select_sources(["./docs/a.md"], known, roots).source_ids == {"near/a.md"}
    assert select_sources(["docs/b.md"], known, roots).source_ids == {"near/b.md"}
    assert select_sources(["near/"], known, roots, [("near", ""), ("docs", "")]).scopes == (("near", ""),)


@pytest.mark.parametrize(
    "target", ["", "/", ".", "..", "nothing", "corp", "corpus/not", "#", "id:", "corpus/a.jsonl#3"]
)
def test_names_of_nothing(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    roots = {"corpus": tmp_path / "corpus", "other": tmp_path / "other"}
    with pytest.raises(InputError):
        select_sources([target], ["corpus/a.jsonl", "corpus/notes/b.md", "other/c.md"], roots)


_PART = st.text(st.sampled_from("ab.%-0 é/"), min_size=1, max_size=4).filter(lambda s: s not in (".", "..", "/"))


@given(st.sets(st.lists(_PART, min_size=1, max_size=4).map("/".join), max_size=12), st.data())
def test_a_prefix_takes_what_lies_below_it_and_nothing_else(ids: set[str], data: st.DataObject) -> None:
    if not ids:
        return
    chosen = data.draw(st.sampled_from(sorted(ids)))
    name = chosen[: data.draw(st.integers(1, len(chosen)))].rstrip("/")
    expected = {i for i in ids if name and (i == name or i.startswith(name + "/"))}
    if expected:
        assert select_sources([f"id:{name}"], ids, {}).source_ids == expected
    else:
        with pytest.raises(InputError):
            select_sources([f"id:{name}"], ids, {})


# -- tidying -------------------------------------------------------------------------------------


def test_gc_changes_no_content_and_removes_leftovers(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    before = idx.content()
    store = idx.store()
    store.ensure_collection(CollectionSpec("gen-77", 8, {}))
    store.close()
    (idx.state_dir / "tokens-77.db").write_bytes(b"left over")
    report = collect_garbage(idx.loaded(), idx.state_dir)
    assert report.leftovers == ("gen-77", "tokens-77.db")
    assert idx.content() == before
    assert report.before.keys() == report.after.keys() == {"ledger", "archive", "token_vectors", "store"}
    assert fsck(idx.loaded(), idx.state_dir).exit_status == 0


@posix
@pytest.mark.parametrize("fault", ["staged", "archived", "published", "purged"])
@pytest.mark.parametrize("compact", [False, True])
def test_gc_finishes_what_a_killed_run_left(fault: str, compact: bool, idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    (corpus / "guide.md").write_text("# Guide\n\nThe pump is primed with water now.\n")
    assert idx.run_in_child(corpus, fault=fault) == -9
    collect_garbage(idx.loaded(), idx.state_dir, compact=compact)
    report = fsck(idx.loaded(), idx.state_dir)
    assert report.exit_status == 0
    assert report.findings.pending == []
    idx.run(corpus)
    assert fsck(idx.loaded(), idx.state_dir).exit_status == 0


def test_gc_frees_what_deleted_sources_took(idx: Index, corpus: Path) -> None:
    rng = random.Random(3)
    for number in range(40):
        words = [f"w{rng.randrange(10**6)}" for _ in range(1500)]
        (corpus / f"big{number}.txt").write_text(" ".join(words))
    idx.config = {**idx.config, "chunker": {"type": "recursive", "max_tokens": 200}}
    idx.run(corpus)
    for number in range(39):
        (corpus / f"big{number}.txt").unlink()
    idx.run(corpus)
    code, out, error = command(idx, "gc", "--compact", "--json")
    assert code == 0, error
    body = json.loads(out)
    assert body["freed_bytes"] > 0
    for part in ("archive", "token_vectors"):
        assert body["after"][part] < body["before"][part]
    assert fsck(idx.loaded(), idx.state_dir).exit_status == 0
    code, out, error = command(idx, "gc")
    assert code == 0, error
    assert "on disk" in out
