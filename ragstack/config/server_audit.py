"""The record of what was answered from which sources."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ragstack.config.block import ConfigBlock


class AuditConfig(ConfigBlock):
    """The audit log of chains: one line of JSON for each answer, tied to the line before by a hash."""

    enabled: bool = Field(default=True, description="Keep the log; an answer that it cannot take is not given.")
    include_text: bool = Field(
        default=False,
        description="Also write question, answer and quotes. Erasing a document does not reach them.",
    )
    path: str | None = Field(
        default=None, min_length=1, description="Folder of the log; null: `audit` in the state directory."
    )
    rotate_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1024, description="A new file is begun when the current one is this large."
    )
    keep_files: int | None = Field(
        default=None, ge=1, description="Most files kept, the oldest are deleted; null: all of them."
    )


def audit_dir(config: AuditConfig, state_dir: Path) -> Path:
    """The folder of the log."""
    return Path(config.path).expanduser() if config.path is not None else state_dir / "audit"
