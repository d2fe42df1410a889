"""Copying between stores: whole, resumable, checked, and by command."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ragstack.adapters.base import CollectionSpec, Record, VectorStore
from ragstack.adapters.qdrant import QdrantStore
from ragstack.adapters.qdrant_edge import QdrantEdgeStore
from ragstack.cli.main import main
from ragstack.config.stores.qdrant import QdrantStoreConfig
from ragstack.errors import StoreError, StoreUnavailableError
from ragstack.filters import Condition
from ragstack.indexer import migrate as module
from ragstack.indexer.migrate import migrate
from ragstack.testing.memory_store import MemoryStore
from ragstack.testing.store_cases import DIM, FIELDS, make_record, numbered
from tests.servers.qdrant_fake import running


def filled(store: VectorStore, records: int = 1200) -> None:
    store.ensure_collection(CollectionSpec("gen-1", DIM, FIELDS))
    store.upsert("gen-1", [numbered(number) for number in range(records)])
    store.upsert("gen-1", [make_record(5000, {"odd": "\ud800", "n": 2**70, "list": [1, {"a": None}]})])
    store.ensure_collection(CollectionSpec("empty", DIM, FIELDS))


@pytest.fixture(params=["memory", "edge", "local mode"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    stores: dict[str, Any] = {
        "memory": MemoryStore,
        "edge": lambda: QdrantEdgeStore(tmp_path / "target"),
        "local mode": lambda: QdrantStore(QdrantStoreConfig(uri=":memory:")),
    }
    store: VectorStore = stores[request.param]()
    yield store
    store.close()


def test_everything_is_copied_once(target: VectorStore) -> None:
    source = MemoryStore()
    filled(source)
    first = migrate(source, target, FIELDS, lambda: DIM)
    assert [(each.name, each.records, each.copied) for each in first] == [("empty", 0, 0), ("gen-1", 1201, 1201)]
    assert target.collections() == ["empty", "gen-1"]
    assert [hit.payload for hit in target.iterate("gen-1")] == [hit.payload for hit in source.iterate("gen-1")]
    assert target.count("gen-1", Condition("integer", "lt", 100)) == 100
    again = migrate(source, target, FIELDS, lambda: DIM)
    assert [each.copied for each in again] == [0, 0]
    assert [each.checksum for each in again] == [each.checksum for each in first]


class Failing(MemoryStore):
    """A target that is gone after some writes."""

    left = 2

    def upsert(self, collection: str, records: Sequence[Record]) -> None:
        if self.left == 0:
            raise StoreUnavailableError("gone")
        self.left -= 1
        super().upsert(collection, records)


def test_a_stopped_run_goes_on_where_it_was() -> None:
    source, target = MemoryStore(), Failing()
    filled(source)
    with pytest.raises(StoreUnavailableError):
        migrate(source, target, FIELDS, lambda: DIM)
    there = target.count("gen-1")
    assert there == 1000
    target.left = 100
    assert [each.copied for each in migrate(source, target, FIELDS, lambda: DIM)] == [0, 1201 - there]


def test_records_that_differ_are_written_again_and_strangers_are_an_error() -> None:
    source, target = MemoryStore(), MemoryStore()
    filled(source)
    migrate(source, target, FIELDS, lambda: DIM)
    target.upsert("gen-1", [make_record(7, {"integer": -1}), make_record(8, dict(numbered(8).payload))])
    assert [each.copied for each in migrate(source, target, FIELDS, lambda: DIM)] == [0, 2]
    target.upsert("gen-1", [make_record(9999)])
    with pytest.raises(StoreError, match="1202 records"):
        migrate(source, target, FIELDS, lambda: DIM)


def test_a_target_that_forgets_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = MemoryStore(), MemoryStore()
    filled(source)
    monkeypatch.setattr(target, "upsert", lambda collection, records: None)
    with pytest.raises(StoreError, match="otherwise"):
        migrate(source, target, FIELDS, lambda: DIM)
    assert module._PAGE == 500


def test_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".ragstack").mkdir()
    with QdrantEdgeStore(tmp_path / ".ragstack" / "store") as store:
        store.ensure_collection(CollectionSpec("gen-1", DIM))
        store.upsert("gen-1", [make_record(number) for number in range(30)])
    with running() as server:
        Path("a.yaml").write_text("version: 1\n")
        Path("b.yaml").write_text(f"version: 1\nstore: {{type: qdrant, uri: '{server.uri}'}}\n")
        assert main(["migrate", "--from", "a.yaml", "--to", "a.yaml"]) == 2
        capsys.readouterr()
        assert main(["migrate", "--from", "a.yaml", "--to", "b.yaml", "--json"]) == 0
        (told,) = json.loads(capsys.readouterr().out)["collections"]
        assert (told["name"], told["records"], told["copied"]) == ("gen-1", 30, 30)
        assert main(["store", "info", "-c", "b.yaml"]) == 0
        out = capsys.readouterr().out
        assert "qdrant 1.16.0" in out
        assert "gen-1" in out
        assert main(["store", "drop", "gen-1", "-c", "b.yaml"]) == 0
        assert "Nothing was deleted" in capsys.readouterr().out
        assert main(["store", "drop", "gen-2", "-c", "b.yaml", "--yes"]) == 2
        assert main(["store", "drop", "gen-1", "-c", "b.yaml", "--yes"]) == 0
        assert server.local.get_collections().collections == []
