"""What is particular to the embedded store: its files, its lock, crashes, damage, its graph."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import qdrant_edge as qdrant

from ragstack.adapters.base import CollectionSpec, Record, SearchParams
from ragstack.adapters.qdrant_edge import QdrantEdgeStore
from ragstack.adapters.registry import STORES
from ragstack.errors import (
    CollectionError,
    IndexLockedError,
    InputError,
    RagstackError,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
)
from ragstack.filters import Condition
from ragstack.testing.store_cases import DIM, SPEC, clustered, make_record, make_sparse, numbered, record_id

WRITER = """
import sys
from pathlib import Path
from ragstack.adapters.qdrant_edge import QdrantEdgeStore
from ragstack.testing.store_cases import SPEC, make_record
store = QdrantEdgeStore(Path(sys.argv[1]), hnsw_min_points=50)
store.ensure_collection(SPEC)
print("open", flush=True)
first = int(sys.argv[2])
for round_ in range(first, first + 100_000):
    store.upsert("main", [make_record(20 * round_ + i, {"integer": round_}, sparse={1: 1.0}) for i in range(20)])
    if round_ % 5 == 0:
        store.flush("main")
    if round_ % 11 == 0:
        store.optimize("main")
    print(round_, flush=True)
"""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a closed store with the collection ``main`` of 310 records, its graph built."""
    path = tmp_path_factory.mktemp("pristine") / "store"
    with QdrantEdgeStore(path, hnsw_min_points=1) as store:
        store.ensure_collection(SPEC)
        store.upsert("main", [numbered(number) for number in range(300)])
        store.optimize("main")
        store.upsert("main", [numbered(number) for number in range(290, 310)])
    return path


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    shutil.copytree(pristine, tmp_path / "store", copy_function=_copy_sparse)
    return tmp_path / "store"


def _copy_sparse(source: str, target: str) -> None:
    """Copy without writing the driver's preallocated zeros."""
    with Path(source).open("rb") as read, Path(target).open("wb") as write:
        while block := read.read(1 << 20):
            if block.strip(b"\0"):
                write.write(block)
            else:
                write.seek(len(block), 1)
        write.truncate()


def test_the_registry_knows_it() -> None:
    assert STORES.load("qdrant_edge") is QdrantEdgeStore


def test_another_process_gets_an_error_that_names_the_holder(folder: Path) -> None:
    code = "import sys, time; from pathlib import Path; from ragstack.adapters.qdrant_edge import QdrantEdgeStore as S"
    code += "; s = S(Path(sys.argv[1])); print(s.count('main'), flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "310\n"
            with pytest.raises(StoreLockedError, match=f"held by process {process.pid} on host") as caught:
                QdrantEdgeStore(folder, lock_timeout_s=0.1)
        finally:
            process.kill()
    assert isinstance(caught.value, StoreUnavailableError)
    assert isinstance(caught.value, IndexLockedError)
    assert caught.value.exit_status == 2
    assert caught.value.hint
    with QdrantEdgeStore(folder) as store:
        assert store.count("main") == 310


