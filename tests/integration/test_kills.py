"""SIGKILL at every step between two durable writes; the resumed run gives what one clean run gives."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.integration.harness import Index

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a signal of POSIX systems")

FIRST_RUN = [
    "opened",
    "staged",
    "staged-tokens:2",
    "archived",
    "flushed:2",
    "published:2",
    "purged-chunks",
    "purged",
    "collected",
]
UPDATE = ["staged", "staged-tokens", "archived", "flushed", "published", "purged-chunks", "purged", "collected"]


def change(corpus: Path) -> None:
    (corpus / "guide.md").write_text("# Guide\n\nThe pump is primed with water now.\n")
    (corpus / "notes" / "log3.txt").unlink()
    (corpus / "added.md").write_text("# Added\n\nA note that came later.\n")


@pytest.fixture(scope="module")
def clean_contents(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object, object]:
    """A corpus, what a clean run of it gives, and what a clean run after the change gives."""
    from tests.integration.harness import write_corpus

    base = tmp_path_factory.mktemp("clean")
    corpus = base / "corpus"
    write_corpus(corpus)
    first = Index(base / "first")
    first.run(corpus)
    before = first.content()
    changed = base / "changed" / "corpus"
    shutil.copytree(corpus, changed)
    change(changed)
    second = Index(base / "second")
    second.run(changed)
    return corpus, before, second.content()


@pytest.mark.parametrize("fault", FIRST_RUN)
def test_killed_in_the_first_run(
    fault: str, idx: Index, tmp_path: Path, clean_contents: tuple[Path, object, object]
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(clean_contents[0], corpus)
    assert idx.run_in_child(corpus, fault=fault) == -9
    chain = idx.query("How is the pump primed?")
    assert len({c.source_id for c in chain.candidates}) <= 11, "what was published before the kill may be asked"
    idx.run(corpus)
    assert idx.content() == clean_contents[1]


@pytest.mark.parametrize("fault", UPDATE)
def test_killed_in_an_update(
    fault: str, idx: Index, tmp_path: Path, clean_contents: tuple[Path, object, object]
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(clean_contents[0], corpus)
    idx.run(corpus)
    change(corpus)
    assert idx.run_in_child(corpus, fault=fault) == -9
    # What is visible between the kill and the next run is each source's old version whole or its new one whole.
    chain = idx.query("How is the pump primed? oil water")
    versions = {c.source_version for c in chain.candidates if c.source_id == "corpus/guide.md"}
    assert len(versions) == 1
    report = idx.run(corpus)
    assert report.recovered
    assert idx.content() == clean_contents[2]


def test_killed_twice_and_during_recovery(
    idx: Index, tmp_path: Path, clean_contents: tuple[Path, object, object]
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(clean_contents[0], corpus)
    idx.run(corpus)
    change(corpus)
    assert idx.run_in_child(corpus, fault="flushed") == -9
    assert idx.run_in_child(corpus, fault="recovered") == -9
    assert idx.run_in_child(corpus, fault="published") == -9
    idx.run(corpus)
    assert idx.content() == clean_contents[2]
