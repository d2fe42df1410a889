"""The version of this package, as its metadata states it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _installed_version() -> str:
    try:
        return version("ragstack")
    except PackageNotFoundError as error:
        raise ImportError(
            "ragstack is not installed, only its files are on the path. Install it: pip install ."
        ) from error


__version__ = _installed_version()
