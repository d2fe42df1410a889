"""Watching: real files, real notifications; whatever is done to the folders, the index ends as a clean run's."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ragstack.errors import IndexLockedError, InputError, InterruptedRunError, RagstackError
from ragstack.indexer.changes import WatchPace
from ragstack.indexer.interruption import Interruption
from ragstack.indexer.report import IndexReport, SilentProgress
from ragstack.indexer.run import IndexRequest
from ragstack.indexer.watch import WatchTotals, watch
from ragstack.ledger.schema import LOCK_FILE
from ragstack.ledger.writer import Ledger
from ragstack.process_lock import hold_lock
from tests.integration.harness import Index

_TIMEOUT_S = 120
PACE = WatchPace(quiet_s=0.1, longest_s=1.0, tick_s=0.2, retry_s=0.2, longest_retry_s=0.5)


class Notes(SilentProgress):
    """Keeps what the user is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def note(self, message: str) -> None:
        self.messages.append(message)


class Watching:
    """A watch in a thread of its own, and what it said."""

    def __init__(self, idx: Index, *targets: Path, prune: bool = False) -> None:
        self.idx = idx
        self.interruption = Interruption()
        self.reports: queue.Queue[IndexReport] = queue.Queue()
        self.runs: list[IndexReport] = []
        self.errors: list[RagstackError] = []
        self.notes = Notes()
        self.totals: WatchTotals | None = None
        self.raised: BaseException | None = None
        self._request = IndexRequest([str(path) for path in targets], prune=prune)
        self._loaded = idx.loaded()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        self.next_report()

    def _watch(self) -> None:
        try:
            self.totals = watch(
                self._loaded,
                self.idx.state_dir,
                self._request,
                self.interruption,
                self.reports.put,
                self.errors.append,
                progress=self.notes,
                pace=PACE,
            )
        except BaseException as error:
            self.raised = error

    def next_report(self) -> IndexReport:
        for _ in range(_TIMEOUT_S * 10):
            try:
                report = self.reports.get(timeout=0.1)
            except queue.Empty:
                if self.raised is not None:
                    raise self.raised from None
                continue
            self.runs.append(report)
            return report
        raise AssertionError("no run came")

    def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(_TIMEOUT_S * 10):
            if holds():
                return
            if self.raised is not None:
                raise self.raised
            time.sleep(0.1)
        raise AssertionError(f"it never held; {len(self.runs)} runs, errors {self.errors}, index {self.sources()}")

    def sources(self) -> dict[str, int]:
        """Size in bytes of each source in the index."""
        ledger = Ledger(self.idx.state_dir)
        active = next((g.generation for g in ledger.generations() if g.state == "active"), 0)
        found = {row.source_id: row.stat.size_bytes for row in ledger.sources(active).values()}
        ledger.close()
        return found

    def until_sources_are(self, expected: dict[str, int]) -> None:
        self.until(lambda: self.sources() == expected)

    def until_like(self, *roots: Path) -> None:
        """Wait until the index holds what is in these folders, save hidden files."""
        self.until_sources_are(
            {
                f"{root.name}/{path.relative_to(root)}": path.stat().st_size
                for root in roots
                for path in root.rglob("*")
                if path.is_file() and not path.name.startswith(".")
            }
        )

    def stop(self) -> WatchTotals:
        self.interruption.request()
        self._thread.join(_TIMEOUT_S)
        assert not self._thread.is_alive()
        if isinstance(self.raised, InterruptedRunError):
            # Stopped in the middle of a run, perhaps one that had nothing left to do.
            return WatchTotals()
        if self.raised is not None:
            raise self.raised
        assert self.totals is not None
        return self.totals

    def until_idle(self) -> None:
        """Wait until nothing has been indexed for a second and nothing is being indexed."""
        quiet = 0
        for _ in range(_TIMEOUT_S * 10):
            try:
                with hold_lock(self.idx.state_dir / LOCK_FILE, 0, "the index"):
                    quiet += 1
            except IndexLockedError:
                quiet = 0
            if quiet > 10:
                return
            time.sleep(0.1)
        raise AssertionError("it is never idle")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    for name in ("a.md", "sub/b.md", "sub/deep/c.md", "other/d.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n\nA note on pumps in {name}.\n")
    return root


@pytest.fixture
def watching(idx: Index, docs: Path) -> Iterator[Watching]:
    watching = Watching(idx, docs)
    try:
        yield watching
    finally:
        if watching.totals is None and watching.raised is None:
            watching.stop()


def assert_clean(watching: Watching, docs: Path, tmp_path: Path) -> None:
    """The index equals one made by a single run."""
    watching.until_idle()
    watching.stop()
    clean = Index(tmp_path / "clean")
    clean.run(docs)
    assert watching.idx.content() == clean.content()


