"""SIGKILL at random instants and at every fault point, once and several times in a row; then a clean end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.killing import SCENARIOS, KillBench, fault_points

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a signal of POSIX systems")

SEED = int.from_bytes(os.urandom(4), "big")


def test_the_resumed_run_equals_a_clean_one(tmp_path: Path) -> None:
    print(f"seed {SEED}; the same again, longer: python scripts/kill_test.py --seed {SEED} --kills 200")
    summary = KillBench(tmp_path).run(SEED, 20, print)
    assert summary.failures == []
    assert summary.by_timer
    assert summary.points
    assert len(summary.scenarios) == len(SCENARIOS)


def test_fault_points_are_found() -> None:
    assert {"opened", "staged", "flushed", "published", "purged", "activated", "dropped"} <= set(fault_points())
