"""Repairing an index that a check found at fault.

What is extra is deleted; sources whose chunks or documents are damaged leave the index, in one ledger
transaction that also sets the counts right; then the ordinary index run reads them again. A file that
cannot be read as a whole is replaced by building a new generation.

Order of durable steps in place: the mark ``repairing`` is set; the generation is marked ``group_open``; extra chunks,
token vectors and documents are deleted; the ledger drops the damaged sources, naming their chunks as superseded;
these are purged; the mark is taken back. Last, the sources are read and the mark ``repairing`` is taken away. Killed
anywhere, the next repair does what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragstack.assembly import SharedIndex
from ragstack.config.loader import LoadedConfig
from ragstack.errors import RagstackError
from ragstack.indexer.collect import recover
from ragstack.indexer.databases import remove_database
from ragstack.indexer.findings import Difference, Findings
from ragstack.indexer.fsck import check
from ragstack.indexer.maintenance import ExistingIndex, open_existing, remove_unknown
from ragstack.indexer.report import FailedSource, IndexProgress
from ragstack.indexer.run import IndexRequest
from ragstack.indexer.run import index as run_index
from ragstack.indexer.staging import fault_point
from ragstack.ledger.schema import ARCHIVE_FILE, REPAIRING_FILE, collection_name
from ragstack.ledger.spans import span_chunk_ids
from ragstack.ledger.upkeep import LedgerUpkeep
from ragstack.source_names import path_of_name

_BATCH = 500


@dataclass
class Repair:
    """What a repair did.

    ``dropped`` sources were damaged (all, for a rebuild); of these ``read_again`` are in the index again, ``gone`` have
    no file any more. ``failed`` are files that the run could not read; ``error`` is why there was no run, or empty.
    """

    method: str
    dropped: list[str] = field(default_factory=list)
    read_again: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    failed: list[FailedSource] = field(default_factory=list)
    error: str = ""
    left: list[Difference] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The repair as ``ragstack fsck --json`` prints it."""
        return {
            "method": self.method,
            "dropped": self.dropped,
            "read_again": self.read_again,
            "gone": self.gone,
            "failed": [{"path": f.path, "reason": f.reason} for f in self.failed],
            "error": self.error,
            "left": [difference.to_json() for difference in self.left],
        }


@dataclass(frozen=True)
class FsckReport:
    """What a check found in which generation, and what was done about it."""

    generation: int
    findings: Findings
    repair: Repair | None

    @property
    def exit_status(self) -> int:
        """0 when the index is sound (again), 1 when differences are left."""
        if self.repair is None:
            return 1 if self.findings.differences else 0
        missing = set(self.repair.dropped) - set(self.repair.read_again) - set(self.repair.gone)
        return 1 if self.repair.left or self.repair.error or missing else 0

    def to_json(self) -> dict[str, Any]:
        """The report as ``ragstack fsck --json`` prints it."""
        return {
            "generation": self.generation,
            "checked": {
                "sources": self.findings.sources,
                "chunks": self.findings.chunks,
                "documents": self.findings.documents,
            },
            "pending": self.findings.pending,
            "differences": [difference.to_json() for difference in self.findings.differences],
            "repair": None if self.repair is None else self.repair.to_json(),
            "exit_status": self.exit_status,
        }


