"""Which loads options ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.bench.plan import EmbedLoad, TokenRange, embed_loads, parse_numbers, parse_token_ranges, rerank_loads
from ragstack.errors import InputError


def test_the_standard_loads_are_those_of_the_published_figures() -> None:
    loads = embed_loads(["query", "passage"])
    queries = [load for load in loads if load.input_type == "query"]
    assert [load.concurrency for load in queries] == list(range(1, 16))
    assert {(str(load.tokens), load.batch) for load in queries} == {("20", 1)}
    passages = [load for load in loads if load.input_type == "passage"]
    assert [(str(load.tokens), load.batch, load.concurrency) for load in passages] == [
        (tokens, 64, concurrency) for tokens in ("300", "512") for concurrency in (1, 3, 5)
    ]


def test_options_replace_one_thing_at_a_time() -> None:
    assert embed_loads(["passage"], [TokenRange(10, 300)], [8], [2, 4]) == [
        EmbedLoad("passage", TokenRange(10, 300), 8, 2),
        EmbedLoad("passage", TokenRange(10, 300), 8, 4),
    ]
    assert len(rerank_loads([TokenRange(512, 512)], 20, [10, 20, 40], [1, 3, 5])) == 9


def test_more_loads_than_anybody_waits_for_are_refused() -> None:
    with pytest.raises(InputError, match="ask for"):
        embed_loads(["passage"], None, range(1, 600), [1])


@given(st.lists(st.integers(1, 99), min_size=1, max_size=6))
def test_numbers_come_back_each_once_in_their_order(numbers: list[int]) -> None:
    assert parse_numbers(",".join(map(str, numbers)), "--batch", most=99) == tuple(dict.fromkeys(numbers))


def test_a_range_is_each_number_of_concurrency_but_one_mix_of_tokens() -> None:
    assert parse_numbers("1-3, 5", "--concurrency", most=9) == (1, 2, 3, 5)
    assert parse_token_ranges("10-300,512", "--tokens") == (TokenRange(10, 300), TokenRange(512, 512))
    assert [str(tokens) for tokens in parse_token_ranges("10-300,512", "--tokens")] == ["10-300", "512"]


@pytest.mark.parametrize("text", ["", "0", "1,,2", "x", "3-1", "1-2-3", "-5", "1.5", "1_0", "²", "99999999999999"])
def test_what_is_no_list_of_numbers_names_the_option(text: str) -> None:
    with pytest.raises(InputError, match="--batch"):
        parse_numbers(text, "--batch", most=4096)