def test_close_gives_the_lock_back(folder: Path) -> None:
    first = QdrantEdgeStore(folder)
    with pytest.raises(StoreLockedError):
        QdrantEdgeStore(folder, lock_timeout_s=0)
    first.close()
    QdrantEdgeStore(folder, lock_timeout_s=0).close()


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnavailableError, match="cannot be opened"):
        QdrantEdgeStore(tmp_path / "file")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_at_any_point_it_opens_with_every_write_that_returned(tmp_path: Path) -> None:
    rng = random.Random(20)
    acknowledged = -1
    for kill in range(10):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "store"), str(acknowledged + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            # Some rounds, so that every run gets on however slow the machine is; then any point in time.
            done = [int(process.stdout.readline()) for _ in range(rng.randrange(1, 8))]
            timer = threading.Timer(rng.uniform(0, 0.04), process.kill)
            timer.start()
            done += [int(line) for line in process.stdout if line.endswith("\n")]
            timer.join()
            assert process.wait() == -signal.SIGKILL
        acknowledged = max([acknowledged, *done])
        with QdrantEdgeStore(tmp_path / "store", hnsw_min_points=50) as store:
            rounds: dict[int, int] = {}
            for hit in store.iterate("main"):
                rounds[hit.payload["integer"]] = rounds.get(hit.payload["integer"], 0) + 1
            assert all(rounds.get(round_) == 20 for round_ in range(acknowledged + 1)), f"kill {kill}"
            assert set(rounds) <= set(range(acknowledged + 2))
            assert store.count("main", Condition("integer", "lte", acknowledged)) == 20 * (acknowledged + 1)
            assert len(store.search_sparse("main", make_sparse({1: 1.0}), 10_000)) == sum(rounds.values())
            sample = make_record(3)
            assert store.search_dense("main", sample.dense, 1, params=SearchParams(exact=True))[0].id == sample.id


def test_leftovers_of_a_crash_are_cleared(folder: Path) -> None:
    shutil.copytree(folder / "main", folder / ".creating-1")
    shutil.copytree(folder / "main", folder / ".dropped-1")
    with QdrantEdgeStore(folder) as store:
        assert store.collections() == ["main"]
        assert store.count("main") == 310
    assert not [*folder.glob(".creating*"), *folder.glob(".dropped*")]


def test_a_change_of_fields_that_was_interrupted_is_done_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with QdrantEdgeStore(folder) as store:
        store.upsert("main", [make_record(i, {"extra": f"e{i % 2}"}) for i in range(2000, 2006)])
        with monkeypatch.context() as patch:
            patch.setattr("ragstack.adapters.qdrant_collection._describe", _fail)
            with pytest.raises(StoreError, match="no power"):
                store.ensure_collection(CollectionSpec("main", DIM, {"extra": "keyword"}))
    with QdrantEdgeStore(folder) as store:
        store.upsert("main", [make_record(2000, {"extra": "e1"})])
        store.ensure_collection(CollectionSpec("main", DIM, {"extra": "keyword"}))
        assert store.count("main", Condition("extra", "eq", "e1")) == 4
        assert store.count("main", Condition("extra", "eq", "e0")) == 2


def _fail(*_: object) -> None:
    raise OSError("no power")


def _read_everything(folder: Path) -> tuple[int, int, int]:
    with QdrantEdgeStore(folder, hnsw_min_points=1) as store:
        records = len(list(store.iterate("main")))
        dense = len(store.search_dense("main", make_record(1).dense, 400, params=SearchParams(exact=True)))
        sparse = len(store.search_sparse("main", make_sparse(dict.fromkeys(range(7), 1.0)), 400))
        return records, dense, sparse


@pytest.mark.parametrize(
    ("name", "keep"),
    [
        ("collection.json", 0.5),
        ("flushed.json", 0.5),
        ("edge_config.json", 0.5),
        ("segment.json", None),
        ("segment.json", 0.5),
        ("version.info", 0.0),
        ("id_tracker.mappings", None),
        ("id_tracker.mappings", 0.5),
        ("id_tracker.versions", 0.5),
        ("flags_a.dat", 0.5),
        ("matrix.dat", 0.5),
        ("graph.bin", 0.5),
    ],
)
def test_lost_and_cut_files_give_one_clear_error(
    folder: Path, capfd: pytest.CaptureFixture[str], name: str, keep: float | None
) -> None:
    """``keep`` is the share of the file that is left; None where it is gone."""
    path = sorted((folder / "main").rglob(name))[0]
    if keep is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    try:
        found = _read_everything(folder)
    except RagstackError as error:
        assert isinstance(error, StoreError)
        assert error.hint
        assert "panicked" not in str(error)
    else:
        assert found == (310, 310, 310), "records are missing in silence"
    assert "panicked at" not in capfd.readouterr().err
    with QdrantEdgeStore(folder) as store:  # the way back
        store.drop("main")
        store.ensure_collection(SPEC)
        assert store.count("main") == 0


def test_lost_records_are_noticed(folder: Path) -> None:
    mark = folder / "main" / "flushed.json"
    assert json.loads(mark.read_bytes())["points"] == 310
    mark.write_text('{"points": 311}')
    with (
        QdrantEdgeStore(folder) as store,
        pytest.raises(CollectionError, match="310 records and 310 vectors where 311") as caught,
    ):
        store.count("main")
    assert "ragstack index --rebuild" in caught.value.hint


def test_the_mark_is_there_only_while_nothing_was_written_since_a_flush(folder: Path) -> None:
    mark = folder / "main" / "flushed.json"
    with QdrantEdgeStore(folder) as store:
        assert mark.exists()
        store.upsert("main", [])
        store.delete("main", ids=[record_id(999)])
        assert not mark.exists()
        store.flush("main")
        assert mark.exists()
        store.upsert("main", [make_record(1)])
        assert not mark.exists()
    assert mark.exists()


def test_another_format_is_named(folder: Path) -> None:
    description = folder / "main" / "collection.json"
    description.write_text(description.read_text().replace('"format": 1', '"format": 99'))
    with QdrantEdgeStore(folder) as store, pytest.raises(CollectionError, match="format 99"):
        store.count("main")


def test_dropping_under_a_reader_and_closing_under_a_query(folder: Path) -> None:
    store = QdrantEdgeStore(folder)
    reader = store.iterate("main", batch_size=1)
    next(reader)
    store.drop("main")
    with pytest.raises(CollectionError, match="dropped"):
        list(reader)
    store.ensure_collection(SPEC)
    store.upsert("main", [numbered(number) for number in range(300)])
    seen: list[BaseException] = []

    def ask() -> None:
        try:
            while True:
                store.search_dense("main", make_record(1).dense, 50)
        except BaseException as error:
            seen.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    store.close()
    for thread in threads:
        thread.join()
    assert [type(error) for error in seen] == [StoreUnavailableError] * 3


def test_a_graph_is_built_from_min_points_on_and_recalls(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    vectors = clustered(rng, 3000, 64, 60)
    queries = clustered(rng, 40, 64, 60)
    with QdrantEdgeStore(tmp_path / "store", hnsw_min_points=2000) as store:
        for name, count in (("small", 1500), ("large", 3000)):
            store.ensure_collection(CollectionSpec(name, 64))
            store.upsert(name, [make_record(i, dense=vectors[i]) for i in range(count)])
            store.optimize(name)
        graphs = {name: len(list((tmp_path / "store" / name).rglob("graph.bin"))) for name in ("small", "large")}
        assert graphs == {"small": 0, "large": 1}
        recall = []
        differs = False
        for query in queries:
            exact = [hit.id for hit in store.search_dense("large", query, 10, params=SearchParams(exact=True))]
            found = [hit.id for hit in store.search_dense("large", query, 10)]
            narrow = [hit.id for hit in store.search_dense("large", query, 10, params=SearchParams(ef_search=10))]
            recall.append(len(set(exact) & set(found)) / 10)
            differs = differs or narrow != exact
        assert np.mean(recall) >= 0.95
        assert differs, "the graph was not searched"
    with QdrantEdgeStore(tmp_path / "store", hnsw_min_points=2000, exact=True) as store:
        for query in queries:
            assert store.search_dense("large", query, 10, params=SearchParams(ef_search=10)) == store.search_dense(
                "large", query, 10, params=SearchParams(exact=True)
            )


def test_no_two_keywords_share_a_stored_form() -> None:
    from ragstack.adapters.qdrant_filters import keyword

    values = ["", "\0", "\0\"\\u0000\"", "\ud800", "\\ud800", '"\\ud800"', "\0\"\\ud800\"", "true", "a\0"]  # fmt: skip
    stored = [keyword(value) for value in values]
    assert len(set(stored)) == len(values)
    for text in stored:
        text.encode()


def test_driver_errors_do_not_leak(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    with QdrantEdgeStore(folder) as store:
        store.count("main")
        opened = store._open["main"]
        for raised, expected in (
            (Exception("Service runtime error: out of luck"), StoreError),
            (PanicException("index out of bounds"), CollectionError),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(opened, "shard", _Raising(raised))
                with pytest.raises(expected, match="main") as caught:
                    store.search_dense("main", make_record(1).dense, 1)
                assert caught.value.__cause__ is raised
        with pytest.raises(InputError):
            store.upsert("main", [Record("x", np.ones(DIM, dtype=np.float32), make_sparse({}), {})])
        assert isinstance(opened.shard, qdrant.EdgeShard)


class _Raising:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getattr__(self, name: str) -> object:
        raise self.error
