"""Uploads, and the jobs that index them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from ragstack.config.block import ConfigBlock

INCOMING = ".incoming"
"""Folder, in that of the uploads, of what is being received; never indexed."""


def _label_is_one_part(value: str) -> str:
    if value in ("", ".", "..") or any(character in value for character in "/\\\x00"):
        raise ValueError("a label is one part of a path: not empty, '.' or '..', and without / and \\")
    return value


class DocumentsConfig(ConfigBlock):
    """Documents that come in through the server."""

    upload_dir: str | None = Field(
        default=None,
        min_length=1,
        description="Folder of uploaded files; null: `ragstack-uploads` beside the state directory.",
    )
    label: Annotated[str, AfterValidator(_label_is_one_part)] = Field(
        default="uploads", description="First part of the source_id of every uploaded file."
    )
    max_file_bytes: int = Field(
        default=64 * 1024 * 1024,
        gt=0,
        description="Larger uploaded files are refused; sources.max_file_bytes holds as well.",
    )
    max_files: int = Field(default=100, ge=1, le=10_000, description="Most files in one upload.")
    max_request_bytes: int = Field(
        default=256 * 1024 * 1024, ge=1024, description="Largest body of an upload, all its files together."
    )


class JobsConfig(ConfigBlock):
    """Long work, done one at a time because the index has one writer."""

    max_queued: int = Field(default=64, ge=1, description="Jobs that may wait; more are refused with status 429.")
    keep: int = Field(default=200, ge=1, description="Ended jobs that are remembered, until the server stops.")


def upload_dir(config: DocumentsConfig, state_dir: Path) -> Path:
    """The folder of uploaded files, absolute."""
    if config.upload_dir is not None:
        return Path(config.upload_dir).expanduser().absolute()
    return state_dir.absolute().parent / "ragstack-uploads"
