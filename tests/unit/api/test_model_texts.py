"""Texts made ready for the model: cut at tokens, read from ids, refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.api.model_errors import OPENAI_ERRORS, TEI_ERRORS, Fault, ModelRequestError
from ragstack.api.model_texts import Truncate, is_short, prepare_texts, texts_of
from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.testing.hashing_embedder import HashingEmbedder

SMALL = HashingEmbedder(dim=8, max_tokens=6)


@pytest.fixture(scope="module")
def minilm() -> Iterator[EncoderEmbedder]:
    embedder = EncoderEmbedder()
    yield embedder
    embedder.close()


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["START", "END"]))
def test_a_text_is_cut_to_a_part_of_itself_that_the_model_reads(text: str, truncate: Truncate) -> None:
    prepared = prepare_texts(SMALL, [text], "passage", truncate, "input")
    cut = prepared.texts[0]
    assert text.endswith(cut) if truncate == "START" else text.startswith(cut)
    assert prepared.token_counts == SMALL.tokenizer.count([cut])
    assert prepared.token_counts[0] == min(6, SMALL.tokenizer.count([text])[0])
    SMALL.embed([cut], "passage")


@given(text=st.text("abcdefgh äß漢字-_.", min_size=1200, max_size=2500), truncate=st.sampled_from(["START", "END"]))
def test_a_cut_text_is_never_too_long_for_a_model_of_word_pieces(
    minilm: EncoderEmbedder, text: str, truncate: Truncate
) -> None:
    prepared = prepare_texts(minilm, [text], "passage", truncate, "input")
    assert prepared.token_counts[0] <= minilm.info.max_tokens
    assert prepared.cost[0] == max(1, prepared.token_counts[0] + 2)


def test_nothing_is_cut_unasked() -> None:
    with pytest.raises(ModelRequestError, match=r"`input\[1\]` must have at most 6 tokens. Given: 7") as refused:
        prepare_texts(SMALL, ["a", "a b c d e f g"], "query", "NONE", "input")
    assert refused.value.fault == "too_long"


def test_a_prompt_takes_its_share_of_what_the_model_reads() -> None:
    info = replace(SMALL.info, query_prompt_tokens=4)
    assert (info.text_tokens("query"), info.text_tokens("passage")) == (2, 6)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ModelRequestError, match=r"`input\[0\]`: character 1 is a lone surrogate") as refused:
        prepare_texts(SMALL, ["a\ud800"], "query", "END", "input")
    assert refused.value.fault == "unreadable"


@pytest.mark.parametrize("given_ids", [[7592, 2088], [101, 7592, 2088, 102], [[7592, 2088], [101, 7592, 2088, 102]]])
def test_token_ids_are_read_with_and_without_special_ones(minilm: EncoderEmbedder, given_ids: list[int]) -> None:
    assert set(texts_of(minilm, given_ids, "input")) == {"hello world"}


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_ids_of_any_text_give_its_vector_or_are_refused(minilm: EncoderEmbedder, text: str) -> None:
    ids = minilm.tokenizer.input_ids([text])[0]
    try:
        found = texts_of(minilm, ids, "input")
    except ModelRequestError as error:
        assert error.fault == "unreadable"
        return
    assert minilm.tokenizer.input_ids(found) == [ids]


def test_ids_of_plain_writing_are_read(minilm: EncoderEmbedder) -> None:
    text = "unaffordable pumps, don't they? e.g. 3.5 bar (line-7) in Grüße; 東京"
    (found,) = texts_of(minilm, minilm.tokenizer.input_ids([text]), "input")
    assert minilm.tokenizer.input_ids([found]) == minilm.tokenizer.input_ids([text])


@pytest.mark.parametrize("ids", [[30522], [-1], [101, 102], [2, 1037, 2077, 30521, 2]])
def test_ids_that_are_no_text_are_refused(minilm: EncoderEmbedder, ids: list[int]) -> None:
    with pytest.raises(ModelRequestError, match="`input`") as refused:
        texts_of(minilm, ids, "input")
    assert refused.value.fault == "unreadable"


def test_a_tokenizer_without_a_vocabulary_reads_no_ids() -> None:
    with pytest.raises(ModelRequestError, match="reads no token ids"):
        texts_of(SMALL, [1, 2], "input")


@pytest.mark.parametrize("nothing", ["", [], ["a", ""], [[]]])
def test_nothing_is_refused(nothing: list[str]) -> None:
    with pytest.raises(ModelRequestError) as refused:
        texts_of(SMALL, nothing, "input")
    assert refused.value.fault == "empty"


@given(
    st.text() | st.lists(st.text()) | st.lists(st.integers()) | st.lists(st.lists(st.integers())), st.integers(0, 30)
)
def test_what_is_short_is_known_by_its_characters_or_ids(inputs: list[str], most: int) -> None:
    parts = (
        [inputs] if isinstance(inputs, str) else [part if isinstance(part, (str, list)) else [part] for part in inputs]
    )
    size = sum(len(part) for part in parts)
    assert is_short(inputs, most) == (size <= most and len(inputs) <= most)


def test_every_fault_has_an_answer_in_every_dialect() -> None:
    faults = set(Fault.__args__)  # type: ignore[attr-defined]
    assert set(OPENAI_ERRORS) == set(TEI_ERRORS) == faults
