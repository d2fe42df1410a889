"""What goes wrong with files while they are indexed: nothing is lost, doubled or half indexed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ragstack.errors import IndexLockedError
from ragstack.indexer import prepare
from ragstack.indexer.discovery import FoundFile
from ragstack.indexer.report import SilentProgress
from ragstack.indexer.run import IndexRequest
from ragstack.indexer.run import index as run_index
from tests.integration.harness import SMALL_CONFIG, Index
from tests.integration.killing import write_new

_TIMEOUT_S = 180


def clean_content(tmp_path: Path, corpus: Path, config: dict[str, Any] = SMALL_CONFIG) -> dict[str, Any]:
    """What one undisturbed run over the folder gives."""
    clean = Index(tmp_path / f"clean{random.randrange(10**9)}", config)
    clean.run(corpus)
    return clean.content()


class AtPlan(SilentProgress):
    """Calls a function when files have been found and none has been read."""

    def __init__(self, act: Any) -> None:
        self.act = act

    def planned(self, files: int, size_bytes: int) -> None:
        self.act()


def run_with(idx: Index, corpus: Path, act: Any) -> Any:
    return run_index(idx.loaded(), idx.state_dir, IndexRequest([str(corpus)]), AtPlan(act))


def test_files_that_vanish_between_the_walk_and_the_read(idx: Index, corpus: Path, tmp_path: Path) -> None:
    idx.run(corpus)
    (corpus / "guide.md").write_text("Changed, then deleted.\n")
    (corpus / "new.md").write_text("New, then deleted.\n")

    def vanish() -> None:
        (corpus / "guide.md").unlink()
        (corpus / "new.md").unlink()

    report = run_with(idx, corpus, vanish)
    assert (report.added, report.changed, report.deleted, report.failed) == (0, 0, 1, [])
    assert idx.content() == clean_content(tmp_path, corpus)


def test_files_that_change_between_the_walk_and_the_read(idx: Index, corpus: Path, tmp_path: Path) -> None:
    def change() -> None:
        (corpus / "guide.md").write_text("# Guide\n\nGrown since the walk.\n" * 20)
        (corpus / "tool.py").write_text("")
        (corpus / "notes" / "bom.txt").unlink()
        (corpus / "notes" / "bom.txt").mkdir()

    report = run_with(idx, corpus, change)
    assert [Path(failure.path).name for failure in report.failed] == ["bom.txt"]
    # The next run sees the tree as it is now.
    assert idx.run(corpus).failed == []
    assert idx.content() == clean_content(tmp_path, corpus)


def test_a_file_that_changes_while_it_is_read(
    idx: Index, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each read is followed by a write before the file's times are looked at again, the first two times."""
    left = 2
    fstat = os.fstat

    def write_between(fd: int) -> os.stat_result:
        nonlocal left
        info = fstat(fd)
        if left and info.st_size == (corpus / "guide.md").stat().st_size:
            left -= 1
            with (corpus / "guide.md").open("a") as file:
                file.write("One more line.\n")
        return info

    monkeypatch.setattr(prepare.os, "fstat", write_between)
    report = idx.run(corpus)
    monkeypatch.undo()
    assert report.failed == []
    assert left == 0
    assert idx.content() == clean_content(tmp_path, corpus)


