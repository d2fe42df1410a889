"""What every block of the config is built on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class ConfigBlock(BaseModel):
    """Base of every block: frozen, unknown keys rejected, no NaN or infinity.

    Built from YAML, values keep their type (``"200"`` is no integer); built from Python, pydantic's
    usual conversions hold, so that a list may stand for a tuple.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, validate_default=False, allow_inf_nan=False)


def contradiction(keys: tuple[str | tuple[str | int, ...], ...], message: str) -> PydanticCustomError:
    """An error over several keys of a block, or paths below it; the loader points at the first that the file gives."""
    paths = [(key,) if isinstance(key, str) else key for key in keys]
    return PydanticCustomError("contradiction", "{message}", {"message": message, "paths": paths})
