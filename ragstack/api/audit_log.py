"""An append-only file whose every line is tied to the one before by a hash.

Each line is one JSON object. Its ``hash`` is the SHA-256 of the rest of it, ``prev`` is the hash of the line before:
a line that is changed, taken out, put in or moved breaks the chain at that place. Lines taken from the end, or whole
files, show by ``head.json``, which names the first and the last line that there must be. Who can write all of these
files can forge all of them; note ``head`` elsewhere now and then (``ragstack audit verify`` prints it), and what came
before cannot be changed unseen.

A line is on the disk before :meth:`AuditLog.append` returns. A line that a crash cut off was acknowledged to nobody;
it is taken off when the log is opened, and a line of kind ``recovered`` says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from ragstack.errors import IndexFormatError, StoreError
from ragstack.process_lock import hold_lock
from ragstack.types import canonical_json

GENESIS = "0" * 64
HEAD_FILE = "head.json"
_LOCK_FILE = "lock"
_LOCK_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Head:
    """What must be there: the last line, and before which line older files were deleted on purpose.

    ``first_seq`` is the number of the oldest line kept, ``first_prev`` the hash of the line before it.
    """

    seq: int = 0
    hash: str = GENESIS
    first_seq: int = 1
    first_prev: str = GENESIS


@dataclass(frozen=True)
class AuditFinding:
    """What is wrong at a place of the log. ``line`` is 1-based; 0 where the log as a whole is meant."""

    file: str
    line: int
    problem: str


class AuditLog:
    """The log in ``folder``. Safe to use from several threads, and from several processes at a time."""

    def __init__(self, folder: Path, rotate_bytes: int, keep_files: int | None) -> None:
        """``rotate_bytes`` ends a file; ``keep_files`` (None: all) are kept. Raises StoreError if it can't be used."""
        self._folder = folder
        self._rotate_bytes = rotate_bytes
        self._keep_files = keep_files
        self._guard = threading.Lock()
        self._head = Head()
        self._seen: tuple[int, int] | None = None
        with self._writing():
            self._catch_up()

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one entry (JSON values; ``seq``, ``time``, ``prev`` and ``hash`` are added) and sync it to the disk."""
        with self._writing():
            self._catch_up()
            self._append(entry)

    def _append(self, entry: Mapping[str, Any]) -> None:
        path = self._current()
        if path is None or path.stat().st_size >= self._rotate_bytes:
            path = self._folder / f"audit-{self._head.seq + 1:012d}.jsonl"
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"seq": self._head.seq + 1, "time": now, **entry, "prev": self._head.hash}
        line["hash"] = line_hash(line)
        data = canonical_json(line).encode("utf-8", "backslashreplace") + b"\n"
        is_new = not path.exists()
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(fd).st_size
            try:
                _write_all(fd, data)
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, size)  # half a line would look like an edit
                raise
            self._seen = (os.fstat(fd).st_ino, size + len(data))
        finally:
            os.close(fd)
        self._head = Head(line["seq"], line["hash"], self._head.first_seq, self._head.first_prev)
        if is_new:
            self._drop_oldest()
        self._write_head()

    def _catch_up(self) -> None:
        """Take over what another process wrote since, and take off a line that was cut off by a crash."""
        path = self._current()
        if path is None:
            self._head = _read_head(self._folder) or Head()
            return
        info = path.stat()
        if self._seen == (info.st_ino, info.st_size):
            return
        noted = _read_head(self._folder) or Head()
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(path, len(whole))
        if whole:
            try:
                last = _parsed(whole[whole.rfind(b"\n", 0, -1) + 1 :])
            except ValueError as error:
                raise _damaged(path) from error
            if last["seq"] >= noted.seq:
                noted = Head(last["seq"], last["hash"], noted.first_seq, noted.first_prev)
        # A log that is shorter than its head goes on from the head, so that the gap stays to be seen.
        self._head, self._seen = noted, (info.st_ino, len(whole))
        if len(whole) < len(data):
            self._append({"kind": "recovered", "bytes_dropped": len(data) - len(whole)})

    def _drop_oldest(self) -> None:
        files = log_files(self._folder)
        if self._keep_files is None or len(files) <= self._keep_files:
            return
        dropped, kept = files[: -self._keep_files], files[-self._keep_files :]
        with kept[0].open("rb") as file:
            first = _parsed(file.readline())
        self._head = Head(self._head.seq, self._head.hash, first["seq"], first["prev"])
        self._write_head()  # before they go: afterwards their absence would look like a theft
        for path in dropped:
            path.unlink()

    def _write_head(self) -> None:
        head = self._head
        content = {"seq": head.seq, "hash": head.hash, "first_seq": head.first_seq, "first_prev": head.first_prev}
        temporary = self._folder / f"{HEAD_FILE}.new"
        temporary.write_text(canonical_json(content))
        temporary.replace(self._folder / HEAD_FILE)

    def _current(self) -> Path | None:
        files = log_files(self._folder)
        return files[-1] if files else None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._guard, _translated(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with hold_lock(self._folder / _LOCK_FILE, _LOCK_TIMEOUT_S, f"the audit log in {self._folder}"):
                yield


def verify_audit_log(folder: Path, expected_head: str | None = None) -> tuple[Head, list[AuditFinding]]:
    """Read the whole log: its head as found, and what is wrong with it, in order; nothing when it is whole.

    ``expected_head`` is a hash noted at an earlier time: some line of the log must have it. Raises StoreError where
    the folder cannot be read.
    """
    with _translated(folder):
        findings: list[AuditFinding] = []
        noted = None
        # A server may be writing: what is there at one moment is read, without keeping it waiting.
        with _still(folder):
            files = [(path, path.stat().st_size) for path in log_files(folder)]
            try:
                noted = _read_head(folder)
            except IndexFormatError:
                findings.append(AuditFinding(HEAD_FILE, 0, "it is damaged, so lines may be missing at the end"))
        start = noted or Head()
        seq, previous = start.first_seq - 1, start.first_prev
        hashes = {previous}
        for path, size in files:
            with path.open("rb") as file:
                for number, line in enumerate(_lines(file, size), 1):
                    try:
                        entry = _parsed(line)
                    except ValueError as error:
                        findings.append(AuditFinding(path.name, number, str(error)))
                        continue
                    if entry["seq"] != seq + 1 or entry["prev"] != previous:
                        findings.append(
                            AuditFinding(
                                path.name, number, f"line {seq + 1} should follow; this is line {entry['seq']}"
                            )
                        )
                    seq, previous = entry["seq"], entry["hash"]
                    hashes.add(previous)
        if noted is None and seq and not findings:
            findings.append(AuditFinding(HEAD_FILE, 0, "it is missing, so lines may be missing at the end"))
        if noted is not None and seq < noted.seq:
            findings.append(AuditFinding("", 0, f"lines {seq + 1} to {noted.seq} are missing at the end"))
        elif noted is not None and noted.hash not in hashes:
            findings.append(AuditFinding("", 0, f"line {noted.seq} is not the one that was written"))
        if expected_head is not None and expected_head not in hashes:
            findings.append(AuditFinding("", 0, f"no line has the hash {expected_head}"))
    return Head(seq, previous, start.first_seq, start.first_prev), findings


def _lines(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    """The lines in the first bytes of a file."""
    while size_bytes > 0:
        line = file.readline(size_bytes)
        if not line:
            return
        size_bytes -= len(line)
        yield line


def _still(folder: Path) -> AbstractContextManager[object]:
    """A block in which nothing is written to the log; a copy that cannot be written to needs none."""
    if not os.access(folder, os.W_OK):
        return nullcontext()
    return hold_lock(folder / _LOCK_FILE, _LOCK_TIMEOUT_S, f"the audit log in {folder}")


def log_files(folder: Path) -> list[Path]:
    """The files of the log, oldest first."""
    return sorted(folder.glob("audit-*.jsonl"))


def line_hash(line: Mapping[str, Any]) -> str:
    """SHA-256 over a line's JSON without its ``hash`` (keys sorted, no spaces), in hex."""
    content = {key: value for key, value in line.items() if key != "hash"}
    return hashlib.sha256(canonical_json(content).encode("utf-8", "backslashreplace")).hexdigest()


def _parsed(line: bytes) -> dict[str, Any]:
    """One line. Raises ValueError that says why it is none."""
    if not line.endswith(b"\n"):
        raise ValueError("the line was cut off")
    try:
        entry = json.loads(line)
        if not isinstance(entry["seq"], int) or not isinstance(entry["prev"], str):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("this is no line of an audit log") from error
    if entry["hash"] != line_hash(entry):
        raise ValueError("the line was changed: its hash does not fit")
    return dict(entry)


def _read_head(folder: Path) -> Head | None:
    try:
        return Head(**json.loads((folder / HEAD_FILE).read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise _damaged(folder / HEAD_FILE) from error


def _damaged(path: Path) -> IndexFormatError:
    return IndexFormatError(
        f"{path}: the audit log is damaged.",
        hint="See what is wrong with `ragstack audit verify`, then move the folder away to begin a new log.",
    )


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder}: the audit log cannot be used: {error.strerror or error}.",
            hint="Make the folder writable and free some space, or set server.audit.enabled: false.",
        ) from error
