"""Reading an upload (``multipart/form-data``, RFC 7578) straight to disk, within limits.

Nothing that the sender says of a file is believed but its name, and that only after
:func:`ragstack.api.uploads.safe_name`: the type is found from name and bytes, the size is what arrives.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
from anyio import CapacityLimiter
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ragstack.api.request_errors import TooLargeError
from ragstack.api.uploads import UploadFolder, safe_name, storage_error
from ragstack.errors import InputError

if TYPE_CHECKING:
    from hashlib import _Hash

_FIELD = "files"
_MAX_HEADER_BYTES = 8 * 1024
_BATCH_BYTES = 256 * 1024
_HINT = "Send multipart/form-data with one or more parts named `files`: curl -F files=@report.md URL"


@dataclass(frozen=True)
class ReceivedFile:
    """One file as it came: its name (safe), where it lies for now, its size and the SHA-256 of its bytes in hex."""

    name: str
    path: Path
    size_bytes: int
    sha256: str


async def receive_files(
    content_type: str,
    body: AsyncIterator[bytes],
    folder: UploadFolder,
    max_file_bytes: int,
    max_files: int,
    reserve_bytes: int,
    threads: CapacityLimiter,
) -> list[ReceivedFile]:
    """Write every file of an upload below ``.incoming``; the caller moves or discards them.

    Raises InputError for a body that is no upload or names that cannot be kept, TooLargeError for a file over
    ``max_file_bytes``, StorageFullError when fewer than ``reserve_bytes`` would be left on the disk; then, and when it
    is cancelled, nothing is left.
    """
    receiver = _Receiver(folder, max_file_bytes, max_files)
    try:
        parser = receiver.parser(content_type)

        def feed(data: bytes) -> None:
            folder.require_room(len(data), reserve_bytes)
            try:
                parser.write(data)
            except FormParserError as error:
                raise InputError("the body is not well-formed multipart/form-data.", hint=_HINT) from error
            except OSError as error:
                raise storage_error(error) or error from error

        waiting = bytearray()
        async for chunk in body:
            waiting += chunk
            if len(waiting) >= _BATCH_BYTES:
                await anyio.to_thread.run_sync(feed, bytes(waiting), limiter=threads)
                waiting.clear()
        await anyio.to_thread.run_sync(feed, bytes(waiting), limiter=threads)
        return receiver.finished()
    except BaseException:
        receiver.discard()
        raise


class _Receiver:
    """Takes the parser's callbacks: each part's headers, then its data."""

    def __init__(self, folder: UploadFolder, max_file_bytes: int, max_files: int) -> None:
        self._folder = folder
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files
        self._files: list[ReceivedFile] = []
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._header_bytes = 0
        self._disposition = b""
        self._name = ""
        self._path: Path | None = None
        self._fd = -1
        self._size = 0
        self._hash: _Hash = hashlib.sha256()
        self._has_ended = False

    def parser(self, content_type: str) -> MultipartParser:
        """A parser for a body of this type. Raises InputError where it is no multipart/form-data."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
            raise InputError("the body is not multipart/form-data.", hint=_HINT)
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def finished(self) -> list[ReceivedFile]:
        """The files, after the whole body was read. Raises InputError when it broke off or held none."""
        if not self._has_ended:
            raise InputError("the body broke off before its end.", hint=_HINT)
        if not self._files:
            raise InputError("the upload has no file.", hint=_HINT)
        return self._files

    def discard(self) -> None:
        """Delete everything that was received."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        for path in [self._path, *(file.path for file in self._files)]:
            if path is not None:
                path.unlink(missing_ok=True)

    def _on_part_begin(self) -> None:
        self._disposition, self._header_bytes = b"", 0
        if len(self._files) >= self._max_files:
            raise InputError(
                f"the upload has more than {self._max_files} files.",
                hint="Send them in several uploads, or raise server.documents.max_files.",
            )

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_HEADER_BYTES:
            raise InputError(f"the headers of a part are longer than {_MAX_HEADER_BYTES} bytes.", hint=_HINT)

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        # The parser reads latin-1; browsers, curl and the libraries send names in UTF-8.
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != _FIELD.encode() or b"filename" not in options:
            raise InputError("a part of the upload is not a file named `files`.", hint=_HINT)
        try:
            name = safe_name(options[b"filename"].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InputError("a file name in the upload is not UTF-8.", hint=_HINT) from error
        if any(file.name == name for file in self._files):
            raise InputError(f"the upload has two files named {name!r}.", hint="Give each a name of its own.")
        self._name = name
        self._size, self._hash = 0, hashlib.sha256()
        self._path, self._fd = self._folder.new_incoming()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = data[start:end]
        self._size += len(part)
        if self._size > self._max_file_bytes:
            raise TooLargeError(
                f"{self._name} is larger than {self._max_file_bytes} bytes.",
                hint="Split it, or raise server.documents.max_file_bytes and sources.max_file_bytes.",
            )
        self._hash.update(part)
        while part:
            part = part[os.write(self._fd, part) :]

    def _on_part_end(self) -> None:
        if self._path is None:
            raise InputError("a part of the upload has no headers.", hint=_HINT)
        os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1
        self._files.append(ReceivedFile(self._name, self._path, self._size, self._hash.hexdigest()))
        self._path = None

    def _on_end(self) -> None:
        self._has_ended = True
