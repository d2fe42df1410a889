"""How commands find the server that holds an index on the same machine: ``server.json`` in the state directory.

The file holds a random token that makes its reader an administrator of that server, so only its owner can read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragstack.config.models import PipelineConfig

SERVER_FILE = "server.json"


@dataclass(frozen=True)
class RunningServer:
    """A server on this machine. ``exclusive``: no other process can open its index meanwhile.

    ``config_digest`` tells whether a command's config is the one it serves.
    """

    url: str
    exclusive: bool
    config_digest: str
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    # In the form of an API key, so that it is taken out of logs as those are.
    token: str = field(default_factory=lambda: f"rsk_local_{secrets.token_urlsafe(32)}", repr=False)


@contextmanager
def announced(state_dir: Path, server: RunningServer) -> Iterator[None]:
    """A block during which commands find ``server``. A file that a killed server left is replaced."""
    path = state_dir / SERVER_FILE
    state_dir.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{SERVER_FILE}.{server.pid}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(server), file)
    fresh.replace(path)
    try:
        yield
    finally:
        left = _read(path)
        if left is not None and left.token == server.token:
            path.unlink(missing_ok=True)


def config_digest(config: PipelineConfig) -> str:
    """A hash of all that decides what is answered and indexed; not of how it is served."""
    return hashlib.sha256(config.model_dump_json(exclude={"server", "observability"}).encode()).hexdigest()


def running_server(state_dir: Path) -> RunningServer | None:
    """The server that holds the index at ``state_dir``; None where there is none, or its process is gone."""
    server = _read(state_dir / SERVER_FILE)
    if server is None or server.host != socket.gethostname() or not _is_alive(server.pid):
        return None
    return server


def _read(path: Path) -> RunningServer | None:
    try:
        return RunningServer(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):  # none, or of another version
        return None


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":  # pragma: no cover - a signal would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
