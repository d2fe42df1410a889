"""Where uploaded files lie, and what they may be called.

The folder is no part of the state directory: an index can be thrown away and built anew from its sources, and an upload
is such a source, perhaps the only copy. It is indexed as a root with a label of its own::

    ragstack-uploads/
        report.md                    source_id uploads/report.md
        f-5d41402abc4b/report.md     of a caller whose key has a filter: source_id uploads/f-5d41402abc4b/report.md
        .incoming/                   what is being received; never indexed

Callers with the same filter share a folder, so that a key can be replaced by another; callers with different filters
cannot replace each other's files, nor find out that they exist.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ragstack.api.redaction import holds_key
from ragstack.api.request_errors import ConflictError, StorageFullError
from ragstack.config.models import PipelineConfig
from ragstack.config.server_documents import INCOMING, upload_dir
from ragstack.errors import InputError
from ragstack.filters import Filter, filter_to_json
from ragstack.source_names import name_of_path, path_of_name
from ragstack.types import canonical_json

MAX_NAME_BYTES = 255
_LEFT_BEHIND_S = 3600
_FOLDER = re.compile(r"f-[0-9a-f]{12}\Z")
# Names that Windows takes for devices, whatever follows a dot; refused everywhere, so that the folder can be moved.
_DEVICES = re.compile(r"(?:CON|PRN|AUX|NUL|CLOCK\$|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])(?:\.|\Z)", re.IGNORECASE)
_JOINERS = "\u200c\u200d"
"""Format characters that words of some languages, and emoji, are written with."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def safe_name(raw: str) -> str:
    """The name under which an upload called ``raw`` is kept: itself, in Unicode's form NFC.

    Nothing else is changed, so that no two names become one; a name that cannot be kept is refused with InputError.
    """
    name = unicodedata.normalize("NFC", raw)
    fault = _fault(name)
    if fault:
        raise InputError(
            f"the file name {_shown(raw)} cannot be used: {fault}.",
            hint="Send a plain file name, such as report.md; folders are not kept.",
        )
    return name


def _fault(name: str) -> str:  # noqa: PLR0911 - one return for each thing that can be wrong
    """What is wrong with a name, or nothing."""
    folded = unicodedata.normalize("NFKC", name)
    if not name or not name.strip():
        return "it is empty"
    if any(separator in text for text in (name, folded) for separator in "/\\"):
        return "it has a path separator"
    if folded.startswith("."):
        return "a name that begins with a dot is hidden, and not indexed"
    if name != name.strip() or name.endswith("."):
        return "it begins or ends with a space, or ends with a dot"
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and c not in _JOINERS for c in name):
        return "it has control or invisible characters"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    if _DEVICES.match(folded):
        return "it is the name of a device on some systems"
    if os.name == "nt" and any(character in '<>:"|?*' for character in folded):  # pragma: no cover
        return "it has characters that the file system does not take"
    if holds_key(name):
        return "it holds an API key"
    return ""


def _shown(raw: str) -> str:
    text = ascii(raw)
    return text if len(text) <= 80 else f"{text[:76]}...'"


def folder_of(filter: Filter | None) -> str:
    """The folder, below the uploads, of callers with this filter; empty for those without one."""
    if filter is None:
        return ""
    return f"f-{hashlib.sha256(canonical_json(filter_to_json(filter)).encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class UploadFolder:
    """The folder of uploads of one server."""

    root: Path
    label: str

    @classmethod
    def open(cls, config: PipelineConfig, state_dir: Path) -> UploadFolder:
        """The folder that the config names; what an earlier process was still receiving is deleted.

        Raises InputError for a folder in the state directory, where nothing is indexed.
        """
        folder = cls(upload_dir(config.server.documents, state_dir), config.server.documents.label)
        if folder.root.resolve().is_relative_to(state_dir.resolve()):
            raise InputError(
                f"server.documents.upload_dir ({folder.root}) lies in the state directory, which is never indexed.",
                hint="Choose a folder outside of it.",
            )
        incoming = folder.root / INCOMING
        for path in incoming.iterdir() if incoming.is_dir() else ():
            # Younger ones may be another server's.
            if path.lstat().st_mtime < time.time() - _LEFT_BEHIND_S:
                path.unlink()
        return folder

    def new_incoming(self) -> tuple[Path, int]:
        """A new empty file for what is received, open for writing: its path and descriptor."""
        incoming = self.root / INCOMING
        incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = incoming / secrets.token_hex(16)
        return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)

    def require_room(self, size_bytes: int, reserve_bytes: int) -> None:
        """Raise StorageFullError unless so much more fits on the disk and the reserve stays free.

        The index may be on the same disk, and its store's files are mapped: a full disk kills the process.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.root).free < size_bytes + reserve_bytes:
            raise no_room()

    def source_id(self, folder: str, name: str) -> str:
        """The id that the file ``name`` in ``folder`` has in the index."""
        relative = name_of_path(str(PurePosixPath(folder, name)))
        return f"{self.label}/{relative}"

    def place(self, received: Path, folder: str, name: str) -> Path:
        """Move a received file to its place in one step, replacing one of the same name; returns the place.

        Raises ConflictError where something else than a file or folder of ours is in the way.
        """
        directory = self.root / folder if folder else self.root
        directory.mkdir(exist_ok=True, mode=0o700)
        target = directory / safe_name(name)
        # A link as folder would lead out of the root; a link as file is replaced itself, not what it points to.
        if not _is_real(directory, stat.S_ISDIR) or (os.path.lexists(target) and target.is_dir()):
            raise ConflictError(f"{name} cannot be put in its place: a folder or link is in the way.")
        received.replace(target)
        return target

    def path_of(self, source_id: str) -> Path | None:
        """Where the uploaded file with this id lies (it need not exist), or None for an id of another root."""
        label, _, relative = source_id.partition("/")
        parts = path_of_name(relative).parts if label == self.label and relative and "\0" not in relative else ()
        if len(parts) == 2 and not _FOLDER.match(parts[0]):
            return None
        if len(parts) not in (1, 2) or _fault(parts[-1]):
            return None
        return self.root.joinpath(*parts)

    def exists(self, source_id: str) -> bool:
        """True when an uploaded file with this id is in its place."""
        path = self.path_of(source_id)
        return path is not None and _is_real(path.parent, stat.S_ISDIR) and _is_real(path, stat.S_ISREG)

    def remove(self, source_id: str) -> bool:
        """Delete the uploaded file with this id; False when there is none. What is no upload is never touched."""
        path = self.path_of(source_id)
        if path is None or not self.exists(source_id):
            return False
        path.unlink(missing_ok=True)
        return True


def _is_real(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """True for a file or folder of the kind that is no link."""
    try:
        return is_kind(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def storage_error(error: OSError) -> StorageFullError | None:
    """What to tell the sender when writing failed for want of room; None for another fault."""
    return no_room() if error.errno in _NO_ROOM else None


def no_room() -> StorageFullError:
    """The error for an upload that the disk cannot take."""
    return StorageFullError(
        "the disk has no room for the upload; nothing was kept.",
        hint="Free some space there, or lower indexer.min_free_bytes.",
    )
