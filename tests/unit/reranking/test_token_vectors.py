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
from ragstack.reranking.token_codec import TokenCodec
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


def four_bits(dim: int) -> TokenCodec:
    """A codec of 4 bits for vectors of random directions."""
    return TokenCodec(steps=np.full(dim, 0.335 / np.sqrt(dim), dtype=np.float32))


CODECS = st.sampled_from(["8 bits", "4 bits", "ids alone"])


def make_codec(name: str, dim: int) -> TokenCodec:
    return {"8 bits": TokenCodec(), "4 bits": four_bits(dim), "ids alone": TokenCodec(keeps_vectors=False)}[name]


@given(
    CODECS,
    st.lists(st.integers(0, 60), min_size=1, max_size=5),
    st.integers(1, 60),
    st.integers(0, 5),
    st.sampled_from([10, 200, 70_000, 2**31 - 1]),
)
def test_codec_keeps_directions_ids_and_spans(
    name: str, counts: list[int], half: int, seed: int, largest_id: int
) -> None:
    dim = 2 * half
    codec = make_codec(name, dim)
    texts = [make_tokens(count, dim, seed + i, largest_id) for i, count in enumerate(counts)]
    # Texts of one query differ in the widths of their numbers.
    texts.append(TokenVectors(texts[0].vectors[:1], texts[0].token_ids[:1], texts[0].byte_spans[:1] * 20))
    decoded = codec.decode([(f"text {i}", codec.encode(tokens)) for i, tokens in enumerate(texts)])
    for tokens, found in zip(texts, decoded, strict=True):
        count = len(tokens)
        assert found.token_ids.tolist() == tokens.token_ids.tolist() and found.token_ids.dtype == np.int32
        assert found.byte_spans.shape == (count, 2) and found.byte_spans.dtype == np.int32
        assert found.vectors.shape == (count, dim if codec.keeps_vectors else 0)
        assert found.vectors.dtype == np.float32
        if codec.keeps_vectors:
            assert found.byte_spans.tolist() == tokens.byte_spans.tolist()
            closeness = (found.vectors * tokens.vectors).sum(axis=1)
            assert closeness == pytest.approx(np.ones(count), abs=1e-3 if name == "8 bits" else 0.15)


def test_four_bits_are_close_and_small() -> None:
    tokens, projection = make_tokens(200, 384), make_projection(384, 96)
    codec = TokenCodec(projection, np.full(96, 0.335 / np.sqrt(96), dtype=np.float32))
    prepared = codec.prepare(tokens)
    assert np.linalg.norm(prepared.vectors, axis=1) == pytest.approx(np.ones(200), abs=1e-5)
    expected = tokens.vectors @ projection
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert prepared.vectors == pytest.approx(expected, abs=1e-6)
    blob = codec.encode(prepared)
    assert len(blob) <= (48 + 4) * 200 + 32
    found = codec.decode([("test", blob)])[0].vectors
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(200), abs=1e-5)
    closeness = (found * prepared.vectors).sum(axis=1)
    assert closeness.mean() > 0.993 and closeness.min() > 0.97


def test_long_offsets_and_zero_rows_survive() -> None:
    vectors = np.array([[0, 0], [1, 0]], dtype=np.float32)
    spans = np.array([[5, 70_000], [70_001, 70_002]], dtype=np.int32)
    tokens = TokenVectors(vectors, np.array([1, 2], dtype=np.int32), spans)
    found = TokenCodec().decode([("test", TokenCodec().encode(tokens))])[0]
    assert found.vectors.tolist() == vectors.tolist() and found.byte_spans.tolist() == spans.tolist()


def test_codec_refuses_arrays_that_do_not_belong_together() -> None:
    good, codec = make_tokens(3), TokenCodec()
    with pytest.raises(ValueError, match="differ in length"):
        codec.encode(TokenVectors(good.vectors[:2], good.token_ids, good.byte_spans))
    with pytest.raises(ValueError, match="token ids must not be negative"):
        codec.encode(TokenVectors(good.vectors, good.token_ids - 40_000, good.byte_spans))
    with pytest.raises(ValueError, match="starts must not be negative"):
        codec.encode(TokenVectors(good.vectors, good.token_ids, good.byte_spans[::-1]))
    with pytest.raises(ValueError, match="32 dimensions, steps for 8"):
        four_bits(8).encode(good)
    for steps in (np.ones(3), np.array([1.0, 0.0])):
        with pytest.raises(ValueError, match="positive and of an even number"):
            TokenCodec(steps=steps.astype(np.float32))
    with pytest.raises(ValueError, match="8 dimensions has 6 steps"):
        TokenCodec(make_projection(), np.ones(6, dtype=np.float32))


