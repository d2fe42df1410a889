"""Rerankers one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import InputError, RerankingError, StoreError
from ragstack.reranking.base import RerankCandidate, Reranker, RerankQuery, RerankScore, StageScore
from ragstack.reranking.cascade import CascadeReranker, CascadeStage, stage_errors
from ragstack.reranking.none import NoReranker
from tests.cross_encoder_kit import ask, candidate


@dataclass
class Told:
    """A reranker that gives the scores it was told, and notes what it read."""

    name: str
    scores: Mapping[str, float]
    min_relevance: float = 0.3
    fault: Exception | None = None
    read: tuple[str, ...] = ()
    closed: int = 0

    def rerank(self, query: RerankQuery, candidates: Sequence[RerankCandidate]) -> list[RerankScore]:
        self.read = tuple(c.chunk.chunk_id for c in candidates)
        if self.fault is not None:
            raise self.fault
        found = [
            RerankScore(i, self.scores[i], abs(self.scores[i]) % 1, {self.name: self.scores[i]}) for i in self.read
        ]
        return sorted(found, key=lambda score: (-score.score, score.chunk_id))

    def close(self) -> None:
        self.closed += 1


CANDIDATES = [candidate(name, name) for name in "abcde"]
CHEAP = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.7, "e": 0.2}


def test_a_later_stage_orders_the_best_and_the_rest_stays_below() -> None:
    cheap, dear = Told("cheap", CHEAP, 0.4), Told("dear", {"b": -9.0, "d": 3.0, "c": -2.0})
    cascade = CascadeReranker([CascadeStage(cheap), CascadeStage(dear, 3)])
    found = cascade.rerank(ask("q"), CANDIDATES)
    assert (cheap.read, dear.read) == (tuple("abcde"), tuple("bdc"))
    assert [score.chunk_id for score in found] == ["d", "c", "b", "e", "a"]
    assert [score.stages for score in found] == [
        (StageScore("cheap", 2, 0.7), StageScore("dear", 1, 3.0)),
        (StageScore("cheap", 3, 0.5), StageScore("dear", 2, -2.0)),
        (StageScore("cheap", 1, 0.9), StageScore("dear", 3, -9.0)),
        (StageScore("cheap", 4, 0.2),),
        (StageScore("cheap", 5, 0.1),),
    ]
    assert [score.relevance for score in found] == pytest.approx([0.7, 0.5, 0.9, 0.2, 0.1])
    assert [score.score for score in found[:3]] == [3.0, -2.0, -9.0]
    assert found[3].score == pytest.approx(-10.0)
    assert found[3].score - found[4].score == pytest.approx(0.1)
    assert found[3].parts == pytest.approx({"cheap": 0.2, "below_stage": -10.2})
    assert (cascade.name, cascade.min_relevance) == ("cascade(cheap, dear)", 0.4)
    assert stage_errors(found) == ()
    cascade.close()
    assert (cheap.closed, dear.closed) == (1, 1)


SCORES = st.floats(-20, 20)


@given(st.lists(st.tuples(SCORES, SCORES, SCORES), max_size=9), st.integers(2, 8), st.integers(1, 7), st.randoms())
def test_scores_stand_in_their_order_and_sum_up(
    told: list[tuple[float, float, float]], second: int, third: int, random: object
) -> None:
    names = [f"c{index}" for index in range(len(told))]
    stages = [Told(f"s{stage}", {n: told[i][stage] for i, n in enumerate(names)}) for stage in range(3)]
    depths = (None, second, min(third, second - 1))
    cascade = CascadeReranker([CascadeStage(stage, depth) for stage, depth in zip(stages, depths, strict=True)])
    candidates = [candidate(name, name) for name in names]
    found = cascade.rerank(ask("q"), candidates)
    random.shuffle(candidates)  # type: ignore[attr-defined]
    assert cascade.rerank(ask("q"), candidates) == found
    assert sorted(score.chunk_id for score in found) == names
    scores = [score.score for score in found]
    assert scores == sorted(scores, reverse=True)
    for score in found:
        assert sum(score.parts.values()) == pytest.approx(score.score, abs=1e-6)
    assert [len(score.stages) for score in found] == sorted((len(score.stages) for score in found), reverse=True)
    assert len(stages[2].read) == min(len(names), depths[2] or 0)


def test_a_stage_that_fails() -> None:
    fault = RerankingError("the reranker at h cannot be reached.", hint="Start it.")
    cheap, broken = Told("cheap", CHEAP), Told("broken", {}, fault=fault)
    last = Told("last", {"b": 1.0, "d": 2.0})
    with pytest.raises(RerankingError) as caught:
        CascadeReranker([CascadeStage(cheap), CascadeStage(broken, 3)]).rerank(ask("q"), CANDIDATES)
    assert caught.value is fault
    stages = [CascadeStage(cheap), CascadeStage(broken, 3, keeps_order=True), CascadeStage(last, 2)]
    found = CascadeReranker(stages).rerank(ask("q"), CANDIDATES)
    assert [score.chunk_id for score in found] == ["d", "b", "c", "e", "a"]
    told = "the reranker at h cannot be reached. Start it."
    assert [stage.error for stage in found[2].stages] == ["", told]
    assert found[0].stages[1] == StageScore("broken", None, None, told)
    assert len(found[3].stages) == 1
    assert stage_errors(found) == (told,)
    broken.fault = StoreError("another fault is not the reranker's")
    with pytest.raises(StoreError):
        CascadeReranker(stages).rerank(ask("q"), CANDIDATES)


def test_the_fused_order_can_be_what_is_kept() -> None:
    broken = Told("broken", {}, fault=RerankingError("down."))
    cascade = CascadeReranker([CascadeStage(NoReranker()), CascadeStage(broken, None, keeps_order=True)])
    found = cascade.rerank(ask("q"), CANDIDATES[::-1])
    assert [score.chunk_id for score in found] == ["e", "d", "c", "b", "a"]
    assert cascade.min_relevance == NoReranker.min_relevance
    assert broken.read == tuple("edcba")
    assert cascade.rerank(ask("q"), []) == []


@pytest.mark.parametrize(
    "stages",
    [
        [],
        [CascadeStage(NoReranker(), 5)],
        [CascadeStage(NoReranker(), keeps_order=True)],
        [CascadeStage(NoReranker()), CascadeStage(NoReranker(), 0)],
    ],
)
def test_stages_that_make_no_cascade(stages: list[CascadeStage]) -> None:
    with pytest.raises(InputError):
        CascadeReranker(stages)


def test_a_reranker_that_holds_nothing_needs_no_close() -> None:
    plain: Reranker = NoReranker()
    CascadeReranker([CascadeStage(plain), CascadeStage(plain, 2)]).close()
