"""Where a local model runs."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field, StringConstraints

_Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^(cpu|cuda(:\d{1,3})?)$")]

Device: TypeAlias = _Name | Annotated[list[_Name], Field(min_length=1)]
"""``cpu``, ``cuda``, ``cuda:1``, or a list of GPUs."""

PROFILE_PATTERN = r"^[a-z0-9]+(-[a-z0-9]+)*$"
"""Names of profiles, and ids."""
