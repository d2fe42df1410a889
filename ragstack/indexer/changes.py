"""Notifications of the operating system about files and folders, in batches of changed paths."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import watchfiles
from pathspec import GitIgnoreSpec

from ragstack.errors import RagstackError
from ragstack.indexer.file_identity import file_identity
from ragstack.source_names import name_of_path

_ATTEMPTS = 5


@dataclass(frozen=True)
class WatchPace:
    """Times, in seconds.

    A batch ends when nothing has changed for ``quiet_s``, at the latest ``longest_s`` after its first
    change. Roots are looked for every ``tick_s``. A run that failed is repeated after ``retry_s``, which
    doubles up to ``longest_retry_s``.
    """

    quiet_s: float = 0.4
    longest_s: float = 4.0
    tick_s: float = 1.0
    retry_s: float = 2.0
    longest_retry_s: float = 60.0


class Relevance:
    """Which events are about sources: not the index's own files, nor what the config excludes."""

    def __init__(
        self, targets: Sequence[Path], roots: Sequence[Path], exclude: Sequence[str], leave_out: Sequence[Path]
    ) -> None:
        self._targets = targets
        self._roots = roots
        self._excluded = GitIgnoreSpec.from_lines(exclude)
        self._left_out = {Path(os.path.realpath(path)) for path in leave_out}
        # Some systems report the real path of a folder that was named by a link.
        self._real = {Path(os.path.realpath(path)): path for path in targets}

    def path_of(self, event: str) -> Path | None:
        """The path that an event is about, below a target, or None when it does not matter."""
        # A name that is not UTF-8 comes with replacement characters: look at its folder.
        path = Path(event).parent if "\ufffd" in event else Path(event)
        if path.name == ".gitignore":
            # Hidden files are excluded, but what this one says is about the folder it is in.
            path = path.parent
        for real, named in self._real.items():
            if real != named and (path == real or real in path.parents):
                path = named / path.relative_to(real)
        real_path = Path(os.path.realpath(path))
        if any(real_path == left or left in real_path.parents for left in self._left_out):
            return None
        if any(path == target or path in target.parents for target in self._targets):
            return path
        if not any(target in path.parents for target in self._targets):
            return None
        # Patterns are relative to the root that a path belongs to, which is the innermost one.
        root = max((root for root in self._roots if root in path.parents), key=lambda root: len(root.parts))
        return None if self._excluded.match_file(name_of_path(path.relative_to(root))) else path


class Changes:
    """Notifications about the targets, in batches; looks after targets that vanish and come back."""

    def __init__(self, targets: Sequence[Path], relevance: Relevance, pace: WatchPace) -> None:
        self._targets = targets
        self._relevance = relevance
        self._pace = pace
        self._events: queue.Queue[Iterable[str] | Exception] = queue.Queue()
        self._followers: list[_Follower] = []
        self._followed: dict[Path, tuple[int, int]] = {}
        self._told_missing: set[Path] = set()

    @contextmanager
    def followed(self) -> Iterator[None]:
        """The block in which notifications are collected. Raises RagstackError when that is not possible."""
        try:
            self._renew()
            yield
        finally:
            self._stop()

    def wait(self, timeout_s: float) -> set[Path] | None:
        """The paths that changed; empty when nothing did for ``timeout_s``; None when anything may have."""
        lost = self._plan() != self._followed
        if lost:
            self._renew()
        paths: set[Path] = set()
        try:
            batch = self._events.get(timeout=0.0 if lost else max(timeout_s, 0.001))
            while True:
                if isinstance(batch, Exception):
                    self._renew()
                    lost = True
                else:
                    found = map(self._relevance.path_of, batch)
                    paths.update(path for path in found if path is not None)
                batch = self._events.get_nowait()
        except queue.Empty:
            pass
        if any(path in self._followed and path in self._targets for path in paths):
            # The folder itself was moved or replaced; what follows the old one sees nothing any more.
            self._renew()
            lost = True
        return None if lost else paths

    def missing(self) -> list[Path]:
        """Targets that vanished since this was asked last."""
        gone = {path for path in self._targets if not os.path.lexists(path)}
        news, self._told_missing = gone - self._told_missing, gone
        return sorted(news)

    def _renew(self) -> None:
        """Follow anew. Raises RagstackError when that fails several times."""
        for attempt in range(_ATTEMPTS):
            self._stop()
            if self._try_to_follow(is_last=attempt == _ATTEMPTS - 1):
                return

    def _try_to_follow(self, *, is_last: bool) -> bool:
        self._followed = self._plan()
        folders = [path for path in self._followed if path in self._targets]
        beside = [path for path in self._followed if path not in self._targets]
        for paths, recursive in ((folders, True), (beside, False)):
            if paths:
                follower = _Follower(paths, recursive, self._events, self._pace)
                self._followers.append(follower)
                error = follower.start_following()
                if error is not None and is_last:
                    raise RagstackError(
                        f"cannot follow {', '.join(map(str, paths))}: {error}.",
                        hint="On Linux, raise the limits fs.inotify.max_user_watches and max_user_instances with"
                        " sysctl, or set WATCHFILES_FORCE_POLLING=1 to look for changes regularly.",
                    ) from error
                if error is not None:
                    return False
        return True

    def _plan(self) -> dict[Path, tuple[int, int]]:
        """The folders to follow now: targets, and the folders that files and missing targets are in.

        Editors replace files by renaming, so a file is followed by way of its folder.
        """
        folders = [path if path.is_dir() else path.parent for path in self._targets]
        identities = {path: file_identity(path) for path in folders}
        return {path: identity for path, identity in identities.items() if identity is not None}

    def _stop(self) -> None:
        for follower in self._followers:
            follower.stop()
        self._followers = []


class _Follower(threading.Thread):
    """Hands on the notifications about some paths; an exception when there will be no more of them."""

    def __init__(
        self, paths: Sequence[Path], recursive: bool, events: queue.Queue[Iterable[str] | Exception], pace: WatchPace
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self._paths = paths
        self._recursive = recursive
        self._events = events
        self._pace = pace
        self._ready = threading.Event()
        self._stopped = threading.Event()
        self._error: Exception | None = None

    def start_following(self) -> Exception | None:
        """Return when changes are being noticed, or with what went wrong.

        It may be a lasting trouble (limits of the system), or a passing one: a folder vanished meanwhile,
        or a file with a name that is not UTF-8 changed, which the library cannot tell of.
        """
        self.start()
        self._ready.wait()
        return self._error

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self.ident is not None:
            self.join()

    def run(self) -> None:
        """The thread: one batch after another."""
        try:
            for batch in watchfiles.watch(
                *self._paths,
                watch_filter=None,
                debounce=int(self._pace.longest_s * 1000),
                step=int(self._pace.quiet_s * 1000),
                stop_event=self._stopped,
                rust_timeout=int(self._pace.quiet_s * 1000),
                yield_on_timeout=True,
                raise_interrupt=False,
                recursive=self._recursive,
                ignore_permission_denied=True,
            ):
                self._ready.set()
                if batch:
                    self._events.put([path for _, path in batch])
        except Exception as error:
            self._error = error
            if self._ready.is_set():
                self._events.put(error)
        finally:
            self._ready.set()
