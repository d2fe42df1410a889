"""Files that take long to make and depend on nothing but their key: kept in the user's cache folder, made once.

A file is written whole or not at all, under a lock that other processes wait for, and is checked whenever it is read:
one that is damaged, or was made for another key, is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from ragstack.errors import IndexLockedError, IndexStateError
from ragstack.inference.role import ModelRole
from ragstack.process_lock import hold_lock
from ragstack.types import canonical_json, sha256_hex

_MAGIC = b"ragstack artifact 1\n"
_LONGEST_MAKING_S = 3600.0
_log = logging.getLogger(__name__)


def cached_artifact(
    folder: Path, kind: str, key: Mapping[str, object], make: Callable[[], bytes], role: ModelRole
) -> bytes:
    """What ``make`` gave for this ``key`` once, made now if that is not at hand in ``folder``, which may not exist yet.

    ``kind`` is the file's ending and, in messages, what it is. All that the bytes depend on belongs into ``key``, in
    values that JSON has. Raises the role's error where the folder cannot be used, IndexLockedError when another process
    is at it for longer than an hour, and what ``make`` raises.
    """
    described = canonical_json(dict(key)).encode("utf-8")
    path = folder / f"{sha256_hex(described)}.{kind}"
    with _storing(path, kind, role):
        folder.mkdir(parents=True, exist_ok=True)
        if (found := _read(path, described)) is not None:
            return found
        lock = hold_lock(path.with_name(path.name + ".lock"), _LONGEST_MAKING_S, f"the making of {path}")
    with lock:
        with _storing(path, kind, role):  # another process may have made it while this one waited
            if (found := _read(path, described)) is not None:
                return found
        made = make()
        with _storing(path, kind, role):
            _write(path, described, made)
        return made


@contextmanager
def _storing(path: Path, kind: str, role: ModelRole) -> Iterator[None]:
    try:
        yield
    except IndexLockedError:
        raise
    except (OSError, IndexStateError) as error:
        reason = error.message if isinstance(error, IndexStateError) else error.strerror or error
        raise role.error(
            f"{path}: a file of the kind {kind} cannot be kept there: {reason}",
            hint="Set RAGSTACK_CACHE_DIR to a folder that can be written, with enough room.",
        ) from error


def _read(path: Path, described: bytes) -> bytes | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    head, _, payload = data.removeprefix(_MAGIC).partition(b"\n")
    expected = _head(described, payload)
    if data.startswith(_MAGIC) and head == expected:
        return payload
    _log.warning("%s is damaged, or of another version; it is made again", path)
    return None


def _write(path: Path, described: bytes, payload: bytes) -> None:
    with NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".part", delete=False) as file:
        try:
            file.write(_MAGIC + _head(described, payload) + b"\n")
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            file.close()
            Path(file.name).unlink(missing_ok=True)
            raise
    Path(file.name).replace(path)


def _head(described: bytes, payload: bytes) -> bytes:
    """One line: the key, and the hash of what follows."""
    record = {"key": json.loads(described), "sha256": hashlib.sha256(payload).hexdigest()}
    return canonical_json(record).encode("utf-8")
