"""What each system is asked to do, and what it reports: one process a system, JSON in and out.

Imports nothing but the standard library, for it runs in the virtual environment of every system.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DEPTH = 100
"""Chunks asked of each leg, and of the fused list: enough for ten different files."""
FILES = 10
_WARM_UP = 3


@dataclass(frozen=True)
class Task:
    """A folder of text files, the questions by id, where the model lies, and where the report goes."""

    corpus: str
    questions: dict[str, str]
    weights: str
    vocabulary: str
    report: str
    workspace: str


@dataclass
class Report:
    """What a system did. Rankings hold file names, best first, each once; times are those of this process."""

    version: str
    index_s: float
    index_cpu_s: float
    chunks: int
    tokens_given: int
    tokens_read: int
    query_ms: list[float]
    query_cpu_ms: float
    rankings: dict[str, list[str]]


@dataclass(frozen=True)
class Indexed:
    """An index that can be asked. ``search`` gives file names, best first, repeated as often as chunks are found."""

    version: str
    chunks: int
    tokens_given: int
    tokens_read: int
    search: Callable[[str], Iterable[str]]


def run(build: Callable[[Task], Indexed]) -> None:
    """Index and ask as the task (the first argument, a file) says; write the report."""
    task = Task(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    started, cpu = time.perf_counter(), time.process_time()
    index = build(task)
    index_s, index_cpu_s = time.perf_counter() - started, time.process_time() - cpu
    for question in list(task.questions.values())[:_WARM_UP]:
        list(index.search(question))
    times, rankings = [], {}
    cpu = time.process_time()
    for identity, question in task.questions.items():
        begun = time.perf_counter()
        found = list(index.search(question))
        times.append((time.perf_counter() - begun) * 1e3)
        rankings[identity] = list(dict.fromkeys(Path(name).name for name in found))[:FILES]
    query_cpu_ms = (time.process_time() - cpu) * 1e3 / max(len(task.questions), 1)
    report = Report(
        index.version, index_s, index_cpu_s, index.chunks, index.tokens_given, index.tokens_read, times, query_cpu_ms,
        rankings,
    )  # fmt: skip
    Path(task.report).write_text(json.dumps(asdict(report)), encoding="utf-8")


def write_task(task: Task, path: Path) -> None:
    """Write a task where :func:`run` reads it."""
    path.write_text(json.dumps(asdict(task)), encoding="utf-8")


def read_report(path: Path) -> Report:
    """The report that :func:`run` wrote."""
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Report(**read)