def test_a_file_that_never_rests(idx: Index, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idx.run(corpus)
    before = idx.content()
    (corpus / "guide.md").write_text("A log that is being written.\n")
    fstat = os.fstat
    lines = 0

    def write_always(fd: int) -> os.stat_result:
        nonlocal lines
        info = fstat(fd)
        if info.st_ino == (corpus / "guide.md").stat().st_ino:
            lines += 1
            with (corpus / "guide.md").open("a") as file:
                file.write(f"Line {lines}.\n")
        return info

    monkeypatch.setattr(prepare.os, "fstat", write_always)
    report = idx.run(corpus)
    monkeypatch.undo()
    assert report.exit_status == 3
    assert "changes while it is read" in report.failed[0].reason
    assert idx.content() == before, "the last good version is kept"


def test_writers_beside_the_indexer(idx: Index, tmp_path: Path) -> None:
    """Files are written, moved and deleted all the while; whatever was seen, the next quiet run makes it right."""
    corpus = tmp_path / "corpus"
    write_new(corpus)
    stopped = threading.Event()

    def disturb() -> None:
        rng = random.Random(7)
        while not stopped.is_set():
            path = corpus / f"part0/w{rng.randint(0, 9)}.txt"
            action = rng.random()
            if action < 0.6 or not path.exists():
                path.write_text(f"Text {rng.random()}.\n" * rng.randint(1, 40))
            elif action < 0.8:
                path.unlink()
            else:
                path.rename(corpus / f"part0/w{rng.randint(0, 9)}.txt")

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(3):
            assert idx.run(corpus).exit_status in (0, 3)
    finally:
        stopped.set()
        thread.join()
    assert idx.run(corpus).exit_status == 0
    assert idx.content() == clean_content(tmp_path, corpus)


def test_unreadable_files_and_folders(
    idx: Index, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idx.run(corpus)
    before = idx.content()
    (corpus / "guide.md").write_text("Cannot be read.\n")
    if os.geteuid():
        (corpus / "guide.md").chmod(0)
    else:
        # Root may read everything, so the refusal is played.
        read = prepare.read_file

        def refuse(path: Path) -> Any:
            if Path(path).name == "guide.md":
                raise PermissionError(13, "Permission denied")
            return read(path)

        monkeypatch.setattr(prepare, "read_file", refuse)
    report = idx.run(corpus)
    assert report.exit_status == 3
    assert [(Path(f.path).name, f.reason) for f in report.failed] == [("guide.md", "Permission denied")]
    assert idx.content() == before
    monkeypatch.undo()
    (corpus / "guide.md").chmod(0o644)
    assert idx.run(corpus).changed == 1
    assert idx.content() == clean_content(tmp_path, corpus)


def test_symlink_loops_end(idx: Index, corpus: Path) -> None:
    (corpus / "notes" / "up").symlink_to(corpus, target_is_directory=True)
    (corpus / "self").symlink_to(corpus / "self")
    (corpus / "one").symlink_to(corpus / "two")
    (corpus / "two").symlink_to(corpus / "one")
    (corpus / "alias.md").symlink_to(corpus / "guide.md")
    report = idx.run(corpus)
    assert report.added == 11
    assert report.failed == []
    follows = Index(idx.directory.parent / "follows", {**SMALL_CONFIG, "sources": {"follow_symlinks": True}})
    report = follows.run(corpus)
    assert report.added == 12, "a link to a file is a source; a folder is entered once"


def test_names_that_are_not_utf8(idx: Index, corpus: Path) -> None:
    folder = os.fsencode(corpus) + b"/d\xe9p\xf4t"
    try:
        os.mkdir(folder)  # noqa: PTH102 - a name of bytes
    except OSError:
        pytest.xfail("this file system takes only UTF-8 names")
    with open(folder + b"/\xff\xfe.md", "wb") as file:  # noqa: PTH123
        file.write(b"A note on pumps whose name is no text.\n")
    with open(folder + b"/new\nline.md", "wb") as file:  # noqa: PTH123
        file.write(b"A note on pumps whose name has two lines.\n")
    assert idx.run(corpus).added == 13
    assert idx.run(corpus).unchanged == 13
    chain = idx.query("whose name is no text")
    assert any("no text" in passage.place.text for passage in chain.passages)
    os.unlink(folder + b"/\xff\xfe.md")  # noqa: PTH108
    assert idx.run(corpus).deleted == 1


@pytest.mark.parametrize("shift_s", [-3 * 365 * 86_400, 3 * 365 * 86_400])
def test_clock_that_jumps(shift_s: int, idx: Index, corpus: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Indexed while the clock was years off; then it was set right, and files changed without a new size."""
    now = time.time_ns
    with monkeypatch.context() as patch:
        patch.setattr(prepare.time, "time_ns", lambda: now() + shift_s * 10**9)
        idx.run(corpus)
    text = (corpus / "guide.md").read_bytes()
    (corpus / "guide.md").write_bytes(text.replace(b"oil", b"tar"))
    idx.run(corpus)
    assert idx.content() == clean_content(tmp_path, corpus)


@pytest.mark.parametrize("stamp", [0, 2**33, 4_102_444_800])
def test_modification_times_of_the_far_past_and_future(stamp: int, idx: Index, corpus: Path, tmp_path: Path) -> None:
    for path in corpus.rglob("*.txt"):
        os.utime(path, (stamp, stamp))
    idx.run(corpus)
    path = corpus / "notes" / "log1.txt"
    path.write_bytes(path.read_bytes().replace(b"pressure", b"moisture"))
    os.utime(path, (stamp, stamp))
    idx.run(corpus)
    assert idx.content() == clean_content(tmp_path, corpus)


def test_another_order_of_files(idx: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tree, found in another order and in other commit groups, is the same index."""
    from ragstack.indexer import run

    corpus = tmp_path / "corpus"
    write_new(corpus)
    ids = clean_content(tmp_path, corpus)
    prepared_ahead = run.prepared_ahead

    def shuffled(prepare_one: Any, files: list[FoundFile], interruption: Any) -> Any:
        random.Random(3).shuffle(files)
        return prepared_ahead(prepare_one, files, interruption)

    monkeypatch.setattr(run, "prepared_ahead", shuffled)
    idx.config = {**SMALL_CONFIG, "indexer": {**SMALL_CONFIG["indexer"], "group_chunks": 17}}
    idx.run(corpus)
    assert idx.content() == ids


def test_two_writers_at_once(idx: Index, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_new(corpus)
    idx.loaded()
    command = [sys.executable, "-m", "ragstack", "index", "-c", str(idx.config_file), str(corpus)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(process.communicate(timeout=_TIMEOUT_S)[1], process.returncode) for process in both]
    codes = sorted(code for _, code in ended)
    assert codes in ([0, 0], [0, 2]), ended
    for errors, code in ended:
        if code:
            assert "is held by process" in errors
            assert any(str(process.pid) in errors for process in both), "the holder is named"
    assert idx.content() == clean_content(tmp_path, corpus)


def test_the_second_writer_is_refused_while_the_first_works(idx: Index, corpus: Path) -> None:
    refused: list[str] = []

    def try_too() -> None:
        with pytest.raises(IndexLockedError) as caught:
            idx.run(corpus)
        refused.append(caught.value.message)

    run_with(idx, corpus, try_too)
    assert f"process {os.getpid()}" in refused[0]


def test_many_small_files(idx: Index, tmp_path: Path) -> None:
    idx.config = {**SMALL_CONFIG, "indexer": {**SMALL_CONFIG["indexer"], "group_chunks": 500}}
    corpus = tmp_path / "corpus"
    for number in range(1500):
        folder = corpus / str(number % 20)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_text(f"Note {number} about valves.\n")
    report = idx.run(corpus)
    assert (report.added, report.chunk_count) == (1500, 1500)
    assert idx.run(corpus).unchanged == 1500


def test_one_large_file(idx: Index, tmp_path: Path) -> None:
    """A file of many groups is published whole; a line appended to it costs few chunks."""
    idx.config = {
        **SMALL_CONFIG,
        "chunker": {"type": "recursive", "max_tokens": 120},
        "indexer": {**SMALL_CONFIG["indexer"], "group_chunks": 256},
    }
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    path = corpus / "long.txt"
    path.write_text("".join(f"Paragraph {i}: the pump of hall {i % 97} holds {i * i} bar.\n\n" for i in range(12_000)))
    report = idx.run(corpus)
    assert report.chunk_count > 900
    with path.open("a") as file:
        file.write("One more line at the end.\n")
    again = idx.run(corpus)
    assert again.changed == 1
    assert again.tokens_embedded < report.tokens_embedded / 100
