"""Finding sources: a sorted walk over the scopes, with gitignore-style excludes.

Symbolic links are not followed unless the config says so; then each folder is entered once, by
device and inode, so that a loop ends. A file below a known root belongs to that root, even when the
walk came from a root above it: nothing is indexed twice under two names.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

from ragstack.config.models import SourcesConfig
from ragstack.indexer.roots import Scope
from ragstack.ledger.writer import FileStat
from ragstack.source_names import name_of_path


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One source file. ``relative`` is the text form of its path below the root ``label``.

    ``file_name`` is the whole path as a string: a tree has many files, and a Path takes ten times the memory.
    """

    label: str
    relative: str
    file_name: str
    stat: FileStat

    @property
    def path(self) -> Path:
        """Where the file is."""
        return Path(self.file_name)

    @property
    def source_id(self) -> str:
        """Root label, ``/``, path below the root."""
        return f"{self.label}/{self.relative}"


@dataclass
class Discovery:
    """What a walk found.

    ``files`` are sorted by source id; ``skipped`` counts by reason; ``failed`` are paths that could not be
    read, with the reason: what was indexed at or below them is kept. ``scopes`` are those asked for and
    the known roots met below them.
    """

    scopes: list[Scope]
    files: list[FoundFile] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[Path, str]] = field(default_factory=list)

    def could_not_read(self, path: Path) -> bool:
        """True when the path, or a folder above it, failed."""
        return any(path == failed or failed in path.parents for failed, _ in self.failed)


def discover(
    scopes: Sequence[Scope], roots: Mapping[str, Path], config: SourcesConfig, leave_out: Sequence[Path]
) -> Discovery:
    """Walk every scope. ``roots`` are all known roots; ``leave_out`` are paths never read (the state directory)."""
    found = Discovery(list(scopes))
    left_out = {(info.st_dev, info.st_ino) for info in (path.stat() for path in leave_out if path.exists())}
    seen: set[str] = set()
    for scope in scopes:
        walk = Walk(scope, roots, config, left_out, found)
        for file in walk.files():
            if file.source_id not in seen:
                seen.add(file.source_id)
                found.files.append(file)
    found.files.sort(key=lambda file: file.source_id)
    return found


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder still to be read, the root it belongs to, and the .gitignore patterns that hold in it."""

    path: Path
    label: str
    root: Path
    ignores: list[tuple[Path, GitIgnoreSpec]]


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why a path is left out: the pattern that did it, empty where no pattern of ``sources.include`` matches.

    ``origin`` is ``sources.exclude``, ``sources.include`` or the path of a .gitignore.
    """

    pattern: str
    origin: str


