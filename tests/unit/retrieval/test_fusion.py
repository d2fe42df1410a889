from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.adapters.base import Hit
from ragstack.errors import InputError
from ragstack.retrieval.fusion import FusedHit, LegRank, fuse_rrf, fuse_weighted

IDS = [f"id{number}" for number in range(8)]
Legs = Mapping[str, Sequence[Hit]]
FUSIONS: list[Callable[..., list[FusedHit]]] = [fuse_rrf, fuse_weighted]
both = pytest.mark.parametrize("fuse", FUSIONS)


@st.composite
def legs(draw: st.DrawFn) -> dict[str, list[Hit]]:
    made = {}
    for name in draw(st.lists(st.sampled_from(["dense", "sparse", "title"]), unique=True)):
        ids = draw(st.lists(st.sampled_from(IDS), unique=True))
        scores = sorted(draw(st.lists(st.floats(-1e300, 1e300), min_size=len(ids), max_size=len(ids))), reverse=True)
        made[name] = [Hit(id_, score, {"id": id_}) for id_, score in zip(ids, scores, strict=True)]
    return made


def test_rrf_by_hand() -> None:
    fused = fuse_rrf({"dense": [Hit("a", 0.9), Hit("b", 0.8)], "sparse": [Hit("b", 7.0), Hit("c", 3.0)]}, k=10)
    assert [(hit.id, hit.score) for hit in fused] == [
        ("b", pytest.approx(1 / 12 + 1 / 11)),
        ("a", pytest.approx(1 / 11)),
        ("c", pytest.approx(1 / 12)),
    ]
    assert fused[0].ranks == {"dense": LegRank(2, 0.8), "sparse": LegRank(1, 7.0)}
    assert fused[1].ranks == {"dense": LegRank(1, 0.9), "sparse": None}


def test_weights() -> None:
    found = {"dense": [Hit("a", 0.9)], "sparse": [Hit("b", 7.0)]}
    assert [hit.id for hit in fuse_rrf(found)] == ["a", "b"]
    assert [hit.id for hit in fuse_rrf(found, weights={"sparse": 2})] == ["b", "a"]
    silent = fuse_rrf(found, weights={"dense": 0})
    assert [(hit.id, hit.score) for hit in silent] == [("b", 1 / 61), ("a", 0.0)]
    assert silent[1].ranks["dense"] == LegRank(1, 0.9)


def test_weighted_by_hand() -> None:
    fused = fuse_weighted(
        {"dense": [Hit("a", 0.9), Hit("b", 0.7), Hit("c", 0.5)], "sparse": [Hit("b", 7.0), Hit("d", 3.0)]},
        {"dense": 1, "sparse": 0.4},
    )
    assert [(hit.id, pytest.approx(hit.score)) for hit in fused] == [("a", 1.0), ("b", 0.9), ("c", 0.0), ("d", 0.0)]
    assert fuse_weighted({"dense": [Hit("a", 0.3), Hit("b", 0.3)]})[1].score == 1.0


@both
def test_ties_are_ordered_by_id(fuse: Callable[..., list[FusedHit]]) -> None:
    assert [hit.id for hit in fuse({"x": [Hit("b", 1.0)], "y": [Hit("a", 1.0)], "z": [Hit("c", 1.0)]})] == [*"abc"]


@both
def test_nothing(fuse: Callable[..., list[FusedHit]]) -> None:
    assert fuse({}) == fuse({"dense": [], "sparse": []}) == []


@both
@given(legs())
def test_invariants(fuse: Callable[..., list[FusedHit]], found: Legs) -> None:
    fused = fuse(found)
    assert fused == fuse(dict(reversed(list(found.items()))))
    assert {hit.id for hit in fused} == {hit.id for hits in found.values() for hit in hits}
    assert fused == sorted(fused, key=lambda hit: (-hit.score, hit.id))
    for hit in fused:
        assert math.isfinite(hit.score)
        assert hit.payload == {"id": hit.id}
        assert hit.ranks.keys() == found.keys()
        for leg, rank in hit.ranks.items():
            expected = next((LegRank(i, h.score) for i, h in enumerate(found[leg], 1) if h.id == hit.id), None)
            assert rank == expected


@both
@given(legs())
def test_better_in_every_leg_is_never_worse_fused(fuse: Callable[..., list[FusedHit]], found: Legs) -> None:
    place = {hit.id: position for position, hit in enumerate(fuse(found))}
    score = {hit.id: hit.score for hit in fuse(found)}
    ranks = {hit.id: hit.ranks for hit in fuse(found)}

    def rank(id_: str, leg: str) -> float:
        at = ranks[id_][leg]
        return math.inf if at is None else at.rank

    for a in place:
        for b in place:
            if a != b and all(rank(a, leg) <= rank(b, leg) for leg in found):
                assert score[a] >= score[b]


@given(legs(), st.sampled_from(IDS))
def test_moving_up_in_a_leg_never_lowers_the_rrf_score(found: dict[str, list[Hit]], id_: str) -> None:
    before = {hit.id: hit.score for hit in fuse_rrf(found)}
    for leg, hits in found.items():
        at = next((i for i, hit in enumerate(hits) if hit.id == id_), None)
        if at:
            moved = [*hits[: at - 1], hits[at], hits[at - 1], *hits[at + 1 :]]
            assert {hit.id: hit.score for hit in fuse_rrf({**found, leg: moved})}[id_] > before[id_]


@both
def test_mistakes_are_named(fuse: Callable[..., list[FusedHit]]) -> None:
    leg = {"dense": [Hit("a", 0.9)]}
    with pytest.raises(InputError, match="'spares'"):
        fuse(leg, weights={"spares": 1.0})
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="dense"):
            fuse(leg, weights={"dense": weight})
    with pytest.raises(InputError, match="twice"):
        fuse({"dense": [Hit("a", 0.9), Hit("a", 0.8)]})


def test_mistakes_of_one_fusion() -> None:
    for k in (0, -1, math.nan, math.inf):
        with pytest.raises(InputError, match="positive k"):
            fuse_rrf({}, k=k)
    with pytest.raises(InputError, match="not finite"):
        fuse_weighted({"dense": [Hit("a", math.nan)]})
