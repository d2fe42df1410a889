"""Words by their spelling: alike for equal words, partly for related ones, and in every script."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ragstack.retrieval.word_vectors import WORD_DIM, word_tokens


@given(st.text(max_size=60) | st.text("aB é水ก์-_.9\n", max_size=60))
def test_tokens_are_words_with_their_places(text: str) -> None:
    found = word_tokens(text)
    data = text.encode()
    assert found.vectors.shape == (len(found), WORD_DIM)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-5)
    ends = [0, *found.byte_spans[:, 1].tolist()]
    for (start, end), before in zip(found.byte_spans.tolist(), ends, strict=False):
        assert before <= start < end
        assert data[start:end].decode().strip() == data[start:end].decode()


def cosine(one: str, other: str) -> float:
    return float(word_tokens(one).vectors[0] @ word_tokens(other).vectors[0])


def test_how_alike_words_are() -> None:
    assert cosine("Pump", "pump") > 0.999
    assert 0.3 < cosine("pump", "pumps") < 0.95
    assert abs(cosine("pump", "violin")) < 0.25
    assert len(word_tokens("水泵每年")) == 4
    assert word_tokens("one two").token_ids[0] != word_tokens("one two").token_ids[1]
    assert word_tokens("two one").token_ids[1] == word_tokens("one two").token_ids[0]
