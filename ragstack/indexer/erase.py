"""Erasing sources: afterwards no byte of them is left in any file of the index.

Order of durable steps: the mark ``erasing`` is set; the generation is copied without the sources
(``compaction.py``), its old files and the archived documents are deleted; the ledger forgets the names;
the databases are written anew, so that no freed page or log keeps anything; the mark is taken away.
Killed anywhere, the same command does the rest: until the last step the ledger still knows the names.
"""

from __future__ import annotations

import difflib
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragstack.archive.unreferenced import unreferenced
from ragstack.assembly import SharedIndex
from ragstack.config.loader import LoadedConfig
from ragstack.errors import InputError
from ragstack.indexer.compaction import copy_generation
from ragstack.indexer.databases import compact_database
from ragstack.indexer.maintenance import ExistingIndex, open_existing, remove_unknown
from ragstack.indexer.roots import Scope
from ragstack.indexer.staging import fault_point
from ragstack.ledger.issued_citations import IssuedCitations
from ragstack.ledger.schema import ARCHIVE_FILE, ERASING_FILE, LEDGER_FILE
from ragstack.ledger.snapshot import no_index
from ragstack.ledger.upkeep import LedgerUpkeep
from ragstack.source_names import name_of_path, path_of_name
from ragstack.types import canonical_json, sha256_hex

_NEAR_MATCHES = 3


@dataclass(frozen=True, slots=True)
class ErasedSource:
    """A source that was erased; ``path`` is None where its root is not known any more.

    ``returns`` is True while the file exists and the next ``ragstack index`` would read it. ``same_text_in``
    are sources with the same bytes that stay in the index.
    """

    source_id: str
    chunks: int
    path: Path | None
    returns: bool
    same_text_in: tuple[str, ...]


@dataclass(frozen=True)
class EraseReport:
    """What was erased (or, with ``dry_run``, would be), and the chunks that are left."""

    erased: Sequence[ErasedSource]
    generation: int
    chunk_count: int
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """The report as ``ragstack rm --json`` prints it."""
        return {
            "erased": [
                {
                    "source_id": source.source_id,
                    "chunks": source.chunks,
                    "path": None if source.path is None else str(source.path),
                    "indexed_again_by_next_run": source.returns,
                    "same_text_in": list(source.same_text_in),
                }
                for source in self.erased
            ],
            "generation": self.generation,
            "chunk_count": self.chunk_count,
            "dry_run": self.dry_run,
            "exit_status": 0,
        }


@dataclass(frozen=True)
class Selection:
    """Sources to erase, and the scopes that were named whole: they are forgotten too."""

    source_ids: frozenset[str]
    scopes: tuple[tuple[str, str], ...]


