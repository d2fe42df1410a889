"""Word pieces become words, whatever they are called; stop words and punctuation go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.assembly import token_codec
from ragstack.config.models import PipelineConfig
from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.reranking.token_words import BEGINS, CONTINUES, LEFT_OUT, whole_words
from ragstack.types import TokenVectors

KINDS = np.array([BEGINS] * 4 + [CONTINUES] * 4 + [LEFT_OUT] * 4, dtype=np.uint8)


def make_tokens(ids: list[int]) -> TokenVectors:
    vectors = np.random.default_rng(len(ids)).standard_normal((len(ids), 5)).astype(np.float32)
    starts = np.arange(len(ids), dtype=np.int32) * 3
    return TokenVectors(vectors, np.array(ids, dtype=np.int32), np.stack((starts, starts + 2), axis=1))


def words_of(ids: list[int]) -> list[tuple[int, int]]:
    """The first piece and the end of every word that stays, found one piece at a time."""
    words: list[tuple[int, int]] = []
    for place, piece in enumerate(ids):
        if KINDS[piece] == CONTINUES and words:
            words[-1] = (words[-1][0], place + 1)
        else:
            words.append((place, place + 1))
    kept = [(a, b) for a, b in words if b - a > 1 or KINDS[ids[a]] != LEFT_OUT]
    return kept or words


@given(st.lists(st.integers(0, 11), max_size=30))
def test_words_are_what_their_definition_says(ids: list[int]) -> None:
    tokens = make_tokens(ids)
    found = whole_words(tokens, KINDS)
    expected = words_of(ids)
    assert found.byte_spans.tolist() == [[3 * a, 3 * (b - 1) + 2] for a, b in expected]
    for (a, b), vector, word in zip(expected, found.vectors, found.token_ids.tolist(), strict=True):
        assert vector == pytest.approx(tokens.vectors[a:b].sum(axis=0), abs=1e-5)
        assert word == ids[a] if b - a == 1 else word >= 1 << 30


def test_a_word_has_the_same_id_everywhere_and_its_pieces_have_an_order() -> None:
    def ids(pieces: list[int]) -> list[int]:
        return whole_words(make_tokens(pieces), KINDS).token_ids.tolist()

    assert ids([0, 1, 4, 5, 2]) == ids([0]) + ids([1, 4, 5]) + ids([2])
    assert len({ids([1, 4, 5])[0], ids([1, 5, 4])[0], ids([1, 4])[0], ids([1, 4, 4])[0], ids([0, 4, 5])[0]}) == 5
    # Pinned: these numbers are in the ledger of every index.
    assert ids([1, 4, 5]) == [1153096980]


def test_joined_words_rarely_share_an_id() -> None:
    kinds = np.ones(30_000, dtype=np.uint8) * CONTINUES
    kinds[:15_000] = BEGINS
    rng = np.random.default_rng(1)
    pairs = np.unique(np.stack((rng.integers(0, 15_000, 200_000), rng.integers(15_000, 30_000, 200_000)), 1), axis=0)
    ids = pairs.reshape(-1).astype(np.int32)
    vectors, spans = np.zeros((len(ids), 1), dtype=np.float32), np.zeros((len(ids), 2), dtype=np.int32)
    found = whole_words(TokenVectors(vectors, ids, spans), kinds).token_ids
    shared = len(found) - len(np.unique(found))
    assert shared < 60  # about n * n / 2 ** 31 = 19 are expected


def test_the_default_model() -> None:
    text = "The photosynthesis of plants, it is said, was re-discovered in Zürich."
    tokens = EncoderEmbedder().embed([text], "passage", ("tokens",)).tokens
    assert tokens is not None
    prepared = token_codec(PipelineConfig()).prepare(tokens[0])
    data = text.encode()
    words = [data[start:end].decode() for start, end in prepared.byte_spans.tolist()]
    assert words == ["photosynthesis", "plants", "said", "discovered", "Zürich"]
    assert prepared.vectors.shape == (5, 96)
