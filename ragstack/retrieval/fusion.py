"""Fusing the ranked lists of several search legs into one. Pure functions: no store, no I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ragstack.adapters.base import Hit, Payload
from ragstack.errors import InputError


@dataclass(frozen=True, slots=True)
class LegRank:
    """Where one leg found a record: ``rank`` from 1, and the leg's own score."""

    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class FusedHit:
    """One record found by at least one leg. ``ranks`` names every leg; None for those that did not find it."""

    id: str
    score: float
    payload: Payload
    ranks: Mapping[str, LegRank | None]


def fuse_rrf(
    legs: Mapping[str, Sequence[Hit]], k: float = 60.0, weights: Mapping[str, float] | None = None
) -> list[FusedHit]:
    """Reciprocal rank fusion: a record's score is the sum of ``weight / (k + rank)`` over the legs that found it.

    Each leg is best first, without repeated ids. ``weights`` names legs and defaults to 1 for each; a
    leg of weight 0 is reported in ``ranks`` and adds nothing. Best first, ties by id; the result does not
    depend on the order of the legs. Raises InputError for a ``k`` that is not positive, a negative
    weight, a weight of an unknown leg, or a repeated id.
    """
    if not (math.isfinite(k) and k > 0):
        raise InputError(f"reciprocal rank fusion needs a positive k; got {k!r}.")
    leg_weights = _checked_weights(legs, weights)
    return _fuse(legs, lambda leg, found: leg_weights[leg] / (k + found.rank))


def fuse_weighted(legs: Mapping[str, Sequence[Hit]], weights: Mapping[str, float] | None = None) -> list[FusedHit]:
    """Weighted score fusion: the sum of ``weight * s`` over the legs that found a record.

    ``s`` is the leg's score brought into [0, 1] by the leg's own smallest and largest score (1 where all
    are equal), so a record that a leg did not find counts like the leg's last. Conditions, order and
    errors are those of :func:`fuse_rrf`; a score that is not finite raises InputError too.
    """
    leg_weights = _checked_weights(legs, weights)
    bounds: dict[str, tuple[float, float]] = {}
    for leg, hits in legs.items():
        scores = [hit.score for hit in hits]
        if not all(map(math.isfinite, scores)):
            raise InputError(f"the leg {leg!r} has a score that is not finite, so its scores cannot be normalised.")
        bounds[leg] = (min(scores, default=0.0), max(scores, default=0.0))

    def contribution(leg: str, found: LegRank) -> float:
        low, high = bounds[leg]
        # Halves first: the span of two finite scores may be infinite.
        span = high / 2 - low / 2
        normalised = (found.score / 2 - low / 2) / span if span > 0 else 1.0
        return leg_weights[leg] * normalised

    return _fuse(legs, contribution)


def _fuse(legs: Mapping[str, Sequence[Hit]], contribution: Callable[[str, LegRank], float]) -> list[FusedHit]:
    payloads: dict[str, Payload] = {}
    ranks: dict[str, dict[str, LegRank | None]] = {}
    # Sorted legs and an exact sum: the same result whatever the order of the mapping.
    for leg in sorted(legs):
        for rank, hit in enumerate(legs[leg], start=1):
            found = ranks.setdefault(hit.id, dict.fromkeys(sorted(legs)))
            if found[leg] is not None:
                raise InputError(f"the leg {leg!r} holds the record {hit.id} twice.", hint="Pass each leg's hits once.")
            found[leg] = LegRank(rank, hit.score)
            payloads.setdefault(hit.id, hit.payload)
    fused = [
        FusedHit(
            id_,
            math.fsum(contribution(leg, found) for leg, found in by_leg.items() if found is not None),
            payloads[id_],
            by_leg,
        )
        for id_, by_leg in ranks.items()
    ]
    return sorted(fused, key=lambda hit: (-hit.score, hit.id))


def _checked_weights(legs: Mapping[str, Sequence[Hit]], weights: Mapping[str, float] | None) -> dict[str, float]:
    given = dict(weights or {})
    unknown = sorted(set(given) - set(legs))
    if unknown:
        raise InputError(f"a weight is given for {unknown[0]!r}.", hint=f"The legs are: {', '.join(sorted(legs))}.")
    for leg, weight in given.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"the weight of {leg!r} must be 0 or more; got {weight!r}.")
    return {leg: given.get(leg, 1.0) for leg in legs}
