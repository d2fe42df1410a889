"""Counting tokens: by tiktoken's tables with and without a network, by a tokenizer's file, by an estimate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ragstack.config.generators import TokenCounterConfig
from ragstack.embedding.model_files import package_data
from ragstack.errors import InputError
from ragstack.generation.token_counting import token_counter
from ragstack.inference import tiktoken_tables
from ragstack.inference.tiktoken_tables import cache_file
from tests.servers import llm

TEXTS = (
    "",
    "Raw images are kept for 400 days.",
    "水泵每年检查一次。👩‍🔧 é\n\n\tx  y",
    "def f(a):\n    return a[1]  # it's\r\n",
    "<|endoftext|>",
)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiktoken's tables, and no table loaded by an earlier test."""
    import tiktoken.registry

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(llm.tables()))
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    return llm.tables()


def test_tiktoken_counts_from_its_cache(tables: Path) -> None:
    count = token_counter(TokenCounterConfig(type="tiktoken"), "gpt-4o-mini")
    assert [count(text) for text in TEXTS[:2]] == [0, 9]
    assert count("<|endoftext|>") > 1  # text, not the control token


@pytest.mark.parametrize("encoding", ["cl100k_base", "o200k_base", "o200k_harmony"])
def test_a_rank_file_counts_as_the_encoding_does(encoding: str, tables: Path, tmp_path: Path) -> None:
    if encoding != "o200k_harmony":
        import tiktoken

        expected = [len(tiktoken.get_encoding(encoding).encode_ordinary(text)) for text in TEXTS]
    else:
        expected = [token_counter(TokenCounterConfig(type="tiktoken", encoding="o200k_base"), "m")(t) for t in TEXTS]
    file = tmp_path / "ranks.tiktoken"
    file.write_bytes(cache_file(encoding).read_bytes())
    count = token_counter(TokenCounterConfig(type="tiktoken", encoding=encoding, file=str(file)), "m")
    assert [count(text) for text in TEXTS] == expected


@pytest.mark.parametrize("content", [None, b"", b"not a table", b"IQ== 0\n"])
def test_a_damaged_rank_file(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "ranks"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read as a rank file of o200k_base") as raised:
        token_counter(TokenCounterConfig(type="tiktoken", encoding="o200k_base", file=str(file)), "m")
    assert "o200k_base.tiktoken" in raised.value.hint


def test_offline_the_error_says_how_to_get_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    def unreachable(*_: object, **__: object) -> None:
        raise requests.ConnectionError("no route to host")

    monkeypatch.setattr(requests, "get", unreachable)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(InputError, match=r"p50k_base is not in tiktoken's cache and cannot be fetched") as raised:
        token_counter(TokenCounterConfig(type="tiktoken", encoding="p50k_base"), "m")
    assert "p50k_base.tiktoken" in raised.value.hint
    assert str(tmp_path) in raised.value.hint


def test_a_download_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    import requests

    release = threading.Event()
    monkeypatch.setattr(requests, "get", lambda *_, **__: release.wait(30))
    monkeypatch.setattr(tiktoken_tables, "_DOWNLOAD_TIMEOUT_S", 0.05)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    try:
        with pytest.raises(InputError, match="no answer within"):
            token_counter(TokenCounterConfig(type="tiktoken", encoding="r50k_base"), "m")
    finally:
        release.set()


def test_unknown_names() -> None:
    with pytest.raises(InputError, match=r"does not know the model 'llama'") as raised:
        token_counter(TokenCounterConfig(type="tiktoken"), "llama")
    assert "encoding" in raised.value.hint
    with pytest.raises(InputError, match=r"'x200' is not known") as raised:
        token_counter(TokenCounterConfig(type="tiktoken", encoding="x200"), "m")
    assert "o200k_base" in raised.value.hint
    with pytest.raises(InputError, match=r"a rank file of gpt2 is not enough"):
        token_counter(TokenCounterConfig(type="tiktoken", encoding="gpt2", file="x"), "m")


def test_a_tokenizers_file(tmp_path: Path) -> None:
    from tokenizers import BertWordPieceTokenizer

    file = tmp_path / "tokenizer.json"
    BertWordPieceTokenizer(str(package_data("bert-base-uncased.vocab.txt"))).save(str(file))
    count = token_counter(TokenCounterConfig(type="tokenizers", file=str(file)), "m")
    assert count("Raw images are kept for 400 days.") == 8  # special tokens are not counted
    with pytest.raises(InputError, match="cannot be read as a tokenizer"):
        token_counter(TokenCounterConfig(type="tokenizers", file=str(tmp_path / "none.json")), "m")


def test_the_estimate_is_no_less_than_the_count(tables: Path, repository: Path) -> None:
    """On prose and code, which is what the docs say; with 1 byte a token it holds for any text."""
    estimate = token_counter(TokenCounterConfig(), "m")
    safest = token_counter(TokenCounterConfig(bytes_per_token=1), "m")
    count = token_counter(TokenCounterConfig(type="tiktoken", encoding="cl100k_base"), "m")
    corpus = [file.read_text() for file in (repository / "examples" / "corpus").rglob("*") if file.is_file()]
    assert len(corpus) > 5
    assert all(count(text) <= estimate(text) for text in corpus)
    assert all(count(text) <= safest(text) for text in (*corpus, *TEXTS, "\ud83d"))


def test_importing_reads_and_fetches_nothing() -> None:
    """The generator's module can be imported and its config built without tiktoken being loaded."""
    program = "import sys, ragstack.generation.openai; sys.exit('tiktoken' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