def test_a_blob_of_another_codec_is_refused() -> None:
    blob = TokenCodec().encode(make_tokens(4, 8))
    for other in (four_bits(8), TokenCodec(keeps_vectors=False)):
        with pytest.raises(IndexFormatError, match=r"^chunk a: the stored token vectors are damaged"):
            other.decode([("chunk a", blob)])
    with pytest.raises(IndexFormatError, match=r"^chunk a: the stored token vectors are damaged"):
        four_bits(6).decode([("chunk a", four_bits(8).encode(make_tokens(4, 8)))])


def test_everything_that_changes_what_is_kept_changes_the_fingerprint() -> None:
    projection, steps = make_projection(), np.ones(8, dtype=np.float32)
    pieces = np.zeros(9, dtype=np.uint8)
    codecs = [
        TokenCodec(),
        TokenCodec(projection),
        TokenCodec(make_projection(kept=7)),
        TokenCodec(projection, steps),
        TokenCodec(projection, steps * 2),
        TokenCodec(projection, steps, pieces),
        TokenCodec(projection, steps, pieces + 1),
        TokenCodec(keeps_vectors=False),
    ]
    assert len({codec.fingerprint for codec in codecs}) == len(codecs)
    assert TokenCodec(projection.copy(), steps.copy()).fingerprint == codecs[3].fingerprint


@given(st.data(), CODECS)
def test_any_damage_to_a_blob_is_noticed(data: st.DataObject, name: str) -> None:
    codec = make_codec(name, 6)
    blob = bytearray(codec.encode(make_tokens(4, 6)))
    kind = data.draw(st.sampled_from(["flip", "cut", "grow"]))
    if kind == "flip":
        blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        blob = blob[: data.draw(st.integers(0, len(blob) - 1))] if kind == "cut" else blob + b"\0"
    with pytest.raises(IndexFormatError, match=r"^chunk a: the stored token vectors are damaged"):
        codec.decode([("chunk a", bytes(blob))])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteTokenVectorStore]:
    made = SqliteTokenVectorStore(tmp_path / "tokens.db", TokenCodec(make_projection()))
    yield made
    made.close()


def test_put_get_delete(store: SqliteTokenVectorStore) -> None:
    first, second, third = (store.prepare(make_tokens(count, seed=count)) for count in (5, 0, 7))
    store.put(1, {"a": first, "b": second})
    store.put(2, {"b": third, "c": store.prepare(make_tokens(1, seed=3))})
    found = store.get(["c", "a", "b", "unknown", "a"])
    assert {name: len(tokens) for name, tokens in found.items()} == {"a": 5, "b": 7, "c": 1}
    assert (found["a"].vectors * first.vectors).sum(axis=1).min() > 0.999
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
    reader = SqliteTokenVectorStore(tmp_path / "tokens.db", TokenCodec(make_projection()))
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


def test_another_codec_is_refused(store: SqliteTokenVectorStore, tmp_path: Path) -> None:
    for other in (None, TokenCodec(make_projection(kept=9)), TokenCodec(make_projection(), keeps_vectors=False)):
        with pytest.raises(IndexFormatError, match="were kept with the codec"):
            SqliteTokenVectorStore(tmp_path / "tokens.db", other)


def test_pages_suit_the_entries_and_are_read_from_a_map(store: SqliteTokenVectorStore, tmp_path: Path) -> None:
    codec = TokenCodec()
    big = SqliteTokenVectorStore(tmp_path / "big.db", codec)
    tokens = make_tokens(90, 40, largest_id=200)
    size = len(codec.encode(tokens))
    big.put(1, {f"chunk-{i:030}": tokens for i in range(1000)})
    big.flush()
    assert (tmp_path / "big.db").stat().st_size < 1000 * (size * 1.1 + 200)
    assert set(big.get(["chunk-" + "0" * 30])) == {"chunk-" + "0" * 30}
    mapped = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else f"{tmp_path}/big.db"
    assert f"{tmp_path}/big.db\n" in mapped + "\n"
    big.close()


def test_another_format_version_is_refused(store: SqliteTokenVectorStore, tmp_path: Path) -> None:
    store.close()
    connection = sqlite3.connect(tmp_path / "tokens.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(IndexFormatError, match="format version 99") as caught:
        SqliteTokenVectorStore(tmp_path / "tokens.db", TokenCodec(make_projection()))
    assert "ragstack index" in caught.value.hint


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
