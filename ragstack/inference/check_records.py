"""What self-checks found, kept in the user's cache folder: one small file for each model, profile and machine."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from ragstack.inference.cache_folder import cache_folder, replace_file
from ragstack.inference.hardware import Hardware
from ragstack.inference.profiles import ModelProfile
from ragstack.inference.runtimes import runtime_version
from ragstack.types import canonical_json, sha256_hex

_log = logging.getLogger(__name__)

_FORMAT = 1
"""Of the files, and of what is asked in a check."""


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """What one check found: the agreement with the profile ``reference``, and what was asked for.

    ``tokens_per_second`` is None where speed was not taken. ``reason`` says why the check failed; empty: it passed.
    """

    agreement: float
    bound: float
    reference: str
    tokens_per_second: float | None = None
    reason: str = ""

    @property
    def passed(self) -> bool:
        """True when the profile may be chosen without being asked for."""
        return not self.reason


@dataclass(frozen=True)
class CheckRecords:
    """The records of one machine below ``folder``.

    A record counts for the same weights, profile, GPU architecture or CPU, cores, and version of the runtime.
    """

    folder: Path
    hardware: Hardware

    @classmethod
    def here(cls, hardware: Hardware) -> CheckRecords:
        """Those of this user."""
        return cls(cache_folder() / "profiles", hardware)

    def find(self, profile: ModelProfile) -> CheckRecord | None:
        """What was found of a profile; None where nothing was, or what was kept cannot be read."""
        if not self.folder.is_dir():  # as a rule: then no package is asked for its version
            return None
        path = self._path(profile)
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            record = CheckRecord(**kept["record"])
        except (OSError, ValueError, TypeError, KeyError):  # never kept, or damaged: it is looked at again
            return None
        return record if kept.get("of") == self._key(profile) and isinstance(record.reason, str) else None

    def keep(self, profile: ModelProfile, record: CheckRecord) -> None:
        """Write what was found; said in the log where the folder cannot be written to."""
        path = self._path(profile)
        text = json.dumps({"of": self._key(profile), "record": asdict(record)}, indent=1)
        try:
            replace_file(path, text)
        except OSError as error:
            _log.warning("what was found of %s is not kept: %s: %s", profile.name, path.parent, error.strerror or error)

    def _path(self, profile: ModelProfile) -> Path:
        return self.folder / f"{sha256_hex(canonical_json(self._key(profile)).encode())}.json"

    def _key(self, profile: ModelProfile) -> dict[str, object]:
        cpu = self.hardware.cpu
        on_cpu = profile.profile.device_type == "cpu"
        return {
            "format": _FORMAT,
            "weights": profile.weights_sha256,
            "profile": profile.profile.name,
            "machine": [cpu.model, sorted(cpu.features), cpu.cores] if on_cpu else [profile.architecture, profile.gpu],
            "runtime": runtime_version(profile.profile.backend),
        }