def fsck(
    loaded: LoadedConfig,
    state_dir: Path,
    *,
    repair: bool = False,
    shared: SharedIndex | None = None,
    progress: Callable[[int, int], None] | None = None,
    run_progress: IndexProgress | None = None,
    leave_out: Sequence[Path] = (),
) -> FsckReport:
    """Check an index and, with ``repair``, mend it. Nothing is changed without.

    ``progress`` gets chunks checked and chunks in all; ``run_progress`` follows the index run that reads
    dropped sources again, which leaves out the paths ``leave_out``. Raises IndexFormatError where the ledger
    is lost or damaged, IndexNotFoundError without an index, IndexLockedError while another process holds it.
    """
    with open_existing(loaded, state_dir, shared) as index:
        if index is None:
            return FsckReport(0, Findings(), None)
        number = index.generation.generation
        findings = check(index, progress)
        if not repair or not (findings.differences or findings.pending):
            return FsckReport(number, findings, None)
        paths = _paths(index)
        mark = state_dir / REPAIRING_FILE
        was_stopped = mark.exists()
        mark.touch()
        fault_point("repair-marked")
        done = _mend(index, findings, progress)
        if done.method == "rebuild":
            done.dropped = sorted(paths)
    # What a stopped repair had dropped is not known any more; the run finds it.
    if done.dropped or done.method == "rebuild" or was_stopped:
        request = IndexRequest((), rebuild=done.method == "rebuild", leave_out=leave_out)
        try:
            done.failed = run_index(loaded, state_dir, request, run_progress, shared).failed
        except RagstackError as error:
            done.error = str(error)
    if not done.error:
        mark.unlink()
    with open_existing(loaded, state_dir, shared) as index:
        if index is not None:
            present = index.workspace.ledger.sources(index.generation.generation).keys()
            done.read_again = [source_id for source_id in done.dropped if source_id in present]
            done.gone = [i for i in done.dropped if i not in present and not done.error and not paths[i].exists()]
            done.left = check(index, progress, probe=False).differences
    return FsckReport(number, findings, done)


def _mend(index: ExistingIndex, findings: Findings, progress: Callable[[int, int], None] | None) -> Repair:
    """Everything that needs no source: afterwards the index is sound but for what must be read again."""
    workspace = index.workspace
    if not findings.needs_rebuild and findings.pending:
        # Half-built generations may point into documents that are deleted below.
        workspace.drop_others(index.generation)
        if index.generation.group_open:
            recover(index)
        index = index.refreshed()
        findings = check(index, progress)
    if findings.needs_rebuild:
        _clear_the_way(index, findings)
        return Repair("rebuild")
    if findings.differences:
        _mend_in_place(index, findings)
    return Repair("in place", dropped=sorted(findings.damaged_sources))


def _mend_in_place(index: ExistingIndex, findings: Findings) -> None:
    workspace, number = index.workspace, index.generation.generation
    workspace.ledger.set_group_open(number, True)
    fault_point("repair-opened")
    stager = workspace.stager(index.refreshed().generation)
    tokens = index.open_token_vectors()
    try:
        for ids in _batches(findings.extra_chunks):
            workspace.store.delete(collection_name(number), ids=ids)
        for ids in _batches(findings.extra_tokens):
            if tokens is not None:
                tokens.delete(ids)
    finally:
        if tokens is not None:
            tokens.close()
    workspace.store.flush(collection_name(number))
    remove_unknown(workspace)
    fault_point("repair-extra")
    rows = workspace.ledger.sources(number)
    stale = [
        identity
        for source_id in findings.damaged_sources
        for identity in span_chunk_ids(
            source_id, rows[source_id].source_version, rows[source_id].spans, index.generation.fingerprint
        )
    ]
    left = sum(len(row.spans) for source_id, row in rows.items() if source_id not in findings.damaged_sources)
    with LedgerUpkeep(workspace.state_dir) as upkeep:
        upkeep.drop_sources(number, findings.damaged_sources, stale, findings.frequencies, left)
    fault_point("repair-dropped")
    # Recovering deletes the chunks of what was dropped, and every document that nothing refers to now.
    stager.recover()
    fault_point("repair-purged")
    workspace.archive.delete(findings.bad_documents)
    workspace.archive.flush()
    workspace.optimize(index.generation)


def _clear_the_way(index: ExistingIndex, findings: Findings) -> None:
    """Remove what would stop a rebuild: a damaged archive, and generations that were begun and never finished."""
    workspace = index.workspace
    kinds = {difference.kind for difference in findings.differences}
    remove_unknown(workspace)
    if "archive_unreadable" in kinds:
        remove_database(workspace.state_dir / ARCHIVE_FILE)
        fault_point("repair-archive")
    workspace.drop_others(index.generation if index.generation.state == "active" else None)
    fault_point("repair-cleared")


def _paths(index: ExistingIndex) -> dict[str, Path]:
    """Where each source of the generation that has chunks is read from."""
    ledger = index.workspace.ledger
    roots = {label: path_of_name(path) for label, path in ledger.roots().items()}
    rows = ledger.sources(index.generation.generation).items()
    return {i: roots[row.label] / path_of_name(row.relative) for i, row in rows if row.spans}


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]
