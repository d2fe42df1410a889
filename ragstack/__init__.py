"""ragstack: retrieval-augmented generation with byte-exact citations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragstack.client import AsyncClient as AsyncClient
    from ragstack.client import Client as Client
    from ragstack.generation.base import Turn as Turn
    from ragstack.pipeline import Pipeline as Pipeline
    from ragstack.pipeline import open_pipeline as open  # noqa: A004 - ragstack.open, as gzip.open
    from ragstack.version import __version__ as __version__

__all__ = ["AsyncClient", "Client", "Pipeline", "Turn", "__version__", "open"]

_LAZY = {
    "AsyncClient": ("ragstack.client", "AsyncClient"),
    "Client": ("ragstack.client", "Client"),
    "Turn": ("ragstack.generation.base", "Turn"),
    "Pipeline": ("ragstack.pipeline", "Pipeline"),
    "open": ("ragstack.pipeline", "open_pipeline"),
    "__version__": ("ragstack.version", "__version__"),
}


def __getattr__(name: str) -> Any:
    """The public names are imported when they are asked for: everything else would slow every start."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)
