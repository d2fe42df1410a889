"""Lazy registries: a name is tied to a dotted path and imported on first use.

One registry per family (parsers, chunkers, embedders, stores, rerankers, generators). Third parties
add an implementation through an entry point of the group ``ragstack.<family>``; a name that is
registered twice is refused, and an unknown name lists the known ones.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from ragstack.errors import InputError, MissingExtraError


@dataclass(frozen=True, slots=True)
class Entry:
    """``target`` is ``package.module:attribute``; ``extra`` the extra of ragstack that it needs, or empty."""

    target: str
    extra: str = ""


@dataclass
class Registry:
    """The implementations of one family, by the name used as ``type:`` in a config.

    ``family`` is a plural, as in the names of the groups of entry points.
    """

    family: str
    entries: dict[str, Entry] = field(default_factory=dict)
    _scanned: bool = False

    @property
    def _one(self) -> str:
        return self.family.removesuffix("s")

    def register(self, name: str, target: str, *, extra: str = "") -> None:
        """Add an implementation. Raises ValueError when the name is taken by another target."""
        known = self.entries.get(name)
        if known is not None and known.target != target:
            raise ValueError(f"the {self._one} {name!r} is registered as {known.target}; refused {target}")
        self.entries[name] = Entry(target, extra)

    def names(self) -> list[str]:
        """Every known name, built-in and third-party, sorted."""
        self._scan()
        return sorted(self.entries)

    def load(self, name: str) -> Any:
        """Import and return the implementation.

        Raises InputError for an unknown name (the message lists the known ones) and
        MissingExtraError when the implementation's dependency is not installed.
        """
        if name not in self.entries:
            self._scan()
        entry = self.entries.get(name)
        if entry is None:
            raise InputError(f"unknown {self._one} {name!r}.", hint=known_names(name, self.entries))
        module, _, attribute = entry.target.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ImportError as error:
            if entry.extra:
                raise MissingExtraError(f"the {self._one} {name!r}", entry.extra) from error
            raise

    def _scan(self) -> None:
        if not self._scanned:
            self._scanned = True
            for point in entry_points(group=f"ragstack.{self.family}"):
                self.register(point.name, point.value)


_REGISTRIES = {
    "parsers": "ragstack.parsing.registry:PARSERS",
    "chunkers": "ragstack.chunking.registry:CHUNKERS",
    "embedders": "ragstack.embedding.registry:EMBEDDERS",
    "stores": "ragstack.adapters.registry:STORES",
    "rerankers": "ragstack.reranking.registry:RERANKERS",
    "generators": "ragstack.generation.registry:GENERATORS",
}


def registered_names(family: str) -> tuple[str, ...]:
    """Every name of a family, built-in and third-party; its registry is imported now, no implementation is."""
    module, _, attribute = _REGISTRIES[family].partition(":")
    registry: Registry = getattr(import_module(module), attribute)
    return tuple(registry.names())


def known_names(name: str, known: Iterable[str] | Mapping[str, object]) -> str:
    """A hint for an unknown name: the nearest known one first, then all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    nearest = f"Did you mean {near[0]!r}? " if near else ""
    return f"{nearest}Known: {', '.join(names)}."
