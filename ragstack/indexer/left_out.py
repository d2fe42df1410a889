"""Why one path is not among the sources that a run finds: the walk of discovery, followed to that path alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragstack.config.models import SourcesConfig
from ragstack.indexer.discovery import Discovery, Exclusion, Walk
from ragstack.indexer.file_identity import file_identity
from ragstack.indexer.roots import Scope


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why a file is no source, and what would make it one."""

    detail: str
    advice: str


def why_left_out(
    path: Path, scopes: Sequence[Scope], roots: Mapping[str, Path], config: SourcesConfig, leave_out: Sequence[Path]
) -> LeftOut | None:
    """Why a run over ``scopes`` would not read the file at ``path`` (absolute), or None when it would.

    ``roots`` are all known roots, ``leave_out`` paths that are never read. Agrees with
    :func:`ragstack.indexer.discovery.discover` for every file that exists.
    """
    reaching = [scope for scope in scopes if scope.target == path or scope.target in path.parents]
    if not reaching:
        return _outside(path, scopes)
    never_read = {(info.st_dev, info.st_ino) for info in (p.stat() for p in leave_out if p.exists())}
    # One scope that reads it is enough; else the nearest one says why.
    found = [
        _left_out_of(path, scope, roots, config, never_read)
        for scope in sorted(reaching, key=lambda scope: len(scope.target.parts))
    ]
    return None if None in found else found[-1]


def _outside(path: Path, scopes: Sequence[Scope]) -> LeftOut:
    known = ", ".join(str(scope.target) for scope in scopes[:5]) or "nothing"
    return LeftOut(
        f"{path} lies outside of what is indexed: {known}.", f"Index it too: ragstack index {path.parent} (or the file)"
    )


def _left_out_of(
    path: Path, scope: Scope, roots: Mapping[str, Path], config: SourcesConfig, never_read: set[tuple[int, int]]
) -> LeftOut | None:
    walk = Walk(scope, roots, config, never_read, Discovery([]))
    owners = {os.path.normpath(root): label for label, root in roots.items()}
    label, root, here = scope.label, scope.path, scope.target
    ignores = walk.ignores_above(here) if here != path else []
    for part in path.relative_to(here).parts:
        owner = owners.get(os.path.normpath(here))
        if owner is not None and owner != label:
            label, root = owner, here
        if file_identity(here) in never_read:
            return LeftOut(f"{here} holds the index itself (or what ragstack keeps), which is never read.", "")
        ignores = ignores + walk.gitignore(here)
        here = here / part
        if here.is_symlink() and not config.follow_symlinks:
            return LeftOut(f"{here} is a symbolic link, and sources.follow_symlinks is false.", "Set it to true.")
        exclusion = walk.exclusion(here, root, here.is_dir(), ignores)
        if exclusion is not None:
            return _excluded(here, path, exclusion)
    return _as_file(path, config, never_read)


def _as_file(path: Path, config: SourcesConfig, never_read: set[tuple[int, int]]) -> LeftOut | None:
    info = path.stat()
    if (info.st_dev, info.st_ino) in never_read:
        return LeftOut(f"{path} is one of ragstack's own files, which are never read.", "")
    if not stat.S_ISREG(info.st_mode):
        return LeftOut(f"{path} is not a regular file.", "")
    if info.st_size > config.max_file_bytes:
        return LeftOut(
            f"{path} has {info.st_size:,} bytes, more than sources.max_file_bytes ({config.max_file_bytes:,}).",
            "Raise sources.max_file_bytes, and run: ragstack index",
        )
    return None


def _excluded(here: Path, path: Path, exclusion: Exclusion) -> LeftOut:
    what = f"{here}" if here == path else f"its folder {here}"
    if exclusion.origin == "sources.include":
        return LeftOut(
            f"{what} matches no pattern of sources.include.",
            "Add a pattern for it, and run: ragstack index",
        )
    named = f"{exclusion.origin} names {exclusion.pattern!r}"
    way = f"To index it all the same, name it: ragstack index {path}"
    return LeftOut(f"{what[0].upper()}{what[1:]} is left out: {named}.", way)
