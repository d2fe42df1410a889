"""One run of the index path: discover, plan, prepare, embed, stage, publish, purge.

Three threads and the embedder's overlap: files are read, parsed and chunked a few ahead; the caller's thread
hands chunks to the embedder and begins with the next batch while one is worked on; staging and publishing
happen in a third, in order.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from threadpoolctl import threadpool_limits

from ragstack.assembly import SharedIndex, build_bm25, keeps_token_vectors
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig, RootConfig
from ragstack.config.server_documents import INCOMING, upload_dir
from ragstack.embedding.base import Embedder
from ragstack.errors import InputError, InterruptedRunError, StoreError
from ragstack.indexer.batches import ChunkBuffer, demand_of
from ragstack.indexer.discovery import Discovery, FoundFile, discover
from ragstack.indexer.encoding import EncodeQueue, Encoding
from ragstack.indexer.generations import GenerationChoice, Workspace
from ragstack.indexer.interruption import Interruption
from ragstack.indexer.overlap import Writer, preloaded, prepared_ahead
from ragstack.indexer.prepare import Failed, Preparation, Prepared, Unchanged, Vanished
from ragstack.indexer.report import FailedSource, IndexProgress, IndexReport, SilentProgress
from ragstack.indexer.roots import membership, narrowed, require_sources, resolve_scopes
from ragstack.indexer.source_languages import counted_languages, languages_warning
from ragstack.indexer.staging import Stager, fault_point
from ragstack.ledger.writer import PublishedSource
from ragstack.source_names import name_of_path, path_of_name

# A file whose modification time is this close to the moment it was read may have been written again
# within the same tick of the file system's clock, so its times prove nothing (git calls it racy).
_RACY_NS = 2_000_000_000


@dataclass(frozen=True)
class IndexRequest:
    """What to index. Without ``targets``: the config's paths, else everything indexed before.

    With ``changed``, only these paths and what is below them are looked at, as far as they lie in the
    targets. It is for a caller that knows what changed since a run over the targets ended well; a new
    generation looks at everything all the same.
    """

    targets: Sequence[str | RootConfig] = ()
    prune: bool = False
    rebuild: bool = False
    leave_out: Sequence[Path] = ()
    changed: Sequence[Path] | None = None


def index(
    loaded: LoadedConfig,
    state_dir: Path,
    request: IndexRequest,
    progress: IndexProgress | None = None,
    shared: SharedIndex | None = None,
    interruption: Interruption | None = None,
    embedder: Embedder | None = None,
) -> IndexReport:
    """Bring the index in line with the sources. Nothing is lost or doubled if it is killed and run again.

    Raises InputError for bad targets, EmptyRootError when a root is gone or empty, IndexLockedError
    when another process indexes, ConfigError for a contradiction, StoreError when the disk is nearly
    full, InterruptedRunError after Ctrl-C or a request to ``interruption``, with the index consistent.
    Faults of single files are in the report.
    """
    progress = progress or SilentProgress()
    interruption = interruption or Interruption()
    started = time.monotonic()
    # Work is spread over the cores a batch at a time; a matrix library that does so again, for each small product,
    # keeps them busy waiting for one another (a tenth of all CPU time, measured).
    with threadpool_limits(1, "blas"), Workspace.open(loaded, state_dir, shared, embedder) as workspace:
        run = workspace.ledger.begin_run()
        report = IndexReport()
        try:
            _Run(loaded.config, workspace, request, progress, report, interruption).execute()
        except BaseException as error:
            report.seconds = time.monotonic() - started
            status = getattr(error, "exit_status", 130 if isinstance(error, KeyboardInterrupt) else 1)
            # On a full disk this fails for the same reason as the run, which is what the user must be told.
            with suppress(StoreError):
                workspace.ledger.end_run(run, status, report.to_record())
            if isinstance(error, KeyboardInterrupt):
                raise InterruptedRunError(
                    interruption.message(), hint="Run the same command again to go on."
                ) from error
            raise
        report.seconds = time.monotonic() - started
        workspace.ledger.end_run(run, report.exit_status, report.to_record())
        return report


@dataclass
class _Run:
    config: PipelineConfig
    workspace: Workspace
    request: IndexRequest
    progress: IndexProgress
    report: IndexReport
    interruption: Interruption

    def execute(self) -> None:
        self.interruption.check()
        choice = self.workspace.choose_generation(rebuild=self.request.rebuild)
        self.report.rebuilt_because = choice.reason
        if choice.reason:
            self.progress.note(f"building a new generation: {choice.reason}")
        found = self._discover(choice)
        published = self.workspace.ledger.published(choice.generation.generation)
        todo = self._plan(found, published)
        with preloaded(self.workspace.embedder, wanted=bool(todo)):
            stager = self._stager(choice)
            gone = self._gone(found, published)
            self.progress.planned(len(todo), sum(file.stat.size_bytes for file in todo))
            found.files.clear()
            try:
                self._index_files(stager, todo, gone, published, choice)
            except KeyboardInterrupt:
                stager.recover()
                raise
        stager.purge()
        self.interruption.check()
        if self.report.chunks_written or gone:
            skipped = self.workspace.optimize(choice.generation)
            if skipped:
                self.progress.note(skipped)
        lost = self._would_be_lost(choice)
        if lost and not self.request.prune:
            self.progress.note(
                f"the old generation goes on answering: {len(lost)} of its sources cannot be read now"
                f" ({lost[0]} is one) and would be lost. Mend them and run again, or switch without them with --prune."
            )
        else:
            self.workspace.finish(choice.generation)
        self._count(choice)

    def _stager(self, choice: GenerationChoice) -> Stager:
        """The stager, after what an earlier run has left staged was taken back."""
        stager = self.workspace.stager(choice.generation)
        if stager.needs_recovery:
            self.report.recovered = True
            self.progress.note("an earlier run was stopped; taking back what it had not finished")
            stager.recover()
        self.interruption.check()
        return stager

    def _discover(self, choice: GenerationChoice) -> Discovery:
        ledger = self.workspace.ledger
        targets = self.request.targets or self.config.sources.paths
        known_roots, known_scopes = ledger.roots(), ledger.scopes()
        scopes = resolve_scopes(targets, known_roots, known_scopes, prune=self.request.prune)
        if not scopes:
            raise InputError("nothing to index was named.", hint="Name a folder or files: ragstack index PATH")
        if choice.is_rebuild:
            # A new generation replaces the old one whole, so it covers all that was ever asked for.
            everything = resolve_scopes((), known_roots, known_scopes, prune=self.request.prune)
            scopes = [*scopes, *(scope for scope in everything if scope not in scopes)]
        roots = {label: path_of_name(path) for label, path in known_roots.items()}
        roots |= {scope.label: scope.path for scope in scopes}
        # Uploads that are being received may lie below a root, and patterns of the config may let them in.
        receiving = upload_dir(self.config.server.documents, self.workspace.state_dir) / INCOMING
        leave_out = [self.workspace.state_dir, receiving, *self.request.leave_out]
        parts = scopes
        if self.request.changed is not None and not choice.is_rebuild:
            parts = narrowed(scopes, roots, self.request.changed)
        with self.interruption.anywhere():
            found = discover(parts, roots, self.config.sources, leave_out)
        if not self.request.prune:
            indexed = [(row.label, row.relative) for row in self._rows_before(choice)]
            looked_at = membership(parts)
            here = [(file.label, file.relative) for file in found.files]
            here += [source for source in indexed if not looked_at(*source)] if parts is not scopes else []
            require_sources(scopes, here, indexed)
        for path, reason in found.failed:
            self._fail(str(path), reason)
        self.report.skipped.update(found.skipped)
        ledger.save_scopes(
            {scope.label: name_of_path(scope.path) for scope in scopes},
            [(scope.label, scope.relative) for scope in scopes],
        )
        fault_point("scopes-saved")
        return found

    def _would_be_lost(self, choice: GenerationChoice) -> list[str]:
        """Sources that the generation to replace holds and the new one does not, because they failed."""
        if choice.replaces is None or not self.report.failed:
            return []
        ledger = self.workspace.ledger
        new = ledger.published(choice.generation.generation)
        roots = {label: path_of_name(path) for label, path in ledger.roots().items()}
        failed = {Path(failure.path) for failure in self.report.failed}

        def has_failed(row: PublishedSource) -> bool:
            path = roots[row.label] / path_of_name(row.relative)
            return path in failed or any(parent in failed for parent in path.parents)

        old = ledger.published(choice.replaces.generation)
        return sorted(i for i, row in old.items() if not row.skipped and i not in new and has_failed(row))

    def _rows_before(self, choice: GenerationChoice) -> list[PublishedSource]:
        """The sources that queries see now: of the generation to replace, or of the one to update."""
        generation = choice.replaces or choice.generation
        return [row for row in self.workspace.ledger.published(generation.generation).values() if not row.skipped]

    def _plan(self, found: Discovery, published: dict[str, PublishedSource]) -> deque[FoundFile]:
        todo: deque[FoundFile] = deque()
        for file in found.files:
            row = published.get(file.source_id)
            if row is not None and row.stat == file.stat and row.stat.mtime_ns < row.checked_at_ns - _RACY_NS:
                self._count_unchanged(row)
            else:
                todo.append(file)
        return todo

    def _gone(self, found: Discovery, published: dict[str, PublishedSource]) -> list[str]:
        here = {file.source_id for file in found.files} if published else set()
        roots = {scope.label: scope.path for scope in found.scopes}
        looked_at = membership(found.scopes)
        gone = []
        for source_id, row in published.items():
            if source_id in here or not looked_at(row.label, row.relative):
                continue
            if not found.could_not_read(roots[row.label] / path_of_name(row.relative)):
                gone.append(source_id)
        return gone

    def _index_files(
        self,
        stager: Stager,
        todo: deque[FoundFile],
        gone: Sequence[str],
        published: dict[str, PublishedSource],
        choice: GenerationChoice,
    ) -> None:
        embedder = self.workspace.embedder
        preparation = Preparation(
            choice.generation.fingerprint,
            self.workspace.chunker,
            embedder.tokenizer,
            embedder.info.text_tokens("passage"),
            self.config.fields,
        )
        cache = self.workspace.embedding_cache(choice)
        encoding = Encoding(embedder, build_bm25(self.config), keeps_token_vectors(self.config), cache)
        demand = demand_of(embedder, with_tokens=encoding.with_tokens)
        touched: list[Unchanged] = []
        deleted = list(gone)
        outcomes = prepared_ahead(
            lambda file: preparation.prepare(file, published.get(file.source_id)), todo, self.interruption
        )
        # Leaving in any way first waits for the step being written, then for the file being read.
        with (
            closing(outcomes),
            Writer(stager, self.interruption, lambda: self.workspace.optimize(choice.generation)) as writer,
            EncodeQueue(encoding, writer, self.interruption, self._on_encoded) as queue,
        ):
            group: list[Prepared] = []
            buffer = ChunkBuffer()
            chunks = tokens = 0  # of the group
            for file, outcome in outcomes:
                self.interruption.check()
                self.progress.read(file.stat.size_bytes)
                if isinstance(outcome, Failed):
                    self._fail(outcome.path, outcome.reason)
                elif isinstance(outcome, Vanished):
                    deleted += [outcome.source_id] if outcome.source_id in published else []
                elif isinstance(outcome, Unchanged):
                    touched.append(outcome)
                    self._count_unchanged(published[outcome.source_id])
                else:
                    group.append(outcome)
                    buffer.extend(outcome.chunks)
                    chunks += len(outcome.chunks)
                    tokens += sum(item.chunk.token_count for item in outcome.chunks)
                    self._count_prepared(outcome, published)
                    for warning in outcome.warnings:
                        self._warn(warning)
                sizes = self.workspace.sizes(demand)
                for full in buffer.take_full(sizes.request):
                    queue.stage(full)
                if sizes.group.reached(chunks, tokens) or len(group) >= sizes.group.most_chunks:
                    queue.stage(buffer.take_rest())
                    queue.publish(group, ())
                    group, chunks, tokens = [], 0, 0
            queue.stage(buffer.take_rest())
            if group or deleted:
                queue.publish(group, deleted)
        self.report.deleted = len(deleted)
        self.workspace.ledger.touch(
            choice.generation.generation,
            [(item.source_id, item.stat, item.checked_at_ns, item.source_uri) for item in touched],
        )
        fault_point("touched")

    def _on_encoded(self, chunks: int, fresh: int, tokens: int) -> None:
        self.report.chunks_written += chunks
        self.report.chunks_reused += chunks - fresh
        self.report.tokens_embedded += tokens
        self.progress.embedded(chunks, tokens)

    def _warn(self, warning: str) -> None:
        self.report.warnings.append(warning)
        self.progress.note(f"warning: {warning}")

    def _fail(self, path: str, reason: str) -> None:
        self.report.failed.append(FailedSource(path, reason))
        self.progress.note(f"failed: {path}: {reason}")

    def _count_unchanged(self, row: PublishedSource) -> None:
        if row.skipped:
            self.report.skipped[row.skipped] += 1
        else:
            self.report.unchanged += 1

    def _count_prepared(self, outcome: Prepared, published: dict[str, PublishedSource]) -> None:
        if outcome.row.skipped:
            self.report.skipped[outcome.row.skipped] += 1
        elif outcome.row.source_id in published:
            self.report.changed += 1
        else:
            self.report.added += 1

    def _count(self, choice: GenerationChoice) -> None:
        number = choice.generation.generation
        current = next(g for g in self.workspace.ledger.generations() if g.generation == number)
        self.report.generation, self.report.chunk_count = number, current.chunk_count
        tallies = self.workspace.ledger.languages(number)
        self.report.languages = counted_languages(tallies)
        warning = languages_warning(self.workspace.ledger, number, tallies, self.workspace.embedder.info)
        if warning and self.request.changed is None:
            self._warn(warning)
