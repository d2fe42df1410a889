"""Growing and choosing passages: the arithmetic of indices, ranges and similarities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.reranking.base import RerankScore
from ragstack.retrieval.diversity import mmr_order
from ragstack.retrieval.expansion import around, within_reach
from ragstack.retrieval.passages import DocumentChunk, Passage, build_passages

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=12)


@given(COUNTS, st.data(), st.integers(1, 200), st.sets(st.integers(0, 11)))
def test_a_run_grows_around_its_hit_within_budget_and_bounds(
    counts: list[int], data: st.DataObject, budget: int, forbidden: set[int]
) -> None:
    here = data.draw(st.integers(0, len(counts) - 1))
    run = around(counts, here, lambda index: index not in forbidden, budget)
    assert here in run and run.start >= 0 and run.stop <= len(counts)
    assert set(run) - {here} <= set(within_reach(counts, here, budget))
    assert not (set(run) - {here}) & forbidden
    if len(run) > 1:
        assert sum(counts[index] for index in run) <= budget
    left = budget - sum(counts[index] for index in run)
    for index in (run.start - 1, run.stop):  # neither side could have gone on
        assert not 0 <= index < len(counts) or index in forbidden or counts[index] > left


def test_a_run_takes_what_follows_first_and_both_sides_in_turn() -> None:
    def grown(budget: int) -> range:
        return around([10] * 7, 3, lambda _: True, budget)

    assert [grown(budget) for budget in (5, 19, 20, 30, 40, 1000)] == [
        range(3, 4), range(3, 4), range(3, 5), range(2, 5), range(2, 6), range(7)
    ]  # fmt: skip


def payload(source: str, start: int, end: int, text: str = "") -> dict[str, object]:
    return {
        "source_id": source,
        "source_version": "0" * 64,
        "byte_start": start,
        "byte_end": end,
        "text": text or f"{source} {start}",
        "token_count": 5,
        "heading_path": [],
        "parser": "text/1 text/plain",
        "record": "",
    }


def ranked(*ids: str) -> list[RerankScore]:
    return [RerankScore(chunk_id, 1 - index / 100, 0.9) for index, chunk_id in enumerate(ids)]


def ids_of(passage: Passage) -> list[str]:
    return [hit.chunk.chunk_id for hit in passage.hits]


def test_a_chunk_that_overlaps_two_passages_makes_them_one() -> None:
    payloads = {
        "a": payload("x", 0, 100), "b": payload("x", 180, 300), "c": payload("x", 80, 200), "d": payload("y", 80, 200)
    }  # fmt: skip
    found = build_passages(ranked("a", "b", "d", "c"), payloads, 10)
    assert [ids_of(passage) for passage in found] == [["a", "b", "c"], ["d"]]
    assert (found[0].byte_start, found[0].byte_end, found[0].score.chunk_id) == (0, 300, "a")


def test_repeated_texts_are_named_under_the_passage_that_shows_them() -> None:
    text = "The same words."
    payloads = {name: payload(name, 0, 15, text) for name in "ab"}
    payloads |= {"c": payload("c", 0, 9), "d": payload("d", 3, 18, text.upper())}
    found = build_passages(ranked("a", "b", "c", "d"), payloads, 2)
    assert [ids_of(passage) for passage in found] == [["a"], ["c"]]
    assert [each.chunk.chunk_id for each in found[0].duplicates] == ["b", "d"]
    assert found[1].duplicates == ()


def test_a_hit_that_an_earlier_passage_grew_over_is_a_hit_of_it_while_there_is_room() -> None:
    payloads = {"a": payload("x", 0, 10), "b": payload("x", 10, 20), "c": payload("x", 20, 30)}
    added = [DocumentChunk.of(i, payloads[i]) for i in ("b", "c")]
    found = build_passages(ranked("a", "c"), payloads, 5, lambda hit, passages: added)
    assert [ids_of(passage) for passage in found] == [["a", "c"]]
    assert [each.chunk.chunk_id for each in found[0].added] == ["b"]
    assert [chunk.chunk_id for chunk in found[0].members] == ["a", "b", "c"]
    (full,) = build_passages(ranked("a", "c"), payloads, 1, lambda hit, passages: added)
    assert (ids_of(full), [each.chunk.chunk_id for each in full.added]) == (["a"], ["b", "c"])


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=8), st.floats(0, 1), st.integers(0, 2**31))
def test_mmr_gives_every_candidate_once_and_the_best_first(scores: list[float], weight: float, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(len(scores), 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = sorted(scores, reverse=True)
    order = mmr_order(scores, vectors, weight)
    assert sorted(order) == list(range(len(scores))) and order[0] == 0
    assert [scores[index] for index in mmr_order(scores, vectors, 1.0)] == scores


def test_mmr_puts_a_repetition_behind_something_new() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    assert mmr_order([1.0, 0.9, 0.5], vectors, 0.5) == [0, 2, 1]
    assert mmr_order([1.0, 0.9, 0.5], vectors, 0.9) == [0, 1, 2]
    assert mmr_order([], vectors[:0], 0.5) == []


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_mmr_of_equal_scores_keeps_the_order_of_equals(weight: float) -> None:
    vectors = np.eye(3, dtype=np.float32)
    assert mmr_order([0.4, 0.4, 0.4], vectors, weight) == [0, 1, 2]
