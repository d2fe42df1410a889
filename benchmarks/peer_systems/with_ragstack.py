"""ragstack as it comes: the default config, its store on disk. Only refusals are off: the others refuse nothing."""

from __future__ import annotations

import atexit
from collections.abc import Iterable
from pathlib import Path

from task import Indexed, Task, run

import ragstack

_PASSAGES = 20
"""Passages asked for: ten files are scored, and several passages may be of one."""


def build(task: Task) -> Indexed:
    """Index the files, and give what asks."""
    config = {"retrieval": {"min_relevance": 0.0}}
    pipeline = ragstack.open(config, state_dir=Path(task.workspace) / "state")
    atexit.register(pipeline.close)
    report = pipeline.index(task.corpus)
    if report.failed:
        raise SystemExit(f"{len(report.failed)} files failed: {report.failed[0]}")

    def search(text: str) -> Iterable[str]:
        return [
            passage.place.source_id for passage in pipeline.query(text, top_n=_PASSAGES, with_answer=False).passages
        ]

    # A text longer than the model reads is an error of the index path: nothing is cut.
    tokens = report.tokens_embedded
    return Indexed(f"ragstack {ragstack.__version__}", report.chunk_count, tokens, tokens, search)


if __name__ == "__main__":
    run(build)
