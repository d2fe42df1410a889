from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import EmbeddingError, InputError
from ragstack.testing.hashing_embedder import HashingEmbedder

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=50)


@given(st.lists(TEXT, max_size=6))
def test_contract_holds(texts: list[str]) -> None:
    embedder = HashingEmbedder(dim=24)
    found = embedder.embed(texts, "passage", ("dense", "sparse", "tokens"))
    assert found.dense is not None and found.tokens is not None and found.sparse is not None
    assert found.dense.shape == (len(texts), 24) and found.dense.dtype == np.float32
    assert np.linalg.norm(found.dense, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-5)
    for row, (text, tokens) in enumerate(zip(texts, found.tokens, strict=True)):
        assert len(tokens) == embedder.tokenizer.count([text])[0]
        for start, end in tokens.byte_spans.tolist():
            assert text.encode()[start:end].decode().strip()
        alone = embedder.embed([text], "query").dense
        assert alone is not None and (alone[0] == found.dense[row]).all()


def test_ranks_by_shared_words_and_parts() -> None:
    found = HashingEmbedder(dim=256).embed(
        ["how are connections pooled", "connection pooling keeps connections open", "apples and pears"], "passage"
    )
    assert found.dense is not None
    assert found.dense[0] @ found.dense[1] > found.dense[0] @ found.dense[2] + 0.1


def test_equal_in_another_process() -> None:
    code = (
        "from ragstack.testing.hashing_embedder import HashingEmbedder as H;"
        "print(H(dim=8).embed(['the cat'], 'query').dense.tobytes().hex(), H().info.fingerprint)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    here = HashingEmbedder(dim=8).embed(["the cat"], "query").dense
    assert here is not None
    assert run.stdout.split() == [here.tobytes().hex(), HashingEmbedder().info.fingerprint]


def test_errors() -> None:
    embedder = HashingEmbedder(max_tokens=3)
    with pytest.raises(EmbeddingError, match="text 1: 4 tokens"):
        embedder.embed(["a b c", "a b c d"], "query")
    with pytest.raises(InputError, match="input_type query or passage"):
        embedder.embed(["a"], "document")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="dim must be at least 8"):
        HashingEmbedder(dim=4)
    embedder.close()
    with pytest.raises(EmbeddingError, match="was closed"):
        embedder.embed(["a"], "query")
