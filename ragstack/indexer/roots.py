"""From the paths a user names to roots and scopes.

A root is a folder with a label; ``source_id`` = label + ``/`` + path below the root, so ids do not
depend on the folders above it. A scope is the part of a root that a command is about.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragstack.config.models import RootConfig
from ragstack.errors import EmptyRootError, InputError
from ragstack.source_names import name_of_path, path_of_name


@dataclass(frozen=True, slots=True)
class Scope:
    """``relative`` (text form, '' for all) below the root ``label`` at ``path``.

    ``named`` is False for a part of a scope that nobody named by itself: patterns exclude it as they
    would in a walk from above.
    """

    label: str
    path: Path
    relative: str
    named: bool = True

    @property
    def target(self) -> Path:
        """The file or folder that the scope names."""
        return self.path / path_of_name(self.relative) if self.relative else self.path

    def contains(self, label: str, relative: str) -> bool:
        """True when the source at ``label``/``relative`` lies in this scope."""
        if label != self.label:
            return False
        return not self.relative or relative == self.relative or relative.startswith(self.relative + "/")


def resolve_scopes(
    targets: Sequence[str | RootConfig],
    known_roots: Mapping[str, str],
    known_scopes: Iterable[tuple[str, str]] = (),
    *,
    prune: bool = False,
) -> list[Scope]:
    """The scopes that ``targets`` name; without targets, everything that was indexed before.

    A path inside a known root belongs to it. A file named alone belongs to the folder it is in. A
    root whose old place is gone may have moved: the same label at a new place takes it over.

    Raises InputError for a path that does not exist and for two roots that would share a label;
    EmptyRootError for an indexed path that is gone, unless ``prune`` is set.
    """
    roots = {label: path_of_name(path) for label, path in known_roots.items()}
    scopes: list[Scope] = []
    if not targets:
        scopes = _without_nested([Scope(label, roots[label], relative) for label, relative in known_scopes])
        for scope in () if prune else scopes:
            _require_present(scope)
    for target in targets:
        named, label = (target.path, target.label) if isinstance(target, RootConfig) else (target, None)
        path = _absolute(named)
        scope = _scope_of(path, label, roots)
        if not os.path.lexists(path):
            if not _was_indexed(scope, known_scopes):
                raise InputError(
                    f"{name_of_path(named)}: no such file or folder.", hint="Name a folder or file that exists."
                )
            if not prune:
                _require_present(scope)
        roots[scope.label] = scope.path
        scopes.append(scope)
    return _without_nested(scopes)


def _absolute(named: str) -> Path:
    """The path a user means, links left as they were named. Raises InputError for what is no path."""
    if not named or "\0" in named:
        raise InputError(f"{named!r} is not a path.", hint="Name a folder or file that exists.")
    try:
        return Path(os.path.abspath(Path(named).expanduser()))  # noqa: PTH100 - resolve() would follow links
    except RuntimeError as error:
        raise InputError(
            f"{name_of_path(named)}: {error}.", hint="Write the folder out, or put ./ before it."
        ) from error


def _scope_of(path: Path, label: str | None, roots: dict[str, Path]) -> Scope:
    inside = [(known, root) for known, root in roots.items() if path == root or root in path.parents]
    if inside and (label is None or any(known == label for known, _ in inside)):
        known, root = max(inside, key=lambda item: len(item[1].parts))
        relative = name_of_path(path.relative_to(root))
        return Scope(known, root, "" if relative == "." else relative)
    root = path.parent if label is None and path.is_file() else path
    relative = name_of_path(path.name) if root != path else ""
    chosen = label or name_of_path(root.name) or "root"
    holder = roots.get(chosen)
    if holder is not None and holder != root and holder.exists():
        raise InputError(
            f"{root} and {holder} would both be the root {chosen!r}: their sources would share ids.",
            hint="Give one a label in the config: sources: {paths: [{path: ..., label: ...}]}",
        )
    return Scope(chosen, root, relative)


def _was_indexed(scope: Scope, known_scopes: Iterable[tuple[str, str]]) -> bool:
    known = list(known_scopes)
    return any(
        scope.contains(label, rel) or Scope(label, scope.path, rel).contains(scope.label, scope.relative)
        for label, rel in known
    )


def _require_present(scope: Scope) -> None:
    if not os.path.lexists(scope.target):
        raise EmptyRootError(
            f"{scope.target} was indexed and does not exist now; nothing was deleted.",
            hint="Mount or restore it, or run the same command with --prune to remove its sources from the index.",
        )


def require_sources(
    scopes: Sequence[Scope], found: Sequence[tuple[str, str]], indexed: Sequence[tuple[str, str]]
) -> None:
    """Raise EmptyRootError when a scope that held indexed sources has none now: more likely a mistake than a wish."""
    for scope in scopes:
        before = sum(scope.contains(*source) for source in indexed)
        if before and not any(scope.contains(*source) for source in found):
            raise EmptyRootError(
                f"{scope.target} held {before} indexed sources and has none now; nothing was deleted.",
                hint="Mount or restore it, or run the same command with --prune to remove its sources from the index.",
            )


def narrowed(scopes: Sequence[Scope], roots: Mapping[str, Path], changed: Iterable[Path]) -> list[Scope]:
    """The parts of ``scopes`` that changed paths lie in; ``roots`` are all known roots.

    A path outside every scope is left out.
    """
    parts: list[Scope] = []
    for path in changed:
        for scope in scopes:
            target = scope.target
            if path == target or path in target.parents:
                parts.append(scope)
            elif target in path.parents:
                inside = [(label, root) for label, root in roots.items() if path == root or root in path.parents]
                label, root = max(inside, key=lambda known: len(known[1].parts))
                below = path.relative_to(root)
                parts.append(Scope(label, root, name_of_path(below) if below.parts else "", named=False))
    return _without_nested(parts)


def membership(scopes: Iterable[Scope]) -> Callable[[str, str], bool]:
    """A function that says whether the source at ``label``, ``relative`` lies in one of the scopes."""
    targets: dict[str, set[str]] = {}
    for scope in scopes:
        targets.setdefault(scope.label, set()).add(scope.relative)

    def contains(label: str, relative: str) -> bool:
        wanted = targets.get(label, set())
        while relative not in wanted:
            if not relative or not wanted:
                return False
            relative = relative.rpartition("/")[0]
        return True

    return contains


def _without_nested(scopes: Sequence[Scope]) -> list[Scope]:
    unique = {(scope.label, scope.relative): scope for scope in scopes}
    return [
        scope
        for key, scope in unique.items()
        if not any(other.contains(*key) for other_key, other in unique.items() if other_key != key)
    ]
