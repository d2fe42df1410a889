"""Counting for models that run elsewhere: the estimate against real tokenizers, and tiktoken's byte spans."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.embedding.remote_tokens import EstimatingTokenizer, remote_tokenizer
from ragstack.errors import EmbeddingError, InputError
from tests.servers import llm

TEXT = st.text(max_size=80) | st.text("ab Z9é水👩‍\n\t.", max_size=80)


@given(TEXT)
def test_estimated_tokens_cover_what_is_no_space(text: str) -> None:
    tokenizer = EstimatingTokenizer()
    data = text.encode()
    spans = tokenizer.token_byte_spans(text)
    assert spans.dtype == np.int32
    assert tokenizer.count([text]) == [len(spans)]
    rest, position = b"", 0
    for start, end in spans.tolist():
        assert position <= start < end
        data[start:end].decode()
        rest += data[position:start]
        position = end
    assert not (rest + data[position:]).decode().strip()


@pytest.fixture(scope="module")
def tables() -> Path:
    return llm.tables()


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "multilingual-e5-small", "cl100k_base", "o200k_base"])
def test_the_estimate_stays_near_what_models_count(
    name: str, tables: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tables))
    files = sorted((repository / "docs").glob("r*.md")) + sorted((repository / "ragstack" / "retrieval").glob("p*.py"))
    texts = [text[at : at + 800] for text in (file.read_text() for file in files) for at in range(0, 8000, 800)]
    blob = base64.b64encode(np.random.default_rng(0).bytes(3000)).decode()
    texts = [text for text in texts if len(text) > 400] + [blob[at : at + 800] for at in range(0, 4000, 800)]
    estimated = EstimatingTokenizer().count(texts)
    real = remote_tokenizer(name).tokenizer.count(texts)
    ratios = np.array(real) / np.array(estimated)
    assert ratios.max() < 1.5  # what `readable` leaves room for
    assert np.median(ratios) > 0.6


@given(text=TEXT)
def test_spans_of_tiktoken_are_whole_characters(tables: Path, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(tables))
        found = remote_tokenizer("cl100k_base")
    spans = found.tokenizer.token_byte_spans(text)
    assert found.is_exact and found.tokenizer.count([text]) == [len(spans)]
    data, position = text.encode(), 0
    for start, end in spans.tolist():
        assert start <= position <= end  # no byte is left out
        data[start:end].decode()
        position = end
    assert position == len(data)
    assert (np.diff(spans[:, 0]) >= 0).all()


def test_names(tmp_path: Path) -> None:
    own = remote_tokenizer("all-MiniLM-L6-v2")
    assert (own.specials, own.is_exact, own.tokenizer.count(["unaffable pumps"])) == (2, True, [4])
    assert not remote_tokenizer(None).is_exact
    with pytest.raises(InputError, match=r"'cl100k' is neither a tokenizer\.json") as caught:
        remote_tokenizer("cl100k")
    assert "cl100k_base" in caught.value.hint
    with pytest.raises(InputError, match=r"the files of bge-m3 are in no package") as caught:
        remote_tokenizer("bge-m3")
    assert "tokenizer.json" in caught.value.hint
    with pytest.raises(EmbeddingError, match="cannot be read"):
        remote_tokenizer(str(tmp_path / "tokenizer.json"))


def test_lone_surrogates(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tables))
    with pytest.raises(EmbeddingError, match="character 1 of a text is a lone surrogate"):
        remote_tokenizer("cl100k_base").tokenizer.count(["a\ud800"])
