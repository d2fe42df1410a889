from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstack.embedding import pending
from ragstack.embedding.base import Embeddings
from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.embedding.pooling import pool, unit_rows
from ragstack.embedding.registry import EMBEDDERS
from ragstack.errors import EmbeddingError, InputError
from ragstack.inference import engine
from ragstack.inference.backend import TokenBatch
from tests.fake_backend import FakeBackend

TEXTS = ["The cat sat on the mat.", "", "A kitten rested on the rug.", "Stock prices fell. " * 30, "猫 café 👩‍👧"]


@pytest.fixture(scope="module")
def embedder() -> Iterator[EncoderEmbedder]:
    made = EncoderEmbedder(threads=2)
    yield made
    made.close()


def test_gives_what_was_asked_for(embedder: EncoderEmbedder) -> None:
    found = embedder.embed(TEXTS, "passage", ("dense", "sparse", "tokens"))
    assert found.dense is not None and found.sparse is not None and found.tokens is not None
    assert found.dense.shape == (5, 384) and found.dense.dtype == np.float32
    assert np.linalg.norm(found.dense, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert found.dense[0] @ found.dense[2] > 0.5 > found.dense[0] @ found.dense[3]
    assert [len(v) for v in found.sparse] == [len(embedder.bm25.term_ids(text)) for text in TEXTS]
    for text, tokens in zip(TEXTS, found.tokens, strict=True):
        assert len(tokens) == embedder.tokenizer.count([text])[0]
        assert tokens.vectors.shape == (len(tokens), 384) and tokens.vectors.dtype == np.float32
        assert tokens.token_ids.dtype == np.int32 and tokens.byte_spans.dtype == np.int32
        assert np.linalg.norm(tokens.vectors, axis=1) == pytest.approx(np.ones(len(tokens)), abs=1e-5)
        assert tokens.byte_spans.tolist() == embedder.tokenizer.token_byte_spans(text).tolist()
        for start, end in tokens.byte_spans.tolist():
            assert text.encode()[start:end].decode().strip()


@pytest.mark.parametrize("output", ["dense", "sparse", "tokens"])
def test_no_texts_and_single_outputs(embedder: EncoderEmbedder, output: Any) -> None:
    for texts in ([], ["one text"]):
        found = embedder.embed(texts, "query", (output,))
        assert {name for name in ("dense", "sparse", "tokens") if getattr(found, name) is not None} == {output}
        assert len(getattr(found, output)) == len(texts)


def test_query_terms_carry_no_length_norm(embedder: EncoderEmbedder) -> None:
    found = embedder.embed(["cats and cats and dogs"], "query", ("sparse",)).sparse
    assert found is not None and sorted(found[0].values.tolist()) == [1.0, 2.0]


@settings(max_examples=12)
@given(st.lists(st.text("abcdef ghij.é猫", min_size=1, max_size=400), min_size=1, max_size=12), st.integers(16, 2048))
def test_a_text_gets_the_same_vector_alone_and_in_any_batch(texts: list[str], budget: int) -> None:
    batched = EncoderEmbedder(threads=2, max_batch_tokens=budget).embed(texts, "passage", ("dense", "tokens"))
    alone = _shared()
    assert batched.dense is not None and batched.tokens is not None
    for row, text in enumerate(texts):
        single = alone.embed([text], "passage", ("dense", "tokens"))
        assert single.dense is not None and single.tokens is not None
        assert batched.dense[row] @ single.dense[0] >= 0.99999
        if len(single.tokens[0]):
            assert (batched.tokens[row].vectors * single.tokens[0].vectors).sum(axis=1).min() >= 0.99999


def _shared(made: list[EncoderEmbedder] = []) -> EncoderEmbedder:  # noqa: B006 - kept from one example to the next on purpose
    if not made:
        made.append(EncoderEmbedder(threads=1))
    return made[0]


def test_order_holds_across_windows(embedder: EncoderEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"number {i} " + "word " * (i % 7) for i in range(40)]
    whole = embedder.embed(texts, "passage", ("dense", "tokens"))
    monkeypatch.setattr(pending, "_WINDOW_TEXTS", 3)
    windowed = embedder.embed(texts, "passage", ("dense", "tokens"))
    assert whole.dense is not None and windowed.dense is not None
    assert (whole.dense * windowed.dense).sum(axis=1) == pytest.approx(np.ones(40), abs=1e-5)
    assert whole.tokens is not None and windowed.tokens is not None
    assert [len(t) for t in whole.tokens] == [len(t) for t in windowed.tokens]


def test_refuses_a_text_that_is_too_long_and_cuts_nothing(embedder: EncoderEmbedder) -> None:
    longest = "word " * embedder.info.max_tokens
    assert embedder.embed([longest], "passage").dense is not None
    with pytest.raises(EmbeddingError, match=r"text 1: 511 tokens; all-MiniLM-L6-v2 reads at most 510"):
        embedder.embed(["fine", longest + "word", "fine"], "passage")


def test_names_text_that_is_no_text(embedder: EncoderEmbedder) -> None:
    with pytest.raises(EmbeddingError, match=r"text 1: character 2 is a lone surrogate"):
        embedder.embed(["fine", "ab\ud800"], "passage")
    with pytest.raises(EmbeddingError, match=r"text 0: expected a string, got int"):
        embedder.embed([3], "passage")  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("one string", "passage"), "got one string"),
        ((["a"], "document"), "expected query or passage"),
        ((["a"], "query", ("dens",)), "outputs: expected"),
        ((["a"], "query", ()), "outputs: expected"),
    ],
)
def test_refuses_bad_arguments(embedder: EncoderEmbedder, arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedder.embed(*arguments)


@pytest.mark.parametrize("settings", [{"max_batch_tokens": 0}, {"threads": 0}, {"threads": -1}])
def test_refuses_bad_settings(settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        EncoderEmbedder(**settings)


def test_threads_share_one_embedder(embedder: EncoderEmbedder) -> None:
    texts = [[f"text {n} of {m} words" for m in range(1 + n % 3)] for n in range(12)]
    expected = [embedder.embed(part, "passage").dense for part in texts]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda part: embedder.embed(part, "passage").dense, texts))
    for first, second in zip(expected, found, strict=True):
        assert first is not None and second is not None
        assert (first * second).sum(axis=1).min() > 0.99999