class Walk:
    """The walk over one scope; holds the patterns and the folders already entered."""

    def __init__(
        self,
        scope: Scope,
        roots: Mapping[str, Path],
        config: SourcesConfig,
        left_out: set[tuple[int, int]],
        found: Discovery,
    ) -> None:
        self._scope = scope
        self._config = config
        self._left_out = left_out
        self._found = found
        self._owners = {os.path.normpath(path): label for label, path in roots.items()}
        self._include = _patterns(config.include) if config.include else None
        self._exclude = _patterns(config.exclude)
        self._entered: set[tuple[int, int]] = set()

    def files(self) -> Iterator[FoundFile]:
        target = self._scope.target
        info = self._stat(target)
        if info is None:
            return
        ignores = self.ignores_above(target)
        if not self._scope.named and self._is_below_excluded(target, stat.S_ISDIR(info.st_mode)):
            return
        if not stat.S_ISDIR(info.st_mode):
            # A file named on the command line is wanted even where a pattern excludes it.
            yield from self._file(target, self._scope.label, self._scope.path, info)
            return
        folders = [_Folder(target, self._scope.label, self._scope.path, ignores)]
        while folders:
            yield from self._folder(folders.pop(), folders)

    def ignores_above(self, target: Path) -> list[tuple[Path, GitIgnoreSpec]]:
        """The .gitignore files between the root and the target (the target's own is read by the walk)."""
        if not self._config.use_gitignore:
            return []
        between = [p for p in target.parents if p == self._scope.path or self._scope.path in p.parents]
        return [item for folder in reversed(between) for item in self.gitignore(folder)]

    def _is_below_excluded(self, target: Path, is_folder: bool) -> bool:
        """True when a walk from the root would not come to the target."""
        root = self._scope.path
        path, ignores = root, self.gitignore(root)
        for part in target.relative_to(root).parts:
            path = path / part
            if path.is_symlink() and not self._config.follow_symlinks:
                return True
            info = self._stat(path)
            if info is not None and (info.st_dev, info.st_ino) in self._left_out:
                return True
            if self._is_excluded(path, root, is_folder or path != target, ignores):
                return True
            if path != target:
                ignores = ignores + self.gitignore(path)
        return False

    def gitignore(self, folder: Path) -> list[tuple[Path, GitIgnoreSpec]]:
        if not self._config.use_gitignore:
            return []
        try:
            lines = (folder / ".gitignore").read_bytes().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            self._found.failed.append((folder / ".gitignore", _reason(error)))
            return []
        return [(folder, _patterns(lines))]

    def _folder(self, here: _Folder, folders: list[_Folder]) -> Iterator[FoundFile]:
        """The files of one folder; the folders in it are put on ``folders``."""
        folder, label, root, ignores = here.path, here.label, here.root, here.ignores
        owner = self._owners.get(os.path.normpath(folder))
        if owner is not None and owner != label:
            label, root = owner, folder
            self._found.scopes.append(Scope(label, root, ""))
        try:
            info = folder.stat()
            with os.scandir(folder) as iterator:
                entries = list(iterator)
        except OSError as error:
            self._found.failed.append((folder, _reason(error)))
            return
        if (info.st_dev, info.st_ino) in self._left_out:
            return
        if (info.st_dev, info.st_ino) in self._entered:
            self._found.skipped["symlink loop"] += 1
            return
        self._entered.add((info.st_dev, info.st_ino))
        ignores = ignores + self.gitignore(folder)
        for entry in entries:
            path = folder / entry.name
            if entry.is_symlink() and not self._config.follow_symlinks:
                self._found.skipped["symlink"] += 1
                continue
            found = self._stat(path)
            if found is None:
                continue
            is_folder = stat.S_ISDIR(found.st_mode)
            if self._is_excluded(path, root, is_folder, ignores):
                self._found.skipped["excluded"] += 1
            elif is_folder:
                folders.append(_Folder(path, label, root, ignores))
            else:
                yield from self._file(path, label, root, found)

    def _file(self, path: Path, label: str, root: Path, info: os.stat_result) -> Iterator[FoundFile]:
        if (info.st_dev, info.st_ino) in self._left_out:
            return
        if not stat.S_ISREG(info.st_mode):
            self._found.skipped["not a regular file"] += 1
        elif info.st_size > self._config.max_file_bytes:
            self._found.skipped["larger than max_file_bytes"] += 1
        else:
            relative = name_of_path(path.relative_to(root))
            yield FoundFile(
                label, relative, str(path), FileStat(info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
            )

    def _is_excluded(self, path: Path, root: Path, is_folder: bool, ignores: list[tuple[Path, GitIgnoreSpec]]) -> bool:
        return self.exclusion(path, root, is_folder, ignores) is not None

    def exclusion(
        self, path: Path, root: Path, is_folder: bool, ignores: list[tuple[Path, GitIgnoreSpec]]
    ) -> Exclusion | None:
        """Why a path of the root is left out, or None; ``ignores`` are the .gitignore files of the folders above it."""
        tail = "/" if is_folder else ""
        relative = name_of_path(path.relative_to(root)) + tail
        excluded = self._exclude.check_file(relative)
        if excluded.include:
            return Exclusion(_pattern(self._exclude, excluded.index), "sources.exclude")
        if self._include is not None and not is_folder and not self._include.match_file(relative):
            return Exclusion("", "sources.include")
        verdict = None
        for folder, patterns in ignores:
            result = patterns.check_file(name_of_path(path.relative_to(folder)) + tail)
            if result.include is not None:
                pattern = _pattern(patterns, result.index)
                verdict = Exclusion(pattern, str(folder / ".gitignore")) if result.include else None
        return verdict

    def _stat(self, path: Path) -> os.stat_result | None:
        try:
            return path.stat()
        except FileNotFoundError:
            if path.is_symlink():
                self._found.skipped["dangling symlink"] += 1
            return None
        except OSError as error:
            self._found.failed.append((path, _reason(error)))
            return None


def _patterns(lines: Sequence[str]) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(lines)


def _pattern(spec: GitIgnoreSpec, index: int | None) -> str:
    """A pattern as it was written."""
    return "" if index is None else str(getattr(spec.patterns[index], "pattern", ""))


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
