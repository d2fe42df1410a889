"""Tidying an index: what no source needs any more is deleted, and its space given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragstack.archive.unreferenced import unreferenced
from ragstack.assembly import SharedIndex
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.indexer.compaction import copy_generation
from ragstack.indexer.databases import SUFFIXES, compact_database, free_pages
from ragstack.indexer.disk import disk_bytes
from ragstack.indexer.maintenance import ExistingIndex, open_existing, remove_unknown, store_folder
from ragstack.indexer.staging import fault_point
from ragstack.ledger.schema import ARCHIVE_FILE, LEDGER_FILE, collection_name
from ragstack.ledger.snapshot import no_index


@dataclass(frozen=True)
class GcReport:
    """What was deleted, and the bytes that each part takes on disk before and after."""

    purged_versions: int
    recovered: bool
    documents: int
    leftovers: tuple[str, ...]
    compacted: bool
    before: Mapping[str, int]
    after: Mapping[str, int]

    @property
    def freed_bytes(self) -> int:
        """How much less the index takes; less than 0 where optimising took more than was freed."""
        return sum(self.before.values()) - sum(self.after.values())

    def to_json(self) -> dict[str, Any]:
        """The report as ``ragstack gc --json`` prints it."""
        return {
            "purged_versions": self.purged_versions,
            "recovered": self.recovered,
            "documents": self.documents,
            "leftovers": list(self.leftovers),
            "compacted": self.compacted,
            "before": {**self.before, "total": sum(self.before.values())},
            "after": {**self.after, "total": sum(self.after.values())},
            "freed_bytes": self.freed_bytes,
            "exit_status": 0,
        }


def collect_garbage(
    loaded: LoadedConfig,
    state_dir: Path,
    *,
    compact: bool = False,
    shared: SharedIndex | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> GcReport:
    """Purge superseded versions, delete what nothing refers to, optimise the store and the databases.

    A group that a killed run had staged is taken back. A generation that is being built beside the active
    one is kept. With ``compact`` the index is copied into fresh files, which also frees what deleted
    chunks take in the store; that needs as much free space again. ``progress`` gets chunks copied and
    chunks in all. Nothing that a query sees changes. Raises what opening an index raises, and StoreError.
    """
    with open_existing(loaded, state_dir, shared) as index:
        if index is None:
            raise no_index(state_dir)
        workspace = index.workspace
        before = index_sizes(state_dir, workspace.config)
        superseded = len(workspace.ledger.superseded(index.generation.generation))
        is_pending = index.generation.group_open or superseded > 0
        retired = [g for g in workspace.ledger.generations() if g.state == "retired"]
        if retired:
            workspace.drop_retired()
        leftovers = [*(collection_name(g.generation) for g in retired), *remove_unknown(workspace)]
        fault_point("gc-leftovers")
        if is_pending:
            recover(index)
        garbage = unreferenced(workspace.archive, workspace.ledger.live_documents())
        workspace.archive.delete(garbage)
        workspace.archive.flush()
        fault_point("gc-documents")
        if compact:
            copy_generation(index.refreshed(), (), progress)
        elif collection_name(index.generation.generation) in workspace.store.collections():
            workspace.optimize(index.generation)
        _compact_databases(state_dir)
        after = index_sizes(state_dir, workspace.config)
    return GcReport(superseded, is_pending, len(garbage), tuple(leftovers), compact, before, after)


def recover(index: ExistingIndex) -> None:
    """Take back what a killed run had staged, and purge what was superseded."""
    index.workspace.stager(index.generation).recover()


def _compact_databases(state_dir: Path) -> None:
    tokens = [(path, "store of token vectors") for path in sorted(state_dir.glob("tokens-*.db"))]
    for path, what in [(state_dir / ARCHIVE_FILE, "document archive"), *tokens, (state_dir / LEDGER_FILE, "ledger")]:
        if path.exists():
            compact_database(path, what, rewrite=free_pages(path) > 0)


def index_sizes(state_dir: Path, config: PipelineConfig) -> dict[str, int]:
    """Bytes on disk by part of the index."""

    def database(name: str) -> int:
        return sum(disk_bytes(state_dir / (name + suffix)) for suffix in SUFFIXES)

    tokens = {path.name for path in state_dir.glob("tokens-*.db")}
    return {
        "ledger": database(LEDGER_FILE),
        "archive": database(ARCHIVE_FILE),
        "token_vectors": sum(database(name) for name in tokens),
        "store": disk_bytes(store_folder(config, state_dir)),
    }