def test_files_added_changed_deleted_and_renamed(watching: Watching, docs: Path, tmp_path: Path) -> None:
    assert watching.runs[0].added == 4
    (docs / "new.md").write_text("A new note.\n")
    watching.until_like(docs)
    (docs / "a.md").write_text("Another text, about valves and gaskets.\n")
    watching.until_like(docs)
    (docs / "sub" / "b.md").unlink()
    watching.until_like(docs)
    (docs / "new.md").rename(docs / "sub" / "renamed.md")
    watching.until_like(docs)
    assert_clean(watching, docs, tmp_path)


def test_folders_made_renamed_replaced_and_deleted(watching: Watching, docs: Path, tmp_path: Path) -> None:
    (docs / "made" / "deep").mkdir(parents=True)
    (docs / "made" / "deep" / "e.md").write_text("A note in a new folder.\n")
    watching.until_like(docs)
    (docs / "made").rename(docs / "moved")
    watching.until_like(docs)
    (docs / "moved" / "deep" / "e.md").write_text("Changed in a folder that was renamed.\n")
    watching.until_like(docs)
    shutil.rmtree(docs / "sub")
    (docs / "sub").write_text("A file where a folder was.\n")
    watching.until_like(docs)
    (docs / "sub").unlink()
    (docs / "sub").mkdir()
    (docs / "sub" / "again.md").write_text("A folder again.\n")
    watching.until_like(docs)
    shutil.rmtree(docs / "other")
    watching.until_like(docs)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f.md").write_text("Moved in with its folder.\n")
    outside.rename(docs / "inside")
    watching.until_like(docs)
    assert_clean(watching, docs, tmp_path)


def test_a_run_looks_only_at_what_changed(watching: Watching, docs: Path) -> None:
    (docs / "sub" / "deep" / "c.md").write_text("Changed.\n")
    report = watching.next_report()
    assert (report.changed, report.unchanged) == (1, 0)
    (docs / "sub" / "deep").rename(docs / "sub" / "deeper")
    watching.until_like(docs)


def test_editors_that_write_a_temporary_file_and_rename_it(watching: Watching, docs: Path, tmp_path: Path) -> None:
    for text in ("First version.\n", "Second version, longer.\n", "Third version, the longest of them.\n"):
        temporary = docs / ".a.md.swp"
        temporary.write_text(text)
        (docs / "a.md").replace(docs / "a.md~")
        temporary.rename(docs / "a.md")
        (docs / "a.md~").unlink()
        watching.until_like(docs)
    assert_clean(watching, docs, tmp_path)


def test_gitignore_that_comes_and_goes(watching: Watching, docs: Path) -> None:
    everything = watching.sources()
    (docs / ".gitignore").write_text("deep/\nd.md\n")
    watching.until_sources_are({name: everything[name] for name in ("docs/a.md", "docs/sub/b.md")})
    # A change of an ignored file does not bring it back, though the notification names it.
    (docs / "other" / "d.md").write_text("Ignored, and changed.\n")
    (docs / "a.md").write_text("Not ignored, and changed.\n")
    watching.until(lambda: watching.sources()["docs/a.md"] == (docs / "a.md").stat().st_size)
    assert "docs/other/d.md" not in watching.sources()
    (docs / ".gitignore").unlink()
    watching.until_like(docs)


def test_root_that_vanishes_for_a_while(watching: Watching, docs: Path, tmp_path: Path) -> None:
    before = watching.sources()
    away = docs.rename(tmp_path / "away")
    watching.until(lambda: any("is gone" in message for message in watching.notes.messages))
    (away / "a.md").write_text("Changed while it was away.\n")
    assert watching.sources() == before, "nothing is deleted"
    away.rename(docs)
    watching.until_like(docs)
    (docs / "a.md").write_text("Changed after it came back: followed again.\n")
    watching.until_like(docs)
    assert len(watching.notes.messages) == 1
    assert_clean(watching, docs, tmp_path)


