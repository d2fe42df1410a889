"""ragstack: retrieval-augmented generation with byte-exact citations."""

from __future__ import annotations

from typing import Any

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    """``__version__`` is looked up when it is asked for: reading package metadata would slow every start."""
    if name == "__version__":
        from ragstack.version import __version__  # noqa: PLC0415

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
