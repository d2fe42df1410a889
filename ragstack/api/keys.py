"""API keys: made, kept as hashes in one file, revoked while the server runs.

A key is ``rsk_<id>_<secret>``. Its secret is 256 random bits, so the file holds a plain SHA-256 of the whole key: what
a slow hash (argon2, bcrypt) guards is secrets that people think up and others can guess; here it would only make
every request slow. The id finds the entry; what decides is the comparison of the hashes, in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from ragstack.errors import ConfigError, ConfigProblem, FilterError, InputError
from ragstack.filters import Filter, parse_datetime, parse_filter
from ragstack.process_lock import hold_lock

Scope: TypeAlias = Literal["query", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
KEYS_FILE = "api-keys.json"
_FORMAT = 1
_KEY = re.compile(r"rsk_([0-9a-f]{12})_([0-9A-Za-z_-]{43})\Z", re.ASCII)
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._@-]{0,63}\Z", re.ASCII)
_LOCK_TIMEOUT_S = 10.0
RESERVED_NAMES = ("anonymous", "local")
"""What callers without a key of the file are called."""


@dataclass(frozen=True)
class ApiKey:
    """One entry of the file. Times are RFC 3339 in UTC; ``sha256`` is of the whole key, in hex."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    filter: dict[str, Any] | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    sha256: str

    def state(self, now: datetime) -> Literal["usable", "revoked", "expired"]:
        """Whether the key opens anything at the moment ``now``."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and parse_datetime(self.expires_at) <= now:
            return "expired"
        return "usable"

    def parsed_filter(self) -> Filter | None:
        """The filter as a tree."""
        return None if self.filter is None else parse_filter(self.filter, where=f"the filter of the key {self.name}")


class KeyFile:
    """The file of keys in a state directory. Another process's changes are seen at the next look."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / KEYS_FILE
        self._guard = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._keys: dict[str, ApiKey] = {}

    @property
    def path(self) -> Path:
        """Where the keys are kept."""
        return self._path

    def entries(self) -> list[ApiKey]:
        """Every key ever made, oldest first. Raises ConfigError for a file that is damaged or cannot be read."""
        with self._guard:
            self._refresh()
            return list(self._keys.values())

    def has_usable(self) -> bool:
        """True when some key opens something now."""
        return any(key.state(_now()) == "usable" for key in self.entries())

    def find(self, presented: str) -> ApiKey | None:
        """The usable key that was presented, or None. Takes the same time whether or not its id is known."""
        with self._guard:
            self._refresh()
            found = _KEY.match(presented)
            entry = self._keys.get(found[1]) if found else None
        digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).hexdigest()
        is_right = hmac.compare_digest(digest, entry.sha256 if entry is not None else "0" * 64)
        return entry if entry is not None and is_right and entry.state(_now()) == "usable" else None

    def create(
        self,
        name: str,
        scopes: Collection[Scope],
        filter: Mapping[str, Any] | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key; the second value is the key itself, which is kept nowhere.

        Raises InputError for a bad name or scope, a name that a usable key has, and an expiry that is past;
        FilterError for a bad filter.
        """
        if not _NAME.match(name) or name in RESERVED_NAMES:
            raise InputError(
                f"{name!r} is not a name for a key.",
                hint="Letters, digits and . _ @ -, at most 64, a letter or digit first; not anonymous and not local.",
            )
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise InputError(
                f"unknown scope: {', '.join(unknown) or 'none given'}.", hint=f"Scopes: {', '.join(SCOPES)}."
            )
        if filter is not None:
            parse_filter(filter)
            if "admin" in scopes:
                raise InputError(
                    "a key with the scope admin cannot have a filter: it may index and erase any path.",
                    hint="Use --scope query --scope write.",
                )
        now = _now()
        if expires_at is not None and expires_at <= now:
            raise InputError(f"the expiry {_text(expires_at)} is past.", hint="Give a moment to come, such as 90d.")
        with self._changing() as keys:
            if any(key.name == name and key.state(now) == "usable" for key in keys.values()):
                raise InputError(
                    f"there is a usable key named {name!r} already.",
                    hint="Choose another name, or revoke that one first.",
                )
            key_id = secrets.token_hex(6)
            while key_id in keys:
                key_id = secrets.token_hex(6)
            presented = f"rsk_{key_id}_{secrets.token_urlsafe(32)}"
            key = ApiKey(
                id=key_id,
                name=name,
                scopes=tuple(scope for scope in SCOPES if scope in scopes),
                filter=None if filter is None else dict(filter),
                created_at=_text(now),
                expires_at=None if expires_at is None else _text(expires_at),
                revoked_at=None,
                sha256=hashlib.sha256(presented.encode()).hexdigest(),
            )
            keys[key_id] = key
        return key, presented

    def revoke(self, which: str) -> ApiKey:
        """Revoke the usable key with this id or name. Raises InputError when there is none."""
        now = _now()
        with self._changing() as keys:
            for key in keys.values():
                if which in (key.id, key.name) and key.state(now) != "revoked":
                    keys[key.id] = replace(key, revoked_at=_text(now))
                    return keys[key.id]
        raise InputError(f"there is no key {which!r} to revoke.", hint="See: ragstack key list")

    @contextmanager
    def _changing(self) -> Iterator[dict[str, ApiKey]]:
        """The keys by id, to be changed; written at the end of the block unless it raises."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = self._path.with_name(self._path.name + ".lock")
        with hold_lock(lock, _LOCK_TIMEOUT_S, f"the keys of {self._path.parent}"), self._guard:
            self._refresh()
            keys = dict(self._keys)
            yield keys
            if keys != self._keys:
                self._write(keys)
                self._refresh()

    def _write(self, keys: Mapping[str, ApiKey]) -> None:
        content = {"format": _FORMAT, "keys": [asdict(key) for key in keys.values()]}
        temporary = self._path.with_name(self._path.name + ".new")
        temporary.unlink(missing_ok=True)
        # Made with its mode, so that there is no moment at which others could open it.
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)

    def _refresh(self) -> None:
        """Read the file again if it is another one than before."""
        try:
            info = self._path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, {}
            return
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        seen = (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        if seen == self._seen:
            return
        # Until it has been read whole nothing of before holds: a damaged file lets nobody in.
        self._seen, self._keys = None, {}
        try:
            content = json.loads(self._path.read_bytes())
            if content["format"] != _FORMAT:
                raise self._unusable(f"it has format {content['format']!r}; this ragstack reads {_FORMAT}")
            keys = [_entry(entry) for entry in content["keys"]]
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        except (ValueError, KeyError, TypeError, FilterError) as error:
            raise self._unusable("it is damaged") from error
        self._keys, self._seen = {key.id: key for key in keys}, seen

    def _unusable(self, reason: str) -> ConfigError:
        problem = ConfigProblem(str(self._path), 0, 0, "", f"the file of API keys cannot be used: {reason}")
        return ConfigError([problem], hint="Nobody is let in. Restore the file, or delete it and make keys anew.")


def _entry(entry: Mapping[str, Any]) -> ApiKey:
    key = ApiKey(**{**entry, "scopes": tuple(entry["scopes"])})
    if not set(key.scopes) <= set(SCOPES) or len(key.sha256) != 64:
        raise ValueError("not an entry that ragstack wrote")
    key.parsed_filter()
    key.state(_now())
    return key


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _text(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
