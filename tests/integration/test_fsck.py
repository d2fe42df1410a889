"""Every kind of damage is named and mended; where it cannot be, the message says the way back, and it works."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstack.adapters.base import CollectionSpec, Record
from ragstack.cli.main import main
from ragstack.errors import IndexFormatError, IndexLockedError, IndexNotFoundError
from ragstack.indexer.findings import KINDS
from ragstack.indexer.repair import FsckReport, fsck
from ragstack.ledger.schema import ARCHIVE_FILE, LEDGER_FILE, LOCK_FILE, collection_name, token_vectors_file
from ragstack.process_lock import hold_lock
from ragstack.types import SparseVector
from tests.integration.harness import Index, write_corpus
from tests.integration.sparse_files import copy_tree, extents

posix = pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a signal of POSIX systems")
COLLECTION = collection_name(1)
TOKENS_FILE = token_vectors_file(1)
GUIDE = "corpus/guide.md"


def check(idx: Index, *, repair: bool = False) -> FsckReport:
    return fsck(idx.loaded(), idx.state_dir, repair=repair)


def kinds(report: FsckReport) -> set[str]:
    return {difference.kind for difference in report.findings.differences}


@pytest.fixture
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the process that reads the store first, for damage that the engine notices or never sees."""
    monkeypatch.setattr("ragstack.indexer.fsck.deadly_because", lambda *_: "")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A corpus and the state directory of its index, to be copied."""
    base = tmp_path_factory.mktemp("built")
    write_corpus(base / "corpus")
    made = Index(base / "index")
    made.run(base / "corpus")
    return base / "corpus", made.state_dir


@pytest.fixture
def sound(built: tuple[Path, Path], idx: Index) -> Index:
    """A sound index in a folder of its own; its files are those of the module's corpus."""
    copy_tree(built[1], idx.state_dir)
    return idx


# -- damage of single things -----------------------------------------------------------------------


def records_of(idx: Index, source_id: str = GUIDE) -> list[Record]:
    store = idx.store()
    try:
        ids = [hit.id for hit in store.iterate(COLLECTION) if hit.payload["source_id"] == source_id]
        return list(store.fetch(COLLECTION, ids).values())
    finally:
        store.close()


def rewrite(idx: Index, change: Callable[[Record], Record]) -> None:
    """Replace one record of the guide by what ``change`` makes of it."""
    record = records_of(idx)[0]
    store = idx.store()
    store.upsert(COLLECTION, [change(record)])
    store.flush(COLLECTION)
    store.close()


def with_payload(**values: Any) -> Callable[[Index], None]:
    return lambda idx: rewrite(idx, lambda record: replace(record, payload={**record.payload, **values}))


def sql(name: str, *statements: str) -> Callable[[Index], None]:
    def run(idx: Index) -> None:
        database = sqlite3.connect(idx.state_dir / name)
        for statement in statements:
            assert database.execute(statement).rowcount != 0, statement
        database.commit()
        database.close()

    return run


def lose_chunk(idx: Index) -> None:
    identity = records_of(idx)[0].id
    store = idx.store()
    store.delete(COLLECTION, ids=[identity])
    store.close()


def add_chunk(idx: Index) -> None:
    rewrite(idx, lambda record: replace(record, id=str(uuid.uuid4())))