def erase(
    loaded: LoadedConfig,
    state_dir: Path,
    targets: Sequence[str],
    *,
    dry_run: bool = False,
    shared: SharedIndex | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EraseReport:
    """Erase sources from store, archive, token vectors and ledger; the files themselves are not touched.

    ``targets`` are source ids, paths, or prefixes of either that end at a folder. ``progress`` gets chunks
    copied and chunks in all. Raises InputError for a target that names no source (with near matches),
    StoreError when what remains does not fit beside the old files, and what opening an index raises.
    """
    with open_existing(loaded, state_dir, shared) as index:
        if index is None:
            raise no_index(state_dir)
        workspace = index.workspace
        mark, digest = state_dir / ERASING_FILE, sha256_hex(canonical_json(sorted(targets)).encode())
        with LedgerUpkeep(state_dir) as upkeep:
            roots = {label: path_of_name(path) for label, path in workspace.ledger.roots().items()}
            try:
                selection = select_sources(targets, upkeep.source_ids(), roots, workspace.ledger.scopes())
            except InputError:
                if dry_run or not mark.exists() or mark.read_text() != digest:
                    raise
                # The same erasure was killed after the ledger had forgotten the names: the last step is left.
                selection = Selection(frozenset(), ())
            erased = _described(index, selection, roots)
            if dry_run:
                return EraseReport(erased, index.generation.generation, index.generation.chunk_count, True)
            mark.write_text(digest)
            fault_point("erasing")
            remove_unknown(workspace)
            generation = copy_generation(index, selection.source_ids, progress)
            workspace.archive.delete(unreferenced(workspace.archive, workspace.ledger.live_documents()))
            workspace.archive.flush()
            fault_point("erased-documents")
            compact_database(state_dir / ARCHIVE_FILE, "document archive", rewrite=True)
            fault_point("erased-archive")
            with IssuedCitations(state_dir) as issued:
                issued.forget(selection.source_ids)
            fault_point("erased-citations")
            upkeep.forget(selection.source_ids, selection.scopes, _names_one_of(erased))
            fault_point("erased-names")
            compact_database(state_dir / LEDGER_FILE, "ledger", rewrite=True)
            mark.unlink()
        left = next(g for g in workspace.ledger.generations() if g.generation == generation.generation)
        return EraseReport(erased, left.generation, left.chunk_count, False)


def select_sources(
    targets: Sequence[str], known: Iterable[str], roots: Mapping[str, Path], scopes: Iterable[tuple[str, str]] = ()
) -> Selection:
    """The known sources that ``targets`` name.

    A target is a source id or the beginning of one up to a ``/``, or a path (relative to the working
    directory, or absolute) of a file or folder in a known root; the file need not exist. ``id:`` before a
    target says that it is an id. Raises InputError for a target that names nothing, or one thing as an id
    and another as a path.
    """
    ids = sorted(known)
    chosen: set[str] = set()
    names: list[str] = []
    for target in targets:
        readings = [name for name in _readings(target, roots) if _below(name, ids)]
        if not readings:
            raise _unknown(target, ids, roots)
        if len({frozenset(_below(name, ids)) for name in readings}) > 1:
            raise InputError(
                f"{target}: names {readings[0]!r} as a source id and {readings[1]!r} as a path.",
                hint=f"Write id:{readings[0]} for the one or ./{target} for the other.",
            )
        chosen.update(_below(readings[0], ids))
        names.append(readings[0])
    forgotten = [
        (label, relative)
        for label, relative in scopes
        if any(_is_below(f"{label}/{relative}" if relative else label, name) for name in names)
    ]
    return Selection(frozenset(chosen), tuple(forgotten))


def _readings(target: str, roots: Mapping[str, Path]) -> list[str]:
    """What a target may name, as a source id or the beginning of one: first read as an id, then as a path."""
    if target.startswith("id:"):
        return [target[3:].rstrip("/")]
    path = Path(os.path.abspath(Path(target).expanduser()))  # noqa: PTH100 - links stay as they were named
    inside = [(label, root) for label, root in roots.items() if path == root or root in path.parents]
    below = [f"{label}/{name_of_path(path.relative_to(root))}".removesuffix("/.") for label, root in inside]
    # A folder above roots names all of them.
    above = [label for label, root in roots.items() if path in root.parents]
    is_path_only = Path(target).is_absolute() or target.startswith((".", "~"))
    as_id = [] if is_path_only else [target.rstrip("/")]
    return list(dict.fromkeys([*as_id, *below, *(above if len(above) == 1 else [])]))


def _below(name: str, ids: Sequence[str]) -> list[str]:
    """The ids (sorted) that are ``name`` or lie below it; none for an empty name."""
    if not name:
        return []
    exact = bisect_left(ids, name)
    found = [name] if exact < len(ids) and ids[exact] == name else []
    # "0" is the character after "/".
    return found + list(ids[bisect_left(ids, name + "/") : bisect_left(ids, name + "0")])


def _is_below(source_id: str, name: str) -> bool:
    return source_id == name or source_id.startswith(name + "/")


def _unknown(target: str, ids: Sequence[str], roots: Mapping[str, Path]) -> InputError:
    container = target.rpartition("#")[0].removeprefix("id:")
    if container in ids:
        return InputError(
            f"{target}: a record is erased with the file that holds it.", hint=f"To erase that: ragstack rm {container}"
        )
    wanted = [*_readings(target, roots), target]
    near = list(dict.fromkeys(m for name in wanted for m in difflib.get_close_matches(name, ids, n=_NEAR_MATCHES)))
    # A wrong folder before a right file name is the likeliest slip.
    same_name = [i for i in ids if i.rpartition("/")[2] == target.rstrip("/").rpartition("/")[2]]
    shown = list(dict.fromkeys([*same_name, *near]))[:_NEAR_MATCHES]
    hint = f"Near it: {', '.join(shown)}." if shown else f"Known roots: {', '.join(sorted(roots)) or 'none'}."
    return InputError(f"{target}: no source of this name or path was ever indexed.", hint=hint)


def _described(index: ExistingIndex, selection: Selection, roots: Mapping[str, Path]) -> list[ErasedSource]:
    ledger = index.workspace.ledger
    rows = ledger.sources(index.generation.generation)
    versions: dict[str, list[str]] = {}
    for source_id, row in rows.items():
        if source_id not in selection.source_ids and row.spans:
            versions.setdefault(row.source_version, []).append(source_id)
    kept = [Scope(label, roots[label], rel) for label, rel in ledger.scopes() if (label, rel) not in selection.scopes]
    described = []
    for source_id in sorted(selection.source_ids):
        published = rows.get(source_id)
        place = _place(source_id, roots)
        path = None if place is None else roots[place[0]] / path_of_name(place[1])
        returns = place is not None and any(scope.contains(*place) for scope in kept)
        described.append(
            ErasedSource(
                source_id,
                len(published.spans) if published is not None else 0,
                path,
                returns and path is not None and path.exists(),
                tuple(versions.get(published.source_version, ())) if published is not None else (),
            )
        )
    return described


def _place(source_id: str, roots: Mapping[str, Path]) -> tuple[str, str] | None:
    """Label and relative path of a source id; None where no known root has that label."""
    labels = [label for label in roots if source_id.startswith(label + "/")]
    if not labels:
        return None
    label = max(labels, key=len)
    return label, source_id[len(label) + 1 :]


def _names_one_of(erased: Sequence[ErasedSource]) -> Callable[[str], bool]:
    paths = {str(source.path) for source in erased if source.path is not None}
    return lambda path: path in paths
