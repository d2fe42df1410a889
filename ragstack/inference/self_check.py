"""Whether a profile gives what the model gives: a few fixed texts, compared with the same model in fp32.

A profile of lower precision is chosen by itself only after it passed. What was found is kept for this model, profile,
machine and version of the runtime (:mod:`ragstack.inference.check_records`), so it is looked at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from ragstack.errors import DeviceMemoryError, RagstackError
from ragstack.inference.backend import Backend, TokenBatch
from ragstack.inference.check_records import CheckRecord, CheckRecords
from ragstack.inference.opening import open_backend
from ragstack.inference.profile import ModelWeights, Precision, Profile
from ragstack.inference.profiles import ModelProfile
from ragstack.inference.role import ModelRole
from ragstack.types import Float32Array

_log = logging.getLogger(__name__)

Agreement: TypeAlias = Literal["cosine", "relevance"]
"""How two runs are compared: the smallest cosine of a text's two vectors, or 1 less the largest difference of a
pair's two relevances, which lie between 0 and 1."""

QUALITY_BOUND: dict[Precision, float] = {"fp32": 0.9999, "fp16": 0.999, "bf16": 0.999, "fp8": 0.99, "int8": 0.99}
"""The least agreement with fp32 of the worst text, by precision."""

_SPELL_S, _SPELLS = 0.25, 4


@dataclass(frozen=True)
class Probe:
    """What a model is asked to be checked. ``batches`` are texts whose results are compared by ``agreement``.

    ``read`` gives a row for each text of a batch: a vector of length 1, or a relevance. ``measured`` is the batch by
    which speed is taken.
    """

    batches: tuple[TokenBatch, ...]
    measured: TokenBatch
    read: Callable[[Backend, TokenBatch], Float32Array]
    agreement: Agreement

    def results(self, backend: Backend) -> Float32Array:
        """The rows of all texts, ``(n, dim) float32``."""
        return np.concatenate([np.atleast_2d(self.read(backend, batch)) for batch in self.batches])


def agreement_of(found: Float32Array, reference: Float32Array, agreement: Agreement) -> float:
    """How well two results ``(n, dim)`` agree, at most 1; 0 where they cannot be compared (NaN, other shapes)."""
    if found.shape != reference.shape or not found.size or not np.isfinite(found).all():
        return 0.0
    if agreement == "relevance":
        return float(1 - np.abs(found - reference).max())
    left, right = found.astype(np.float64), reference.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(((left * right).sum(axis=1) / lengths).min()) if (lengths > 0).all() else 0.0


@dataclass
class SelfCheck:
    """Checks the profiles of one model. The reference is run once, when a check first needs it.

    ``references`` are profiles in fp32 that can run here, the first of which is the reference.
    """

    weights: ModelWeights
    role: ModelRole
    probe: Callable[[], Probe]
    references: Sequence[ModelProfile]
    threads: int
    records: CheckRecords

    def __post_init__(self) -> None:
        self._probe: Probe | None = None
        self._reference: tuple[Profile, Float32Array] | None = None

    def passes(self, candidate: ModelProfile) -> bool:
        """Whether the profile's results are within its bound: as kept, or looked at now and kept.

        A profile that cannot be loaded or run does not pass; why is said in the log.
        """
        record = self.records.find(candidate) or self.check(candidate)
        if record is not None and not record.passed:
            _log.warning(
                "the profile %s is not used: %s (ragstack profiles --measure looks again)",
                candidate.name,
                record.reason,
            )
        return record is not None and record.passed

    def check(self, candidate: ModelProfile, *, measure: bool = False) -> CheckRecord | None:
        """Run the profile now, beside its reference; with ``measure`` take its speed too.

        None where it could not be told: there is no reference but itself, or a device had no memory left just now.
        """
        references = [found for found in self.references if found.profile != candidate.profile] or [
            found for found in self.references if candidate.profile.precision == "fp32"
        ]
        if not references:
            _log.warning("the profile %s cannot be checked: the model cannot run in fp32 here", candidate.name)
            return None
        _log.info("checking the profile %s against %s", candidate.name, references[0].name)
        self._probe = probe = self._probe or self.probe()
        try:
            expected = self._expected(references[0], probe)
            record = self._compared(candidate, references[0].name, probe, expected, measure=measure)
        except RagstackError as error:
            _log.warning("the profile %s cannot be checked now: %s", candidate.name, error.message)
            return None
        self.records.keep(candidate, record)
        return record

    def _compared(
        self, candidate: ModelProfile, reference: str, probe: Probe, expected: Float32Array, *, measure: bool
    ) -> CheckRecord:
        """Raises DeviceMemoryError; every other fault of the candidate is the verdict."""
        bound = QUALITY_BOUND[candidate.profile.precision]
        speed: float | None = None
        reason = ""
        try:
            with closing(self._open(candidate)) as backend:
                found = agreement_of(probe.results(backend), expected, probe.agreement)
                speed = tokens_per_second(backend, probe) if measure else None
        except DeviceMemoryError:
            raise
        except Exception as error:  # a broken installation raises what it likes; there are other profiles
            found, reason = 0.0, f"{type(error).__name__}: {error}"
        if not reason and found < bound:
            reason = f"its {probe.agreement} agrees with {reference} to {found:.5f}; {bound} is asked for"
        return CheckRecord(found, bound, reference, speed, reason)

    def _expected(self, reference: ModelProfile, probe: Probe) -> Float32Array:
        if self._reference is None or self._reference[0] != reference.profile:
            with closing(self._open(reference)) as backend:
                self._reference = reference.profile, probe.results(backend)
        return self._reference[1]

    def _open(self, found: ModelProfile) -> Backend:
        return open_backend(self.weights, found.profile, found.devices[0], self.threads, "many_calls", self.role)


def tokens_per_second(backend: Backend, probe: Probe) -> float:
    """Tokens a second, as many calls at a time as suit the backend: the best of a few short spells.

    Other programs can only slow a spell down, so the best is nearest to the truth.
    """
    calls, tokens = backend.parallel_calls, int(probe.measured.counts.sum())
    probe.read(backend, probe.measured)

    def run_until(end: float) -> int:
        done = 0
        while True:
            probe.read(backend, probe.measured)
            done += tokens
            if time.perf_counter() >= end:
                return done

    def spell() -> float:
        started = time.perf_counter()
        running = [pool.submit(run_until, started + _SPELL_S) for _ in range(calls)]
        return sum(future.result() for future in running) / (time.perf_counter() - started)

    with ThreadPoolExecutor(calls, "ragstack-measure") as pool:
        return max(spell() for _ in range(_SPELLS))
