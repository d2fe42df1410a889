"""Checking an index: ledger, archive, token vectors and store are compared, and every difference is named.

Nothing is changed here; ``repair.py`` does that. Memory is bounded by a page of chunks, one document, the
ids of all chunks and the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from ragstack.adapters.base import Record
from ragstack.adapters.qdrant_damage import deadly_because
from ragstack.archive.base import ArchivedDocument, DocumentKey
from ragstack.assembly import build_bm25
from ragstack.config.stores.qdrant_edge import QdrantEdgeStoreConfig
from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.errors import IndexFormatError, IndexLockedError, StoreError
from ragstack.indexer.chunk_check import commit_group, compare_chunk
from ragstack.indexer.databases import integrity_problems
from ragstack.indexer.findings import Faults, Findings
from ragstack.indexer.maintenance import ExistingIndex, store_folder, unknown_collections, unknown_files
from ragstack.indexer.statistics import KINDS, count_terms, count_tokens, new_counts
from ragstack.ledger.schema import (
    ARCHIVE_FILE,
    ERASING_FILE,
    LANGUAGES,
    LEDGER_FILE,
    LENGTHS,
    REPAIRING_FILE,
    TERMS,
    collection_name,
)
from ragstack.ledger.spans import span_chunk_ids
from ragstack.ledger.upkeep import LedgerUpkeep
from ragstack.ledger.writer import SourceRow
from ragstack.reranking.base import TokenVectorStore
from ragstack.types import TokenVectors

_PAGE = 500


def check(index: ExistingIndex, progress: Callable[[int, int], None] | None = None, *, probe: bool = True) -> Findings:
    """Compare everything that the generation consists of. ``progress`` gets chunks checked and chunks in all.

    With ``probe`` another process reads the store first, in case damaged files end the one that reads them.

    Raises IndexFormatError for a damaged ledger: nothing else can be judged without it. IndexLockedError
    when the store is held by another process.
    """
    state_dir = index.workspace.state_dir
    problems = integrity_problems(state_dir / LEDGER_FILE)
    if problems:
        raise IndexFormatError(
            f"{state_dir / LEDGER_FILE}: the ledger is damaged: {problems[0]}.",
            hint=f"Delete {state_dir} and run `ragstack index PATH` again; the sources are not touched.",
        )
    with ExitStack() as stack:
        scan = _Scan(index, stack, probe)
        scan.look_at_files()
        if not scan.findings.needs_rebuild:
            try:
                scan.run(progress)
            except IndexLockedError:
                raise
            except StoreError as error:
                # Single records were tried one by one; what still fails is the collection.
                scan.findings.add("store_unreadable", scan.collection, str(error.message))
        return scan.findings


class _Scan:
    """One pass over a generation."""

    def __init__(self, index: ExistingIndex, stack: ExitStack, probe: bool) -> None:
        self._probe = probe
        self.index = index
        self.findings = Findings()
        self.collection = collection_name(index.generation.generation)
        self._stack = stack
        self._workspace = index.workspace
        self._rows = index.workspace.ledger.sources(index.generation.generation)
        self._superseded = index.workspace.ledger.superseded(index.generation.generation)
        self._tokens: TokenVectorStore | None = None

    def look_at_files(self) -> None:
        """Pending work, leftovers, and whether each file can be opened and is whole."""
        findings, workspace, generation = self.findings, self._workspace, self.index.generation
        total = sum(len(row.spans) for row in self._rows.values())
        findings.sources, findings.chunks = len(self._rows), total
        self._note_pending()
        if generation.chunk_count != total:
            findings.add("count_wrong", LEDGER_FILE, f"{generation.chunk_count} is recorded, {total} are named")
        holds_nothing = not self._rows and not generation.chunk_count
        archive = workspace.state_dir / ARCHIVE_FILE
        if not archive.exists() or archive.stat().st_size == 0:
            if not holds_nothing:
                findings.add("archive_unreadable", ARCHIVE_FILE, "the file is missing or empty")
        else:
            self._try_database("archive_unreadable", ARCHIVE_FILE, lambda: workspace.archive.keys())  # noqa: PLW0108 - opening it may fail
        self._open_tokens(holds_nothing)
        self._open_collection(holds_nothing)
        for name in [*unknown_collections(workspace), *(path.name for path in unknown_files(workspace))]:
            findings.add("leftover", name, "no generation of the ledger has this number")

    def _open_collection(self, holds_nothing: bool) -> None:
        workspace = self._workspace
        folder = store_folder(workspace.config, workspace.state_dir)
        if self._probe and not workspace.is_store_open and (folder / self.collection).is_dir():
            why = self._deadly_because(folder)
            if why:
                self.findings.add("store_unreadable", self.collection, why)
                return
        try:
            if self.collection in workspace.store.collections() or not holds_nothing:
                workspace.store.count(self.collection)
        except IndexLockedError:
            raise
        except StoreError as error:
            self.findings.add("store_unreadable", self.collection, error.message)

    def _deadly_because(self, folder: Path) -> str:
        config = self._workspace.config
        if not isinstance(config.store, QdrantEdgeStoreConfig):
            return ""
        return deadly_because(folder / self.collection)

    def _note_pending(self) -> None:
        generations = self._workspace.ledger.generations()
        pending = self.findings.pending
        if self.index.generation.group_open:
            pending.append("a run was stopped: what it had staged is taken back by the next `ragstack index`")
        if self._superseded:
            pending.append(f"{len(self._superseded)} replaced versions wait to be purged")
        for other in generations:
            if other.generation != self.index.generation.generation:
                word = "is left of an earlier build" if other.state == "retired" else "is being built"
                pending.append(f"generation {other.generation} {word}")
        if (self._workspace.state_dir / ERASING_FILE).exists():
            pending.append("an erasure was stopped: run the same `ragstack rm` again")
        if (self._workspace.state_dir / REPAIRING_FILE).exists():
            pending.append("a repair was stopped: run `ragstack fsck --repair` again")

    def _open_tokens(self, holds_nothing: bool) -> None:
        path = self.index.token_vectors_path
        if not self.index.keeps_token_vectors or (holds_nothing and not path.exists()):
            return
        if not path.exists() or path.stat().st_size == 0:
            self.findings.add("tokens_unreadable", path.name, "the file is missing or empty")
            return
        self._try_database("tokens_unreadable", path.name, self._open_token_file)

    def _open_token_file(self) -> None:
        self._tokens = self.index.open_token_vectors()
        if self._tokens is not None:
            self._stack.callback(self._tokens.close)
            self._tokens.chunk_ids()

    def _try_database(self, kind: str, name: str, use: Callable[[], object]) -> None:
        problems = integrity_problems(self._workspace.state_dir / name)
        try:
            if not problems:
                use()
        except IndexFormatError as error:
            problems = [error.message]
        if problems:
            self.findings.add(kind, name, problems[0])

    def run(self, progress: Callable[[int, int], None] | None) -> None:
        """Compare every source, then look for what is extra, then the counts."""
        live: set[str] = set()
        for row in self._rows.values():
            ids = self._ids(row)
            live.update(ids)
            self._check_source(row, ids, None)
            if progress is not None and ids:
                progress(len(live), self.findings.chunks)
        waiting = {
            identity
            for old in self._superseded
            for identity in span_chunk_ids(
                old.source_id, old.source_version, old.spans, self.index.generation.fingerprint
            )
        }
        self._find_extra(live, waiting)
        if not self.findings.damaged_sources:
            self._compare_frequencies()

    def _ids(self, row: SourceRow) -> list[str]:
        return span_chunk_ids(row.source_id, row.source_version, row.spans, self.index.generation.fingerprint)

    def _check_source(self, row: SourceRow, ids: Sequence[str], bm25: Bm25Encoder | None) -> None:
        faults = Faults()
        counts = new_counts()
        documents = self._documents(row, faults)
        if bm25 is None:
            self.findings.documents += len(documents)
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            records = self._fetch(page, faults)
            tokens = self._fetch_tokens(page, faults)
            for identity, span in zip(page, row.spans[start : start + _PAGE], strict=True):
                record = records.get(identity)
                if record is None:
                    if not faults.has("chunk_damaged", identity):
                        faults.add("chunk_missing", identity, "")
                    continue
                compare_chunk(record, row, span, documents.get(span.record), self._newest_seq, faults, bm25)
                term_count, language = record.payload.get("term_count"), record.payload.get("text_language")
                if isinstance(term_count, int) and isinstance(language, str):
                    count_terms(counts, record.sparse, term_count, language)
                else:
                    faults.add("payload_wrong", identity, "it does not tell its number of terms and its language")
                if identity in tokens:
                    count_tokens(counts, tokens[identity].token_ids)
        for kind, (detail, found) in faults.found.items():
            share = f"{len(found)} of {len(ids)} chunks" if found else ""
            self.findings.add(kind, row.source_id, "; ".join(part for part in (share, detail) if part), found)
        if faults.found:
            self.findings.damaged_sources.add(row.source_id)
        else:
            for which, counter in counts.items():
                self.findings.frequencies[which].update(counter)

    @property
    def _newest_seq(self) -> int | None:
        """The largest ``seq`` that a published chunk may have; None while a group is open."""
        return None if self.index.generation.group_open else self.index.generation.committed_seq

    def _documents(self, row: SourceRow, faults: Faults) -> dict[str, ArchivedDocument]:
        documents = {}
        for record in {span.record for span in row.spans}:
            key = DocumentKey(row.source_version, row.parser, record)
            try:
                found = self._workspace.archive.get(key)
            except IndexFormatError as error:
                faults.add("document_damaged", "", error.message)
                self.findings.bad_documents.add(key)
                continue
            if found is None:
                faults.add("document_missing", "", f"version {row.source_version[:12]}…, parser {row.parser}")
            else:
                documents[record] = found
        return documents

    def _fetch(self, ids: Sequence[str], faults: Faults) -> dict[str, Record]:
        try:
            return self._workspace.store.fetch(self.collection, ids)
        except IndexLockedError:
            raise
        except StoreError:
            # One record that cannot be read fails the whole page: find which.
            found: dict[str, Record] = {}
            for identity in ids:
                try:
                    found.update(self._workspace.store.fetch(self.collection, [identity]))
                except StoreError as error:  # noqa: PERF203 - one damaged record must not hide the others
                    faults.add("chunk_damaged", identity, error.message)
            return found

    def _fetch_tokens(self, ids: Sequence[str], faults: Faults) -> dict[str, TokenVectors]:
        if self._tokens is None:
            return {}
        try:
            found = self._tokens.get(ids)
        except IndexFormatError:
            found = {}
            for identity in ids:
                try:
                    found.update(self._tokens.get([identity]))
                except IndexFormatError as error:  # noqa: PERF203 - as above
                    faults.add("tokens_damaged", identity, error.message)
        for identity in ids:
            if identity not in found and not faults.has("tokens_damaged", identity):
                faults.add("tokens_missing", identity, "")
        return found

    def _find_extra(self, live: set[str], waiting: set[str]) -> None:
        findings, generation = self.findings, self.index.generation
        extra: dict[str, list[str]] = {}
        known = live | waiting
        for hit in self._workspace.store.iterate(self.collection) if self._holds_more(live) else ():
            if hit.id in known:
                continue
            if generation.group_open and commit_group(hit.payload) > generation.committed_seq:
                continue
            extra.setdefault(str(hit.payload.get("source_id", "no source")), []).append(hit.id)
        for source_id, ids in extra.items():
            findings.add("chunk_extra", source_id, f"{len(ids)} chunks", ids)
            findings.extra_chunks += ids
        if self._tokens is not None and not generation.group_open:
            findings.extra_tokens = sorted(self._tokens.chunk_ids() - known)
            if findings.extra_tokens:
                count = f"{len(findings.extra_tokens)} chunks"
                findings.add("tokens_extra", self.index.token_vectors_path.name, count, findings.extra_tokens)
        if not findings.pending:
            for key in sorted(self._workspace.archive.keys() - self._workspace.ledger.live_documents()):
                record = f", record {key.record}" if key.record else ""
                findings.add("document_extra", ARCHIVE_FILE, f"{key.source_version[:12]}…, {key.parser}{record}")

    def _holds_more(self, live: set[str]) -> bool:
        missing = sum(
            len(d.chunk_ids) for d in self.findings.differences if d.kind in ("chunk_missing", "chunk_damaged")
        )
        return self._workspace.store.count(self.collection) != len(live) - missing

    def _compare_frequencies(self) -> None:
        with LedgerUpkeep(self._workspace.state_dir) as upkeep:
            recorded = upkeep.frequencies(self.index.generation.generation)
        kinds = [kind for kind in KINDS if recorded.get(kind, {}) != dict(self.findings.frequencies[kind])]
        if {TERMS, LENGTHS, LANGUAGES} & set(kinds):
            # Either the counts are wrong or chunks are: making their vectors again tells, and names the sources.
            bm25 = build_bm25(self._workspace.config)
            self.findings.frequencies = new_counts()
            for row in self._rows.values():
                self._check_source(row, self._ids(row), bm25)
            if self.findings.damaged_sources:
                return
        for kind in kinds:
            counted = self.findings.frequencies[kind]
            told = recorded.get(kind, {})
            wrong = sum(told.get(i, 0) != counted.get(i, 0) for i in told.keys() | counted.keys())
            self.findings.add("frequencies_wrong", LEDGER_FILE, f"{wrong} {KINDS[kind]}")