def stretch_vector(idx: Index) -> None:
    # The store brings vectors to length 1, so a damaged one is written where it lies.
    value = records_of(idx)[0].dense.tobytes()
    for path in (idx.state_dir / "store").rglob("*.mmap"):
        data = path.read_bytes()
        position = data.find(value)
        if position >= 0:
            with path.open("r+b") as file:
                file.seek(position)
                file.write(np.full(len(value) // 4, 3.0, np.float32).tobytes())
            return
    raise AssertionError("the vector was not found in the store's files")


def wrong_terms(idx: Index) -> None:
    rewrite(
        idx, lambda r: replace(r, sparse=SparseVector(np.array([5, 9], np.uint32), np.array([1.0, 1.0], np.float32)))
    )


def unknown_collection(idx: Index) -> None:
    store = idx.store()
    store.ensure_collection(CollectionSpec("gen-9", 8, {}))
    store.close()
    (idx.state_dir / "tokens-9.db").write_bytes(b"left over")


def foreign_tokens(idx: Index) -> None:
    sql(TOKENS_FILE, "INSERT INTO token_vectors SELECT 'unknown', seq, vectors FROM token_vectors LIMIT 1")(idx)


def foreign_document(idx: Index) -> None:
    columns = "media_type, source_encoding, metadata, digest, source_map, canonical"
    sql(
        ARCHIVE_FILE,
        f"INSERT INTO documents SELECT 'ab', parser, record, {columns} FROM documents LIMIT 1",
    )(idx)


GUIDE_VERSION = "(SELECT source_version FROM sources WHERE source_id='corpus/guide.md')"
DAMAGE: dict[str, tuple[Callable[[Index], None], set[str]]] = {
    "a chunk is lost": (lose_chunk, {"chunk_missing"}),
    "a chunk too many": (add_chunk, {"chunk_extra"}),
    "another source": (with_payload(source_id="corpus/other.md"), {"payload_wrong"}),
    "another version": (with_payload(source_version="0" * 64), {"payload_wrong"}),
    "another place": (with_payload(byte_start=1), {"payload_wrong"}),
    "another parser": (with_payload(parser="none/0"), {"payload_wrong"}),
    "a later group": (with_payload(seq=99), {"payload_wrong"}),
    "no group": (with_payload(seq=None), {"payload_wrong"}),
    "another text": (with_payload(text="Never written."), {"text_wrong"}),
    "no text": (with_payload(text=None), {"text_wrong"}),
    "another length": (with_payload(term_count=9999), {"payload_wrong"}),
    "no length": (with_payload(term_count=None), {"payload_wrong"}),
    "another language": (with_payload(text_language="de"), {"vector_damaged"}),
    "a vector": (stretch_vector, {"vector_damaged"}),
    "sparse terms": (wrong_terms, {"vector_damaged"}),
    "token vectors lost": (
        sql(TOKENS_FILE, "DELETE FROM token_vectors WHERE rowid IN (SELECT rowid FROM token_vectors LIMIT 1)"),
        {"tokens_missing"},
    ),
    "token vectors damaged": (
        sql(
            TOKENS_FILE,
            "UPDATE token_vectors SET vectors=zeroblob(50) WHERE rowid=(SELECT min(rowid) FROM token_vectors)",
        ),
        {"tokens_damaged"},
    ),
    "token vectors too many": (foreign_tokens, {"tokens_extra"}),
    "a document lost": (sql(ARCHIVE_FILE, "DELETE FROM documents WHERE rowid_marker"), {"document_missing"}),
    "a document damaged": (sql(ARCHIVE_FILE, "UPDATE documents SET canonical=zeroblob(9)"), {"document_damaged"}),
    "metadata damaged": (sql(ARCHIVE_FILE, "UPDATE documents SET metadata='{'"), {"document_damaged"}),
    "a document too many": (foreign_document, {"document_extra"}),
    "term counts": (
        sql(LEDGER_FILE, "UPDATE frequencies SET frequency=frequency+1 WHERE kind=0"),
        {"frequencies_wrong"},
    ),
    "length counts": (sql(LEDGER_FILE, "DELETE FROM frequencies WHERE kind=2"), {"frequencies_wrong"}),
    "language counts": (sql(LEDGER_FILE, "DELETE FROM frequencies WHERE kind=3"), {"frequencies_wrong"}),
    "word piece counts": (sql(LEDGER_FILE, "DELETE FROM frequencies WHERE kind=1"), {"frequencies_wrong"}),
    "the number of chunks": (sql(LEDGER_FILE, "UPDATE generations SET chunk_count=3"), {"count_wrong"}),
    "a collection and a file too many": (unknown_collection, {"leftover"}),
}
DAMAGE["a document lost"] = (
    sql(ARCHIVE_FILE, "DELETE FROM documents WHERE source_version=(SELECT min(source_version) FROM documents)"),
    {"document_missing"},
)


def test_a_sound_index(sound: Index) -> None:
    before = sound.content()
    report = check(sound)
    assert (report.exit_status, report.findings.differences, report.findings.pending) == (0, [], [])
    assert report.findings.chunks == len(before["ids"])
    assert check(sound, repair=True).repair is None
    assert sound.content() == before


@pytest.mark.usefixtures("no_probe")
@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_mended(name: str, sound: Index) -> None:
    before = sound.content()
    damage, expected = DAMAGE[name]
    damage(sound)
    report = check(sound)
    assert kinds(report) == expected
    assert report.exit_status == 1
    mended = check(sound, repair=True)
    assert mended.exit_status == 0
    assert mended.repair is not None
    assert mended.repair.read_again == mended.repair.dropped
    assert sound.content() == before
    report_of_run = sound.run()
    assert (report_of_run.changed, report_of_run.added, report_of_run.deleted) == (0, 0, 0)


def test_every_kind_is_explained() -> None:
    whole_files = {"store_unreadable", "tokens_unreadable", "archive_unreadable", "chunk_damaged"}
    assert set().union(*(expected for _, expected in DAMAGE.values())) | whole_files == set(KINDS)


def test_much_damage_at_once(sound: Index) -> None:
    before = sound.content()
    for name in ("a chunk is lost", "a chunk too many", "token vectors damaged", "term counts", "a document lost"):
        DAMAGE[name][0](sound)
    assert check(sound, repair=True).exit_status == 0
    assert sound.content() == before


# -- kills ---------------------------------------------------------------------------------------


@posix
@pytest.mark.usefixtures("no_probe")
@pytest.mark.parametrize("fault", ["staged", "archived", "published", "purged-chunks", "purged"])
def test_what_a_killed_run_left_is_pending_not_damage(fault: str, idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    (corpus / "guide.md").write_text("# Guide\n\nThe pump is primed with water now.\n")
    (corpus / "tool.py").unlink()
    assert idx.run_in_child(corpus, fault=fault) == -9
    report = check(idx)
    assert report.findings.differences == []
    assert report.findings.pending
    assert report.exit_status == 0
    assert check(idx, repair=True).exit_status == 0
    assert check(idx).findings.pending == []


@posix
def test_a_generation_being_built_is_pending(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    idx.config = {**idx.config, "chunker": {"type": "sentence", "max_tokens": 16}}
    assert idx.run_in_child(corpus, fault="published") == -9
    report = check(idx)
    assert report.findings.differences == []
    assert any("generation 2 is being built" in line for line in report.findings.pending)


@posix
@pytest.mark.usefixtures("no_probe")
@pytest.mark.parametrize(
    "fault",
    [
        "repair-marked",
        "repair-opened",
        "repair-extra",
        "repair-dropped",
        "purged-store",
        "repair-purged",
        "scopes-saved",
    ],
)
def test_a_repair_that_is_killed_is_repaired_by_the_next(fault: str, sound: Index) -> None:
    before = sound.content()
    for name in ("a chunk is lost", "a chunk too many", "token vectors too many", "a document damaged"):
        DAMAGE[name][0](sound)
    sound.loaded()
    child = os.fork()
    if child == 0:  # pragma: no cover - it is killed
        os.environ["RAGSTACK_FAULT_POINT"] = fault
        main(["fsck", "--repair", "-c", str(sound.config_file)])
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert check(sound, repair=True).exit_status == 0
    assert sound.content() == before


@posix
@pytest.mark.parametrize("fault", ["repair-archive", "published:2"])
def test_a_rebuild_that_is_killed_is_repaired_by_the_next(fault: str, sound: Index) -> None:
    before = sound.content()
    (sound.state_dir / ARCHIVE_FILE).write_bytes(b"no database at all" * 1000)
    sound.loaded()
    child = os.fork()
    if child == 0:  # pragma: no cover - it is killed
        os.environ["RAGSTACK_FAULT_POINT"] = fault
        main(["fsck", "--repair", "-c", str(sound.config_file)])
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert check(sound, repair=True).exit_status == 0
    assert sound.content() == before


# -- sources that cannot be read again -----------------------------------------------------------


def test_a_file_that_is_gone_is_named(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    (corpus / "guide.md").unlink()
    lose_chunk(idx)
    report = check(idx, repair=True)
    assert report.repair is not None
    assert report.repair.gone == [GUIDE]
    assert report.exit_status == 0, "the index is what the files are"
    assert GUIDE not in idx.content()["sources"]


def test_a_file_that_cannot_be_parsed_is_named(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    (corpus / "guide.md").write_bytes(b"Broken \xff\xfe\x00 bytes \x80\x81 inside.\n")
    lose_chunk(idx)
    report = check(idx, repair=True)
    assert report.repair is not None
    assert [Path(failure.path).name for failure in report.repair.failed] == ["guide.md"]
    assert report.exit_status == 1


def test_a_root_that_is_gone_is_named_and_the_rest_is_sound(idx: Index, corpus: Path) -> None:
    idx.run(corpus)
    lose_chunk(idx)
    corpus.rename(corpus.parent / "unmounted")
    report = check(idx, repair=True)
    assert report.exit_status == 1
    assert report.repair is not None
    assert "corpus" in report.repair.error
    assert report.repair.left == []
    (corpus.parent / "unmounted").rename(corpus)
    idx.run()
    assert GUIDE in idx.content()["sources"]
    assert check(idx).exit_status == 0


# -- damage of whole files ------------------------------------------------------------------------


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def scribble(path: Path) -> None:
    """Random bytes over the middle of what the file holds."""
    length = max((start + len(data.rstrip(b"\0")) for start, data in extents(path)), default=0)
    with path.open("r+b") as file:
        file.seek(length // 4)
        file.write(random.Random(5).randbytes(max(length // 2, 1)))


def delete(path: Path) -> None:
    path.unlink()


WAYS = [truncate, empty, scribble, delete]


@pytest.mark.usefixtures("no_probe")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [ARCHIVE_FILE, TOKENS_FILE])
def test_a_damaged_database_is_replaced(way: Callable[[Path], None], name: str, sound: Index) -> None:
    before = sound.content()
    way(sound.state_dir / name)
    report = check(sound)
    assert report.exit_status == 1
    assert kinds(report) & {"archive_unreadable", "tokens_unreadable"}
    assert check(sound, repair=True).exit_status == 0
    assert sound.content() == before
    assert sound.query("How is the pump primed?").passages


@pytest.mark.parametrize("way", WAYS)
def test_damaged_token_vectors_are_replaced_by_a_rebuild(
    way: Callable[[Path], None], sound: Index, built: tuple[Path, Path]
) -> None:
    before = sound.content()
    way(sound.state_dir / TOKENS_FILE)
    sound.run(built[0], rebuild=True)
    assert sound.content() == before


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_ledger_is_one_message_and_starting_afresh_works(
    way: Callable[[Path], None], sound: Index, built: tuple[Path, Path]
) -> None:
    before = sound.content()
    way(sound.state_dir / LEDGER_FILE)
    for repair in (False, True):
        with pytest.raises(IndexFormatError, match=r"ledger is (damaged|missing)") as caught:
            check(sound, repair=repair)
        assert "ragstack index PATH" in caught.value.hint
        assert str(sound.state_dir) in str(caught.value) or "state directory" in caught.value.hint
    shutil.rmtree(sound.state_dir)
    sound.run(built[0])
    assert sound.content() == before


def test_a_lost_ledger_is_not_replaced_by_an_empty_one(sound: Index, built: tuple[Path, Path]) -> None:
    for suffix in ("", "-wal", "-shm"):
        (sound.state_dir / (LEDGER_FILE + suffix)).unlink(missing_ok=True)
    with pytest.raises(IndexFormatError, match="ledger is missing"):
        sound.run(built[0])
    assert not (sound.state_dir / LEDGER_FILE).exists()


def store_files(state_dir: Path) -> list[str]:
    """The files of the collection that hold anything, by a name that is the same in every copy."""
    files = sorted(path for path in (state_dir / "store" / COLLECTION).rglob("*") if path.is_file())
    return [str(path.relative_to(state_dir)) for path in files if any(d.strip(b"\0") for _, d in extents(path))]


@pytest.mark.parametrize(("way", "offset"), [(empty, 0), (scribble, 1), (delete, 2), (truncate, 3)])
def test_any_damaged_file_of_the_store(
    way: Callable[[Path], None], offset: int, built: tuple[Path, Path], tmp_path: Path
) -> None:
    """Whatever the engine makes of it, a repair ends in an index that holds and answers what it did."""
    whole = Index(tmp_path / "whole")
    copy_tree(built[1], whole.state_dir)
    before = whole.content()
    names = store_files(built[1])
    assert len(names) > 20
    own = [name for name in names if not any(part in name for part in ("-map/", "-null/"))]
    chosen = own[offset::5]
    for number, name in enumerate(chosen):
        hurt = Index(tmp_path / f"hurt{number}")
        copy_tree(built[1], hurt.state_dir)
        way(hurt.state_dir / name)
        assert check(hurt, repair=True).exit_status == 0, name
        content = hurt.content()
        for part in ("ids", "payloads", "tokens", "archive", "sources", "frequencies", "chunk_count"):
            assert content[part] == before[part], (name, part)
        shutil.rmtree(hurt.directory)


def test_a_store_that_would_end_this_process_is_not_read_by_it(sound: Index) -> None:
    before = sound.content()
    for path in (sound.state_dir / "store").rglob("mutable_id_tracker.mappings"):
        scribble(path)
    assert kinds(check(sound)) == {"store_unreadable"}
    assert check(sound, repair=True).exit_status == 0
    assert sound.content() == before


@pytest.mark.parametrize("name", ["segment.json", "page_0.dat", "collection.json"])
def test_a_damaged_store_is_replaced_by_a_rebuild(name: str, sound: Index, built: tuple[Path, Path]) -> None:
    before = sound.content()
    for path in (sound.state_dir / "store").rglob(name):
        empty(path)
    assert kinds(check(sound)) == {"store_unreadable"}
    sound.run(built[0], rebuild=True)
    assert sound.content() == before


def test_a_lost_store_is_replaced(sound: Index) -> None:
    before = sound.content()
    shutil.rmtree(sound.state_dir / "store")
    assert kinds(check(sound)) == {"store_unreadable"}
    assert check(sound, repair=True).exit_status == 0
    assert sound.content() == before


# -- the command -----------------------------------------------------------------------------------


def test_the_command(sound: Index, capsys: pytest.CaptureFixture[str]) -> None:
    sound.loaded()
    config = ["-c", str(sound.config_file)]
    assert main(["fsck", *config]) == 0
    assert "The index is sound." in capsys.readouterr().out
    lose_chunk(sound)
    assert main(["fsck", *config]) == 1
    captured = capsys.readouterr()
    assert f"{GUIDE}: 1 of" in captured.out
    assert "ragstack fsck --repair" in captured.err
    assert main(["fsck", "--json", *config]) == 1
    body = json.loads(capsys.readouterr().out)
    assert [difference["kind"] for difference in body["differences"]] == ["chunk_missing"]
    assert body["differences"][0]["chunk_ids"]
    assert main(["fsck", "--repair", *config]) == 0
    assert "The index is sound." in capsys.readouterr().out
    assert main(["status", *config]) == 0
    out = capsys.readouterr().out
    assert "Last run:" in out
    assert "1 added" in out


def test_who_holds_the_index_is_named(sound: Index) -> None:
    with (
        hold_lock(sound.state_dir / LOCK_FILE, 0, "the index"),
        pytest.raises(IndexLockedError, match=str(os.getpid())),
    ):
        check(sound)
    store = sound.store()
    with pytest.raises(IndexLockedError, match=str(os.getpid())):
        check(sound)
    store.close()


def test_without_an_index(idx: Index) -> None:
    with pytest.raises(IndexNotFoundError):
        check(idx)
