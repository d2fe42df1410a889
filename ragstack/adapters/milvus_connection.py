"""One connection to Milvus: opening, retrying, and Milvus Lite files, which one process holds at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

from pymilvus import MilvusClient

from ragstack.adapters.milvus_errors import Place, driver_errors, is_not_loaded, is_passing
from ragstack.config.stores.milvus import MilvusStoreConfig
from ragstack.errors import IndexLockedError, MissingExtraError, StoreLockedError, StoreUnavailableError
from ragstack.process_lock import ProcessLock, hold_lock

T = TypeVar("T")
Request: TypeAlias = Callable[[MilvusClient, float], Any]
"""A call of the driver, given its client and the seconds that are left."""
_LITE_LOCK_TIMEOUT_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0


class Connection:
    """A client of one store. Calls are retried with growing pauses while the server starts or moves data.

    Every call made through :meth:`call` must be safe to repeat. ``timeout_s`` limits a call, its retries included.
    """

    def __init__(self, block: MilvusStoreConfig) -> None:
        token = block.token.get_secret_value() if block.token is not None else ""
        self.timeout_s = block.timeout_s
        self._lite = _LiteFile.open(Path(block.uri), block.timeout_s) if block.is_lite else None
        self.place = Place(str(self._lite.path) if self._lite else _address(block.uri), token)
        self._closed = False
        try:
            with driver_errors("connect to", "", self.place):
                self._client = MilvusClient(
                    str(self._lite.path) if self._lite else block.uri,
                    token=token,
                    db_name=block.database,
                    timeout=block.timeout_s,
                    dedicated=True,
                )
            self.version: str = self.call(
                "connect to", "", lambda client, left: client.get_server_version(timeout=left)
            )
        except BaseException:
            if self._lite:
                self._lite.release()
            raise

    def call(self, action: str, collection: str, request: Callable[[MilvusClient, float], T], stored: str = "") -> T:
        """What ``request(client, seconds left)`` returns.

        ``action`` and ``collection`` are for messages; ``stored`` is Milvus's name of the collection, which is
        loaded when the server says that it is not.
        """
        deadline = time.monotonic() + self.timeout_s
        pause = _FIRST_PAUSE_S
        with driver_errors(action, collection, self.place):
            while True:
                self.check_open()
                left = max(deadline - time.monotonic(), 0.001)
                try:
                    return request(self._client, left)
                except Exception as error:
                    self.check_open()  # what a call finds that was running when the store was closed
                    if not is_passing(error) or time.monotonic() + pause >= deadline:
                        raise
                    if stored and is_not_loaded(error):
                        self._client.load_collection(stored, timeout=left)
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)

    def check_open(self) -> None:
        """StoreUnavailableError after :meth:`close`."""
        if self._closed:
            raise StoreUnavailableError("the vector store was closed.", hint="Open it again.")

    def close(self) -> None:
        """Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            with driver_errors("close", "", self.place):
                self._client.close()
        finally:
            if self._lite:
                self._lite.release()


def _address(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class _LiteFile:
    """A Milvus Lite file held by this process; several stores may share it."""

    _guard = threading.Lock()
    _held: dict[Path, _LiteFile] = {}  # noqa: RUF012 - the one table of the process

    def __init__(self, path: Path, lock: ProcessLock) -> None:
        self.path, self._lock, self._users = path, lock, 0

    @classmethod
    def open(cls, path: Path, timeout_s: float) -> _LiteFile:
        try:
            import milvus_lite.server_manager  # noqa: F401, PLC0415 - not every use of Milvus needs it
        except ImportError as error:
            raise MissingExtraError(f"Milvus Lite (store.uri {str(path)!r})", "milvus-lite") from error
        path = path.absolute()
        with cls._guard:
            held = cls._held.get(path)
            if held is None:
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    lock = hold_lock(
                        path.with_name(f"{path.name}.lock"),
                        min(timeout_s, _LITE_LOCK_TIMEOUT_S),
                        f"the Milvus Lite file {path}",
                    )
                except IndexLockedError as error:
                    raise StoreLockedError(error.message, hint=error.hint) from error
                except OSError as error:
                    raise StoreUnavailableError(
                        f"the Milvus Lite file {path} cannot be opened: {error}.",
                        hint="Check that its folder can be written.",
                    ) from error
                held = cls._held[path] = cls(path, lock)
            held._users += 1
            return held

    def release(self) -> None:
        """Give up one use; the last one stops the engine."""
        from milvus_lite.server_manager import server_manager_instance  # noqa: PLC0415

        with self._guard:
            self._users -= 1
            if self._users == 0:
                del self._held[self.path]
                try:
                    server_manager_instance.release_server(str(self.path))
                finally:
                    self._lock.release()


def count_of(rows: Any) -> int:
    """The number in the answer to a query for ``count(*)``."""
    return int(rows[0]["count(*)"])
