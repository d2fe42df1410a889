from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import IndexFormatError, StoreError, StoreUnavailableError
from ragstack.reranking.token_codec import decode, encode, project
from ragstack.reranking.token_vectors import SqliteTokenVectorStore
from ragstack.types import Float32Array, TokenVectors


def make_tokens(count: int, dim: int = 32, seed: int = 0, largest_id: int = 30_000) -> TokenVectors:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = np.sort(rng.integers(0, 5000, count)).astype(np.int32)
    spans = np.stack((starts, starts + rng.integers(0, 30, count).astype(np.int32)), axis=1)
    return TokenVectors(vectors, rng.integers(0, largest_id, count).astype(np.int32), spans.astype(np.int32))


def make_projection(dim: int = 32, kept: int = 8) -> Float32Array:
    return np.linalg.qr(np.random.default_rng(7).standard_normal((dim, kept)))[0].astype(np.float32)


@given(st.integers(0, 60), st.integers(1, 120), st.integers(0, 5), st.sampled_from([10, 70_000, 2**31 - 1]))
def test_codec_keeps_directions_ids_and_spans(count: int, dim: int, seed: int, largest_id: int) -> None:
    tokens = make_tokens(count, dim, seed, largest_id)
    found = decode(encode(tokens, None), where="test")
    assert found.token_ids.tolist() == tokens.token_ids.tolist() and found.token_ids.dtype == np.int32
    assert found.byte_spans.tolist() == tokens.byte_spans.tolist() and found.byte_spans.dtype == np.int32
    assert found.vectors.shape == (count, dim) and found.vectors.dtype == np.float32
    assert (found.vectors * tokens.vectors).sum(axis=1) == pytest.approx(np.ones(count), abs=1e-3)


def test_codec_projects_to_unit_length_and_stays_small() -> None:
    tokens, projection = make_tokens(200, 384), make_projection(384, 96)
    blob = encode(tokens, projection)
    assert len(blob) <= 104 * 200
    expected = project(tokens.vectors, projection)
    found = decode(blob, where="test").vectors
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(200), abs=1e-5)
    assert (found * expected).sum(axis=1).min() > 0.999


def test_long_offsets_and_zero_rows_survive() -> None:
    vectors = np.array([[0, 0], [1, 0]], dtype=np.float32)
    spans = np.array([[5, 70_000], [70_001, 70_002]], dtype=np.int32)
    found = decode(encode(TokenVectors(vectors, np.array([1, 2], dtype=np.int32), spans), None), where="test")
    assert found.vectors.tolist() == vectors.tolist() and found.byte_spans.tolist() == spans.tolist()


def test_codec_refuses_arrays_that_do_not_belong_together() -> None:
    good = make_tokens(3)
    with pytest.raises(ValueError, match="differ in length"):
        encode(TokenVectors(good.vectors[:2], good.token_ids, good.byte_spans), None)
    with pytest.raises(ValueError, match="must not be negative"):
        encode(TokenVectors(good.vectors, good.token_ids - 40_000, good.byte_spans), None)


@given(st.data())
def test_any_damage_to_a_blob_is_noticed(data: st.DataObject) -> None:
    blob = bytearray(encode(make_tokens(4, 6), None))
    kind = data.draw(st.sampled_from(["flip", "cut", "grow"]))
    if kind == "flip":
        blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        blob = blob[: data.draw(st.integers(0, len(blob) - 1))] if kind == "cut" else blob + b"\0"
    with pytest.raises(IndexFormatError, match=r"^chunk a: the stored token vectors are damaged"):
        decode(bytes(blob), where="chunk a")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteTokenVectorStore]:
    made = SqliteTokenVectorStore(tmp_path / "tokens.db", make_projection())
    yield made
    made.close()


def test_put_get_delete(store: SqliteTokenVectorStore) -> None:
    first, second = make_tokens(5, seed=1), make_tokens(0)
    store.put(1, {"a": first, "b": second})
    store.put(2, {"b": make_tokens(7, seed=2), "c": make_tokens(1, seed=3)})
    found = store.get(["c", "a", "b", "unknown", "a"])
    assert {name: len(tokens) for name, tokens in found.items()} == {"a": 5, "b": 7, "c": 1}
    assert (found["a"].vectors * store.project(first.vectors)).sum(axis=1).min() > 0.999
    assert store.chunk_ids() == {"a", "b", "c"}
    store.delete(["a", "unknown"])
    store.delete([])
    assert store.chunk_ids() == {"b", "c"}
    assert store.delete_after(2) == 0
    assert store.delete_after(1) == 2
    assert store.get(["a", "b", "c"]) == {} and store.get([]) == {}


def test_more_ids_than_a_statement_takes(store: SqliteTokenVectorStore) -> None:
    names = [f"chunk-{i}" for i in range(2000)]
    store.put(1, {name: make_tokens(1, seed=1) for name in names})
    assert set(store.get(names)) == set(names)
    store.delete(names[:1500])
    assert store.chunk_ids() == set(names[1500:])


def test_entries_outlive_the_store(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tokens.db"
    store = SqliteTokenVectorStore(path)
    store.put(3, {"a": make_tokens(4)})
    store.flush()
    store.close()
    store.close()
    with pytest.raises(StoreUnavailableError, match="was closed"):
        store.get(["a"])
    again = SqliteTokenVectorStore(path)
    assert again.get(["a"])["a"].vectors.shape == (4, 32)
    again.close()


def test_readers_in_another_connection_see_finished_writes(store: SqliteTokenVectorStore, tmp_path: Path) -> None:
    reader = SqliteTokenVectorStore(tmp_path / "tokens.db", make_projection())
    store.put(1, {"a": make_tokens(2)})
    assert reader.chunk_ids() == {"a"}
    reader.close()


def test_several_threads(store: SqliteTokenVectorStore) -> None:
    def work(number: int) -> int:
        store.put(number, {f"{number}-{i}": make_tokens(3, seed=i) for i in range(5)})
        return len(store.get([f"{number}-{i}" for i in range(5)]))

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(work, range(12))) == [5] * 12
    assert len(store.chunk_ids()) == 60


def test_another_projection_is_refused(store: SqliteTokenVectorStore, tmp_path: Path) -> None:
    for other in (None, make_projection(kept=9)):
        with pytest.raises(IndexFormatError, match="kept with the projection 32x8"):
            SqliteTokenVectorStore(tmp_path / "tokens.db", other)


def test_another_format_version_is_refused(store: SqliteTokenVectorStore, tmp_path: Path) -> None:
    store.close()
    connection = sqlite3.connect(tmp_path / "tokens.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(IndexFormatError, match="format version 99"):
        SqliteTokenVectorStore(tmp_path / "tokens.db", make_projection())


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.db"
    path.write_bytes(b"not a database at all, but long enough to be looked at " * 40)
    with pytest.raises(IndexFormatError, match=r"tokens\.db: the store of token vectors is damaged"):
        SqliteTokenVectorStore(path)


def test_a_damaged_entry_is_named(store: SqliteTokenVectorStore, tmp_path: Path) -> None:
    store.put(1, {"a": make_tokens(4)})
    connection = sqlite3.connect(tmp_path / "tokens.db")
    with connection:
        connection.execute("UPDATE token_vectors SET vectors = substr(vectors, 1, 30)")
    connection.close()
    with pytest.raises(IndexFormatError, match=r"tokens\.db, chunk a: the stored token vectors are damaged"):
        store.get(["a"])


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokens.db").mkdir()
    with pytest.raises(StoreError, match="cannot be used"):
        SqliteTokenVectorStore(tmp_path / "tokens.db")
