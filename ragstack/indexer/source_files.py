"""What files, roots and past runs tell of a name that is looked for in the index: the reader of ``query --explain``."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ragstack.config.models import PipelineConfig
from ragstack.config.server_documents import INCOMING, upload_dir
from ragstack.errors import InputError, SourceError
from ragstack.indexer.left_out import why_left_out
from ragstack.indexer.prepare import read_file
from ragstack.indexer.roots import Scope
from ragstack.ledger.listing import list_sources
from ragstack.ledger.snapshot import IndexedSource
from ragstack.ledger.writer import Ledger
from ragstack.parsing.base import RawSource
from ragstack.parsing.registry import is_supported, media_type_of, parser_for, sniff
from ragstack.source_names import name_of_path, path_of_name, path_of_uri
from ragstack.types import Source, sha256_hex

_NEAR_MATCHES = 3
_NAMES_COMPARED = 20_000


@dataclass(frozen=True, slots=True)
class FileFinding:
    """Why a name is no indexed source, and what to do."""

    outcome: Literal["not_a_source", "not_indexed"]
    detail: str
    advice: str


class SourceFiles:
    """Reads the file system and the ledger of one index; for those who may read the machine's files.

    A :class:`ragstack.retrieval.explain.locate.Files`.
    """

    def __init__(self, config: PipelineConfig, state_dir: Path, config_file: Path | None) -> None:
        self._config = config
        self._state_dir = state_dir
        receiving = upload_dir(config.server.documents, state_dir) / INCOMING
        self._leave_out = [state_dir, receiving, *([config_file] if config_file is not None else [])]

    def source_ids(self, name: str) -> list[str]:
        """The source ids that a path may have, read from the working directory and below each root."""
        path = _absolute(name)
        paths = set() if path is None else {path, Path(os.path.realpath(path))}
        return [
            f"{label}/{name_of_path(path.relative_to(root))}"
            for path in sorted(paths)
            for label, root in self._known.roots.items()
            if root in path.parents
        ]

    def why_not(self, name: str) -> FileFinding:
        """Why a name that is no indexed source is none."""
        path = next((path for path in self._places(name) if os.path.lexists(path)), None)
        if path is None:
            return self._missing(name)
        if path.is_dir():
            return FileFinding("not_a_source", f"{path} is a folder.", "Name a file in it.")
        if not path.exists():
            return FileFinding("not_a_source", f"{path} is a symbolic link that leads nowhere.", "")
        left_out = why_left_out(path, self._known.scopes, self._known.roots, self._config.sources, self._leave_out)
        if left_out is not None:
            return FileFinding("not_a_source", left_out.detail, left_out.advice)
        failure = self._known.failures.get(str(path))
        if failure is not None:
            detail = f"{path} could not be read by the last run: {failure}"
            return FileFinding("not_indexed", detail, "Mend the file, and run: ragstack index")
        detail = f"{path} is a source, but no run has read it: it is newer than the last run over its folder."
        return FileFinding("not_indexed", detail, "Run: ragstack index")

    def skipped(self, source: IndexedSource) -> FileFinding:
        """Why a source that is known has no text in the index."""
        reasons = {
            "binary": ("its bytes are no text, and its name says no format that is read", "Convert it to text."),
            "empty": ("it holds no text", ""),
        }
        reason, advice = reasons.get(source.skipped, (source.skipped or "it holds no text", "Convert it to text."))
        return FileFinding("not_a_source", f"{source.source_id} was read and skipped: {reason}.", advice)

    def trouble(self, source: IndexedSource) -> str | None:
        """Why the last run could not read the source as it is now, so that an older version is indexed; or None."""
        path = path_of_uri(source.source_uri)
        return None if path is None else self._known.failures.get(str(path))

    def documents_now(self, source: IndexedSource) -> dict[str, str] | None:
        """The canonical texts, by record, of the file as it is now.

        None when that is the indexed version, and when the file is gone or cannot be read any more.
        """
        path = path_of_uri(source.source_uri)
        try:
            if path is None or not path.is_file() or path.stat().st_size > self._config.sources.max_file_bytes:
                return None
            data = read_file(path).data
            version = sha256_hex(data)
            media_type = media_type_of(name_of_path(path.name)) or sniff(data)
            if version == source.source_version or media_type is None or not is_supported(media_type):
                return None
            raw = RawSource(Source(source.source_id, source.source_uri, version), data, media_type)
            documents = list(parser_for(media_type).parse(raw))
        except (OSError, SourceError, InputError):
            return None  # the run that comes to it reports it; here the indexed version is what counts
        return {document.source.source_id[len(source.source_id) + 1 :]: document.text for document in documents}

    def _missing(self, name: str) -> FileFinding:
        ids = [row.source_id for row in list_sources(self._state_dir, "", _NAMES_COMPARED)]
        base = name.rstrip("/").rpartition("/")[2]
        same = [source_id for source_id in ids if source_id.rpartition("/")[2] == base]
        near = list(dict.fromkeys([*same, *difflib.get_close_matches(name, ids, n=_NEAR_MATCHES)]))[:_NEAR_MATCHES]
        hint = f"Near it: {', '.join(near)}." if near else "`ragstack status` shows what is indexed."
        return FileFinding("not_a_source", f"There is no file {name_of_path(name)}, and no source of this name.", hint)

    def _places(self, name: str) -> Sequence[Path]:
        """Where a name may be: as a path, and as a source id below its root."""
        path, source_id = _absolute(name), name.removeprefix("id:")
        if path is None:
            return []
        below = [
            root / path_of_name(source_id[len(label) + 1 :])
            for label, root in self._known.roots.items()
            if source_id.startswith(f"{label}/")
        ]
        return below if source_id != name else [path, *below]

    @cached_property
    def _known(self) -> _Known:
        with closing(Ledger(self._state_dir)) as ledger:
            roots = {label: path_of_name(path) for label, path in ledger.roots().items()}
            scopes = [Scope(label, roots[label], relative) for label, relative in ledger.scopes()]
            last: dict[str, Any] = (ledger.last_run() or {}).get("report") or {}
        failures = {failed["path"]: failed["reason"] for failed in last.get("failed", ())}
        return _Known(roots, scopes, failures)


@dataclass(frozen=True)
class _Known:
    """What the ledger knows of places; ``failures`` are reasons by path, of the last run."""

    roots: dict[str, Path]
    scopes: list[Scope]
    failures: dict[str, str]


def _absolute(name: str) -> Path | None:
    """The path that a name is, or None where no path can be called so."""
    if "\0" in name:
        return None
    try:
        expanded = Path(name).expanduser()
    except RuntimeError:  # "~somebody" who is not known here
        expanded = Path(name)
    return Path(os.path.abspath(expanded))  # noqa: PTH100 - links stay as they were named