def test_root_that_is_replaced_by_another_folder(watching: Watching, docs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(docs, other)
    (other / "a.md").write_text("From the other folder.\n")
    docs.rename(tmp_path / "old")
    other.rename(docs)
    watching.until_like(docs)
    (docs / "sub" / "b.md").write_text("Changed in the folder that took its place.\n")
    watching.until_like(docs)
    assert_clean(watching, docs, tmp_path)


def test_emptied_root_is_an_error_that_ends_when_files_are_back(watching: Watching, docs: Path) -> None:
    before = watching.sources()
    saved = docs.parent / "saved"
    shutil.copytree(docs, saved)
    for path in list(docs.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    watching.until(lambda: bool(watching.errors))
    assert "nothing was deleted" in watching.errors[-1].message
    assert set(watching.sources()) <= set(before)
    assert watching.sources()
    for path in saved.iterdir():
        path.rename(docs / path.name)
    watching.until_like(docs)


def test_one_root_in_trouble_does_not_hold_up_the_other(idx: Index, docs: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    (second / "x.md").write_text("In the second root.\n")
    watching = Watching(idx, docs, second)
    try:
        (second / "x.md").unlink()
        watching.until(lambda: bool(watching.errors))
        (docs / "a.md").write_text("Changed while the other root is empty.\n")
        watching.until(lambda: watching.sources()["docs/a.md"] == (docs / "a.md").stat().st_size)
        assert "second/x.md" in watching.sources()
        (second / "y.md").write_text("Another file in the second root.\n")
        watching.until_like(docs, second)
    finally:
        watching.stop()


def test_changes_during_a_run_are_not_missed(idx: Index, docs: Path, tmp_path: Path) -> None:
    watching = Watching(idx, docs)
    for number in range(60):
        (docs / "sub" / f"n{number % 12}.md").write_text(f"Version {number}.\n" * (number + 1))
        time.sleep(0.02)
    watching.until_like(docs)
    assert len(watching.runs) + watching.reports.qsize() > 1
    assert_clean(watching, docs, tmp_path)


def test_many_changes_at_once(watching: Watching, docs: Path, tmp_path: Path) -> None:
    for number in range(300):
        folder = docs / f"many{number % 7}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text(f"Note {number}.\n")
    watching.until_like(docs)
    for number in range(7):
        shutil.rmtree(docs / f"many{number}")
    watching.until_like(docs)
    assert_clean(watching, docs, tmp_path)


def test_a_single_file(idx: Index, docs: Path) -> None:
    watching = Watching(idx, docs / "a.md")
    try:
        (docs / "beside.md").write_text("Not asked for.\n")
        (docs / "temporary").write_text("Replaced by renaming.\n")
        (docs / "temporary").rename(docs / "a.md")
        watching.until_sources_are({"docs/a.md": (docs / "a.md").stat().st_size})
        (docs / "a.md").unlink()
        watching.until(lambda: bool(watching.notes.messages))
        assert "docs/a.md" in watching.sources()
        (docs / "a.md").write_text("It is back, with other text.\n")
        watching.until_sources_are({"docs/a.md": (docs / "a.md").stat().st_size})
    finally:
        watching.stop()


def test_names_that_are_not_utf8(watching: Watching, docs: Path, tmp_path: Path) -> None:
    name = os.fsencode(docs) + b"/sub/caf\xe9.md"
    try:
        with open(name, "wb") as file:  # noqa: PTH123 - a name of bytes
            file.write(b"A note in a file with an old name.\n")
    except OSError:
        pytest.xfail("this file system takes only UTF-8 names")
    watching.until(lambda: len(watching.sources()) == 5)
    with open(name, "ab") as file:  # noqa: PTH123
        file.write(b"One more line.\n")
    watching.until(lambda: 50 in watching.sources().values())
    assert_clean(watching, docs, tmp_path)


def test_other_commands_run_meanwhile(watching: Watching, docs: Path) -> None:
    assert watching.idx.query("pumps").candidates
    with hold_lock(watching.idx.state_dir / LOCK_FILE, 0, "the index"):
        (docs / "a.md").write_text("Changed while another process writes.\n")
        watching.until(lambda: bool(watching.errors))
        assert isinstance(watching.errors[0], IndexLockedError)
    watching.until_like(docs)
    assert len(watching.errors) == 1, "the same error is told once"
    watching.until_idle()
    totals = watching.stop()
    assert totals.failed_runs >= 1
    assert totals.added == 4
    assert totals.changed >= 1
    assert totals.chunk_count == watching.idx.run(docs).chunk_count


def test_mistakes_end_it_at_once(idx: Index, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        Watching(idx, tmp_path / "nowhere")
    with pytest.raises(InputError, match="nothing to index"):
        Watching(idx)


@pytest.mark.skipif(os.name == "nt", reason="signals are sent the way of POSIX systems")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command(number: signal.Signals, idx: Index, docs: Path) -> None:
    idx.loaded()
    log = docs / "log.jsonl"
    command = [sys.executable, "-m", "ragstack", "index", "--watch", "--json", "-c", str(idx.config_file), str(docs)]

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines()]

    # Its own output lies in the folder that it follows: that must not keep it busy for ever.
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True)
        for wanted, change in ((1, "Changed.\n"), (2, "")):
            for _ in range(_TIMEOUT_S * 10):
                if len(lines()) >= wanted or process.poll() is not None:
                    break
                time.sleep(0.1)
            if change:
                (docs / "a.md").write_text(change)
        time.sleep(1.5)
        assert len(lines()) == 2
        process.send_signal(number)
        errors = process.communicate(timeout=_TIMEOUT_S)[1]
    assert process.returncode == 0, errors
    assert errors == ""
    assert lines()[0]["added"] == 4
    assert lines()[1]["changed"] == 1
