"""Pins across processes: a writer waits for readers of older snapshots, and for no others."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ragstack.ledger.file_pins import FilePins
from ragstack.ledger.pins import Pins, SnapshotPins
from ragstack.ledger.snapshot import Snapshot, TermLengths


def snapshot(generation: int, seq: int, *, group_open: bool = False) -> Snapshot:
    return Snapshot(generation, "f", {}, seq, group_open, 0, frozenset(), TermLengths(0.0, 0), frozenset())


@pytest.fixture(params=["files", "process"])
def any_pins(request: pytest.FixtureRequest, tmp_path: Path) -> Pins:
    return FilePins(tmp_path / "pins") if request.param == "files" else SnapshotPins()


def test_unfiltered_readers_are_waited_for_before_anything_is_staged(any_pins: Pins) -> None:
    assert any_pins.wait_for_unfiltered(1, 0)
    with any_pins.reading() as hold:
        assert not any_pins.wait_for_unfiltered(1, 0.1), "it may have read the ledger just before"
        hold(snapshot(1, 4))
        assert not any_pins.wait_for_unfiltered(1, 0.1)
        assert any_pins.wait_for_unfiltered(2, 0), "another generation is another collection"
        with any_pins.reading() as later:
            later(snapshot(1, 4, group_open=True))
            assert not any_pins.wait_for_unfiltered(1, 0.1)
    with any_pins.reading() as hold:
        hold(snapshot(1, 4, group_open=True))
        assert any_pins.wait_for_unfiltered(1, 0)


def test_older_snapshots_are_waited_for(tmp_path: Path) -> None:
    pins, writer = FilePins(tmp_path / "pins"), FilePins(tmp_path / "pins")
    assert writer.wait_for_readers(1, 5, 0)
    with pins.reading() as hold:
        assert not writer.wait_for_readers(1, 5, 0.1), "what it will read is not known yet"
        hold(snapshot(1, 4))
        assert not writer.wait_for_readers(1, 5, 0.1)
        assert not writer.wait_for_readers(2, 0, 0.1)
        assert writer.wait_for_readers(1, 4, 0)
    assert writer.wait_for_readers(1, 5, 0)
    assert list((tmp_path / "pins").iterdir()) == []


def test_readers_that_begin_later_are_not_waited_for(tmp_path: Path) -> None:
    pins = FilePins(tmp_path / "pins")
    first = pins.reading()
    hold = first.__enter__()
    done = threading.Event()
    writer = threading.Thread(target=lambda: (pins.wait_for_readers(1, 5, 30), done.set()))
    writer.start()
    time.sleep(0.2)
    with pins.reading() as later:
        hold(snapshot(1, 5))
        assert done.wait(10), "the later reader holds it up"
        later(snapshot(1, 5))
    first.__exit__(None, None, None)
    writer.join()


def test_a_reader_of_another_process_and_its_death(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom ragstack.ledger.file_pins import FilePins\n"
        "with FilePins(Path(sys.argv[1])).reading():\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    folder = tmp_path / "pins"
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    pins = FilePins(folder)
    assert not pins.wait_for_readers(1, 1, 0.1)
    child.kill()
    child.wait()
    child.stdout.close()
    assert pins.wait_for_readers(1, 1, 5)
