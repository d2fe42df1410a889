"""Runs of the indexer that are killed at random instants, and the check that the resumed run makes good.

Used by ``test_kill_fuzz.py`` and, at scale, by ``scripts/kill_test.py``. Everything follows from a seed, except
where inside a step a timer strikes.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ragstack
from ragstack.ledger.writer import Ledger
from tests.integration.harness import SMALL_CONFIG, Index

_TIMEOUT_S = 120
_WORDS = ("pump", "valve", "gasket", "lever", "lamp", "oil", "water", "pressure", "bar", "seal", "rotor", "shaft")
OTHER_CHUNKER = {**SMALL_CONFIG, "chunker": {"type": "recursive", "max_tokens": 40}}


@dataclass(frozen=True)
class Scenario:
    """What is killed: ``prepared`` says whether an index of the old corpus is there before.

    The killed runs use ``config``; the last run, and the clean one it is compared with, ``final_config``.
    """

    name: str
    prepared: bool
    config: dict[str, Any]
    final_config: dict[str, Any]
    rebuild: bool = False


SCENARIOS = (
    Scenario("first run", prepared=False, config=SMALL_CONFIG, final_config=SMALL_CONFIG),
    Scenario("update", prepared=True, config=SMALL_CONFIG, final_config=SMALL_CONFIG),
    Scenario("changed chunker", prepared=True, config=OTHER_CHUNKER, final_config=OTHER_CHUNKER),
    Scenario("chunker changed and changed back", prepared=True, config=OTHER_CHUNKER, final_config=SMALL_CONFIG),
    Scenario("rebuild", prepared=True, config=SMALL_CONFIG, final_config=SMALL_CONFIG, rebuild=True),
)


@dataclass(frozen=True)
class Kill:
    """Kill at a fault point (``name:n``), or so many seconds after the start."""

    fault: str | None
    after_s: float

    def __str__(self) -> str:
        return self.fault or f"{self.after_s:.3f} s"


@dataclass(frozen=True)
class Trial:
    """One index, killed one or more times in a row, then finished."""

    number: int
    scenario: Scenario
    kills: tuple[Kill, ...]

    def __str__(self) -> str:
        return f"trial {self.number}, {self.scenario.name}, killed at {', '.join(map(str, self.kills))}"


@dataclass
class Summary:
    """What a series of trials did. ``failures`` is empty when every resumed run equalled a clean one."""

    delivered: int = 0
    by_timer: int = 0
    too_late: int = 0
    points: Counter[str] = field(default_factory=Counter)
    scenarios: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def fault_points() -> list[str]:
    """The names of all fault points in the package."""
    source = Path(ragstack.__file__).parent
    found = [re.findall(r'fault_point\("([^"]+)"\)', path.read_text()) for path in sorted(source.rglob("*.py"))]
    return sorted({name for names in found for name in names})


def write_old(root: Path) -> None:
    """The corpus of an index that is there before the killed runs."""
    rng = random.Random("corpus")
    for number in range(24):
        folder = root / f"part{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"note{number}.txt").write_text(_text(rng, number, rng.randint(1, 9)))
    (root / "long.md").write_text("# Long\n\n" + _text(rng, 99, 60))
    (root / "empty.txt").write_text("")


def write_new(root: Path) -> None:
    """The same corpus after changes: files added, changed, deleted, moved and swapped."""
    write_old(root)
    rng = random.Random("changes")
    for number in (0, 5, 10):
        (root / f"part{number % 4}" / f"note{number}.txt").write_text(_text(rng, number + 100, 4))
    shutil.rmtree(root / "part3")
    (root / "part2").rename(root / "renamed")
    first, second = root / "part1" / "note1.txt", root / "part1" / "note9.txt"
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    (root / "long.md").write_text("# Long\n\n" + _text(rng, 98, 50))
    (root / "added.md").write_text("# Added\n\n" + _text(rng, 97, 12))


def _text(rng: random.Random, number: int, paragraphs: int) -> str:
    parts = [f"Note {number}, part {part}: " + " ".join(rng.choices(_WORDS, k=14)) + "." for part in range(paragraphs)]
    return "\n\n".join(parts) + "\n"


class KillBench:
    """Prepares, kills, resumes and compares, in the folder ``base``; indexing runs in child processes."""

    def __init__(self, base: Path) -> None:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        # Children are forked from a server that has the imports done, so that a run starts in milliseconds.
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload([__name__, "ragstack.adapters.qdrant_edge"])
        self.index = Index(base / "index")
        self.corpus = base / "corpus"
        self._saved = base / "saved"
        self._write(write_old)
        self._run(SMALL_CONFIG)
        self.index.state_dir.rename(self._saved)
        self._seconds: dict[str, float] = {}
        self._clean: dict[str, Any] = {}
        for scenario in SCENARIOS:
            self._clean[scenario.name] = self._clean_content(scenario)
            self._seconds[scenario.name] = self._duration(scenario)

    def trials(self, seed: int) -> Iterator[Trial]:
        """An endless series of trials. The first ones go through the scenarios and the fault points in turn."""
        rng = random.Random(seed)
        names = fault_points()
        rng.shuffle(names)
        number = 0
        while True:
            scenario = SCENARIOS[number % len(SCENARIOS)]
            first = Kill(None, rng.random() * self._seconds[scenario.name])
            if number % 2:
                first = Kill(f"{names[number // 2 % len(names)]}:{rng.choice((1, 1, 1, 3))}", 0.0)
            kills = [first]
            while len(kills) < 4 and rng.random() < 0.4:
                if rng.random() < 0.5:
                    kills.append(Kill(None, rng.random() ** 2 * self._seconds[scenario.name]))
                else:
                    kills.append(Kill(f"{rng.choice(names)}:{rng.choice((1, 1, 2))}", 0.0))
            yield Trial(number, scenario, tuple(kills))
            number += 1

    def run(self, seed: int, kills: int, say: Callable[[str], None]) -> Summary:
        """Run trials until so many kills were delivered."""
        summary = Summary()
        for trial in self.trials(seed):
            if summary.delivered >= kills:
                return summary
            self.run_trial(trial, summary)
            say(f"{trial}: {'FAILED' if summary.failures and summary.failures[-1].startswith(str(trial)) else 'ok'}")
        raise AssertionError("trials are endless")

    def run_trial(self, trial: Trial, summary: Summary) -> None:
        """Run one trial and add to the summary what happened."""
        scenario = trial.scenario
        self._prepare(scenario)
        summary.scenarios[scenario.name] += 1
        for kill in trial.kills:
            code = self._run(scenario.config, rebuild=scenario.rebuild, kill=kill)
            if code == 0:
                summary.too_late += 1
                continue
            if code != -signal.SIGKILL:
                summary.failures.append(f"{trial}: a run ended with {code} before its kill")
                return
            summary.delivered += 1
            if kill.fault is None:
                summary.by_timer += 1
            else:
                summary.points[kill.fault.partition(":")[0]] += 1
        code = self._run(scenario.final_config)
        if code != 0:
            summary.failures.append(f"{trial}: the resumed run ended with {code}")
            return
        content = self._content(scenario.final_config)
        if content != self._clean[scenario.name]:
            differing = [key for key in content if content[key] != self._clean[scenario.name][key]]
            summary.failures.append(f"{trial}: the resumed index differs from a clean one in {', '.join(differing)}")

    def _prepare(self, scenario: Scenario) -> None:
        self._write(write_new)
        shutil.rmtree(self.index.directory)
        if scenario.prepared:
            self.index.directory.mkdir()
            shutil.copytree(self._saved, self.index.state_dir)

    def _write(self, write: Callable[[Path], None]) -> None:
        shutil.rmtree(self.corpus, ignore_errors=True)
        write(self.corpus)

    def _clean_content(self, scenario: Scenario) -> Any:
        self._write(write_new)
        shutil.rmtree(self.index.directory, ignore_errors=True)
        if self._run(scenario.final_config) != 0:
            raise AssertionError("a clean run failed")
        return self._content(scenario.final_config)

    def _duration(self, scenario: Scenario) -> float:
        self._prepare(scenario)
        started = time.monotonic()
        if self._run(scenario.config, rebuild=scenario.rebuild) != 0:
            raise AssertionError("a run that was not killed failed")
        return time.monotonic() - started

    def _content(self, config: dict[str, Any]) -> Any:
        """What the index holds, read in a child: damaged files can end a process. Also that nothing is left over."""
        return self._in_child(_read_content, config)

    def _run(self, config: dict[str, Any], *, rebuild: bool = False, kill: Kill | None = None) -> int:
        """The exit status of a run in a child, negative for a signal."""
        self.index.config = config
        self.index.loaded()
        fault = kill.fault if kill is not None else None
        here, there = self._processes.Pipe()
        child = self._processes.Process(target=_index, args=(there, self.index, self.corpus, rebuild, fault))
        child.start()
        there.close()
        try:
            here.recv()
            if kill is not None and fault is None:
                child.join(kill.after_s)
                child.kill()
            child.join(_TIMEOUT_S)
            if child.exitcode is None:
                child.kill()
                child.join()
                return 124
            return child.exitcode
        finally:
            here.close()
            child.close()

    def _in_child(self, function: Callable[[Connection, Index], None], config: dict[str, Any]) -> Any:
        self.index.config = config
        here, there = self._processes.Pipe()
        child = self._processes.Process(target=function, args=(there, self.index))
        child.start()
        there.close()
        try:
            result = here.recv()
        except EOFError:
            child.join()
            result = {f"reading it ended with {child.exitcode}": True}
        finally:
            child.join()
            here.close()
        return result


def _index(pipe: Connection, index: Index, corpus: Path, rebuild: bool, fault: str | None) -> None:
    if fault is not None:
        os.environ["RAGSTACK_FAULT_POINT"] = fault
    pipe.send("started")
    index.run(corpus, rebuild=rebuild)


def _read_content(pipe: Connection, index: Index) -> None:
    content = index.content()
    store = index.store()
    ledger = Ledger(index.state_dir)
    numbers = [generation.generation for generation in ledger.generations()]
    content["left over"] = [name for name in store.collections() if name != f"gen-{numbers[0]}"] + [
        path.name
        for path in sorted(index.state_dir.glob("tokens-*"))
        if not path.name.startswith(f"tokens-{numbers[0]}.")
    ]
    content["generations"] = len(numbers)
    ledger.close()
    store.close()
    pipe.send(content)