def test_a_small_rest_is_embedded_beside_other_requests_in_the_session_that_is_loaded() -> None:
    """Loading another one, to run it on all cores, would take longer than the rest and stop the others."""
    made = EncoderEmbedder(threads=2)
    try:
        made.preload()
        loaded = made._engine._many
        many = made.submit(["some words"] * 40, "passage")
        rest = made.submit(["a rest"], "passage")
        assert rest.result().dense is not None
        assert many.result().dense is not None
        assert made._engine._many is loaded and made._engine._one is None
    finally:
        made.close()


def test_an_interrupt_drops_the_batches_that_have_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    begun: list[int] = []

    def interrupting(batch: TokenBatch) -> Any:
        """Fails on the longest text, which is run first; holds all others until the gate opens."""
        if batch.ids.shape[1] > 450:
            raise KeyboardInterrupt
        begun.append(len(batch.ids))
        gate.wait(timeout=60)
        return np.ones((*batch.ids.shape, 384), dtype=np.float32)

    embedder = EncoderEmbedder(threads=2)
    monkeypatch.setattr(engine, "open_backend", lambda *_: FakeBackend(interrupting))
    with pytest.raises(KeyboardInterrupt):
        embedder.embed(["word " * 400] * 40 + ["word " * 500], "passage")
    gate.set()
    # The workers are free again at once: what they had not begun was dropped.
    assert embedder.embed(["a", "b c d e f g"], "passage").dense is not None
    embedder.close()
    assert len(begun) <= 4


