"""Texts have exactly the tokens that were asked for, by every kind of tokenizer there is here."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ragstack.bench.load import Work
from ragstack.bench.plan import EmbedLoad, RerankLoad, TokenRange
from ragstack.bench.texts import TextMaker
from ragstack.bench.work import AddedTokens, RerankWork, TextWork, WorkMaker
from ragstack.embedding.model_files import resolve_model
from ragstack.errors import InputError
from ragstack.testing.hashing_embedder import HashingTokenizer
from ragstack.types import Tokenizer

MODELS = ("all-MiniLM-L6-v2", "multilingual-e5-small")


@pytest.fixture(scope="module", params=["hashing", *MODELS])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Words and marks; WordPiece; SentencePiece."""
    return HashingTokenizer() if request.param == "hashing" else resolve_model(request.param).tokenizer


def test_every_text_has_its_tokens_and_no_two_are_equal(tokenizer: Tokenizer) -> None:
    maker = TextMaker(tokenizer, seed=3)
    for tokens in (1, 2, 3, 18, 298, 510):
        texts = [maker.text(tokens, number) for number in range(40)]
        assert set(tokenizer.count(texts)) == {tokens}
        assert len(set(texts)) == 40
    far = [maker.text(20, number) for number in (10**4, 10**5, 10**5 + 1)]
    assert tokenizer.count(far) == [20, 20, 20]
    assert len(set(far)) == 3


def test_texts_do_not_depend_on_those_made_before_and_share_no_beginning(tokenizer: Tokenizer) -> None:
    short_first, long_first = TextMaker(tokenizer, seed=1), TextMaker(tokenizer, seed=1)
    wanted = [(10, 3), (400, 3), (90, 3)]
    found = {key: short_first.text(*key) for key in wanted}
    assert {key: long_first.text(*key) for key in reversed(wanted)} == found
    beginnings = {tuple(short_first.text(300, number).split()[:8]) for number in range(200)}
    assert len(beginnings) == 200  # a server that keeps what it made of a beginning has no use for it


def test_the_seed_decides(tokenizer: Tokenizer) -> None:
    first, again, other = (TextMaker(tokenizer, seed) for seed in (1, 1, 2))
    assert first.text(30, 7) == again.text(30, 7) != other.text(30, 7)


class LettersOnly:
    """A tokenizer to which no word is one token, nor a letter after another one."""

    def count(self, texts: Sequence[str]) -> list[int]:
        return [2 * len(text) for text in texts]


def test_a_tokenizer_that_splits_everything_is_an_error_that_says_so() -> None:
    with pytest.raises(InputError, match="hardly any common word") as raised:
        TextMaker(LettersOnly(), seed=0)
    assert "--tokenizer" in raised.value.hint


class MergesNeighbours(HashingTokenizer):
    """A tokenizer to which long texts have fewer tokens than their words have."""

    def count(self, texts: Sequence[str]) -> list[int]:
        return [min(count, 3) for count in super().count(texts)]


def test_words_that_do_not_add_up_are_noticed() -> None:
    with pytest.raises(InputError, match="3 tokens of 47 words"):
        TextMaker(MergesNeighbours(), seed=0).text(50, 0)


def test_a_request_has_what_its_load_says() -> None:
    tokenizer = HashingTokenizer()
    maker = WorkMaker(TextMaker(tokenizer, 0), AddedTokens(query=5, passage=3, pair=4), "hashing")
    work = maker.work(EmbedLoad("passage", TokenRange(30, 30), 8, 1), 2)
    assert isinstance(work, TextWork)
    assert set(tokenizer.count(work.texts)) == {27}  # what the model adds is part of the 30
    assert work.counted == Work(texts=8, tokens=240)
    other = maker.work(EmbedLoad("passage", TokenRange(30, 30), 8, 1), 3)
    assert isinstance(other, TextWork)
    assert not set(work.texts) & set(other.texts)
    asked = maker.work(EmbedLoad("query", TokenRange(20, 20), 1, 1), 0)
    assert isinstance(asked, TextWork)
    assert tokenizer.count(asked.texts) == [15]
    ranked = maker.work(RerankLoad(TokenRange(64, 64), 20, 10, 1), 0)
    assert isinstance(ranked, RerankWork)
    assert tokenizer.count([ranked.query]) == [20]
    assert set(tokenizer.count(ranked.passages)) == {40}
    assert ranked.counted == Work(texts=10, pairs=10, tokens=640)


def test_mixed_lengths_stay_in_their_range_and_differ() -> None:
    tokenizer = HashingTokenizer()
    maker = WorkMaker(TextMaker(tokenizer, 0), AddedTokens(), "hashing")
    work = maker.work(EmbedLoad("passage", TokenRange(10, 50), 64, 1), 0)
    assert isinstance(work, TextWork)
    counts = tokenizer.count(work.texts)
    assert len(set(counts)) > 10
    assert min(counts) >= 10
    assert max(counts) <= 50
    assert work.counted.tokens == sum(counts)
    same = maker.work(EmbedLoad("passage", TokenRange(10, 50), 64, 5), 0)
    assert same == work  # another concurrency asks for the same


def test_texts_that_leave_no_room_for_themselves_are_refused() -> None:
    maker = WorkMaker(TextMaker(HashingTokenizer(), 0), AddedTokens(passage=4, pair=3), "hashing")
    with pytest.raises(InputError, match="adds 4"):
        maker.work(EmbedLoad("passage", TokenRange(4, 4), 1, 1), 0)
    with pytest.raises(InputError, match="adds 23"):
        maker.work(RerankLoad(TokenRange(22, 22), 20, 1, 1), 0)