def resident_bytes() -> int:
    """Memory of this process that is in use now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_a_hundred_thousand_texts_keep_their_order_and_memory_stays_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is a stand-in that gives the sum of a text's ids: with a real one it would take an hour."""
    texts = [" ".join(str(number)) + " word" * (number % 7) for number in range(100_000)]
    used: list[int] = []

    def sums(batch: TokenBatch) -> Any:
        used.append(resident_bytes())
        hidden = np.zeros((*batch.ids.shape, 384), dtype=np.float32)
        hidden[:, :, 0], hidden[:, :, 1] = batch.ids, 3000
        return hidden

    embedder = EncoderEmbedder(threads=2)
    monkeypatch.setattr(engine, "open_backend", lambda *_: FakeBackend(sums))
    found = embedder.embed(texts, "passage").dense
    embedder.close()
    assert found is not None and found.shape == (100_000, 384)
    for start in range(0, 100_000, 20_000):
        ids = embedder.tokenizer.input_ids(texts[start : start + 20_000])
        means = np.array([sum(row) / len(row) for row in ids])
        rows = found[start : start + 20_000]
        assert rows[:, 0] / rows[:, 1] == pytest.approx(means / 3000, rel=1e-4)
    # Memory grows by the vectors that are asked for, and by no more.
    early = used[len(used) // 5]
    assert max(used) - early < found.nbytes * 4 / 5 + 40e6


BROKEN = 3714  # the token of the word "broken"


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "not finite"), (np.inf, "not finite"), (0.0, "zero")])
@pytest.mark.parametrize("output", ["dense", "tokens"])
def test_names_the_text_with_a_useless_vector(
    monkeypatch: pytest.MonkeyPatch, value: float, kind: str, output: Any
) -> None:
    def broken(batch: TokenBatch) -> Any:
        hidden = np.ones((*batch.ids.shape, 384), dtype=np.float32)
        hidden[batch.ids[:, 1] == BROKEN] = value
        return hidden

    embedder = EncoderEmbedder(threads=2)
    assert embedder.tokenizer.input_ids(["broken"])[0][1] == BROKEN
    monkeypatch.setattr(engine, "open_backend", lambda *_: FakeBackend(broken))
    with pytest.raises(EmbeddingError, match=rf"text 2: the (dense|token) vector is {kind}"):
        embedder.embed(["a", "fine text", "broken", "b"], "passage", (output,))


def test_closed_means_closed() -> None:
    embedder = EncoderEmbedder(threads=1)
    embedder.embed(["a", "b c d e f g"], "passage")
    embedder.close()
    embedder.close()
    with pytest.raises(EmbeddingError, match="was closed"):
        embedder.embed(["a"], "query")


def test_fingerprint_follows_what_changes_vectors(embedder: EncoderEmbedder) -> None:
    assert EncoderEmbedder(threads=1, max_batch_tokens=64).info == embedder.info
    other = EncoderEmbedder(bm25=type(embedder.bm25)(language=None))
    assert other.info.fingerprint != embedder.info.fingerprint
    assert len(embedder.info.fingerprint) == 64


def test_registry_knows_both() -> None:
    assert EMBEDDERS.load("local") is EncoderEmbedder
    assert {"hashing", "local"} <= set(EMBEDDERS.names())


def test_pooling_ignores_padding() -> None:
    hidden = np.array([[[1, 0], [3, 0], [np.nan, 9]], [[0, 2], [0, 4], [0, 6]]], dtype=np.float32)
    counts = np.array([2, 3])
    assert pool(hidden, counts, "mean").tolist() == [[2, 0], [0, 4]]
    assert pool(hidden, counts, "cls").tolist() == [[1, 0], [0, 2]]


def test_unit_rows_keeps_directions() -> None:
    assert unit_rows(np.array([[3, 4]], dtype=np.float32), np.array([0], dtype=np.int32), "dense").tolist() == [
        pytest.approx([0.6, 0.8])
    ]


def test_embeddings_default_to_nothing() -> None:
    assert Embeddings() == Embeddings(None, None, None)
