"""What the jobs of documents do: index what was uploaded, bring the index in line, erase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragstack.api.jobs import Job, JobProgress, JobRunner
from ragstack.api.security import Caller
from ragstack.api.upload_reader import ReceivedFile
from ragstack.api.uploads import UploadFolder, folder_of
from ragstack.api.visibility import owns_upload, require_erasable
from ragstack.config.models import RootConfig
from ragstack.errors import InputError, RagstackError
from ragstack.indexer.interruption import Interruption
from ragstack.indexer.report import IndexReport
from ragstack.ledger.listing import find_source
from ragstack.pipeline import Pipeline


@dataclass(frozen=True)
class DocumentJobs:
    """Makes the jobs of one served pipeline and puts them into the queue."""

    pipeline: Pipeline
    folder: UploadFolder
    runner: JobRunner

    def upload(self, caller: Caller, files: Sequence[ReceivedFile]) -> Job:
        """Put received files in their places and index them; they are discarded if the job never runs."""

        def work(progress: JobProgress, interruption: Interruption) -> Mapping[str, Any]:
            folder = folder_of(caller.filter)
            try:
                placed = {file: self.folder.place(file.path, folder, file.name) for file in files}
            finally:
                _discard(files)
            root = RootConfig(path=str(self.folder.root), label=self.folder.label)
            report = self.pipeline.index(root, progress=progress, interruption=interruption)
            documents = [self._outcome(file, place, folder, report) for file, place in placed.items()]
            # The report of the run names other callers' files too.
            return {"documents": documents, **({} if caller.filter is not None else {"index": report.to_json()})}

        return self._submit(Job("upload", owner_of(caller), work, lambda: _discard(files)))

    def index(self, caller: Caller, paths: Sequence[str] = (), *, prune: bool = False, rebuild: bool = False) -> Job:
        """Bring the index in line with paths of this machine; without any, with everything indexed before."""

        def work(progress: JobProgress, interruption: Interruption) -> Mapping[str, Any]:
            report = self.pipeline.index(
                *paths, prune=prune, rebuild=rebuild, progress=progress, interruption=interruption
            )
            return report.to_json()

        return self._submit(Job("index", owner_of(caller), work))

    def erase_document(self, caller: Caller, source_id: str) -> Job:
        """Erase one document that the caller may see, and the file if it was uploaded.

        Raises NotFoundError at once when there is none, and in the job when there is none any more.
        """
        self._require_erasable(caller, source_id)

        def work(progress: JobProgress, interruption: Interruption) -> Mapping[str, Any]:
            self._require_erasable(caller, source_id)
            is_indexed = find_source(self.pipeline.state_dir, source_id) is not None
            path = self.folder.path_of(source_id)
            # The file first: if the process dies between the two, it cannot come back into the index.
            file_deleted = self.folder.remove(source_id)
            chunks, returns = 0, False
            if is_indexed:
                erased = self.pipeline.erase(f"id:{source_id}").erased
                chunks, returns = sum(source.chunks for source in erased), any(source.returns for source in erased)
                same_text_in = sorted({name for source in erased for name in source.same_text_in})
            else:
                same_text_in = []
            self.runner.forget_texts_about([source_id, *([] if path is None else [str(path)])])
            report = {
                "source_id": source_id,
                "chunks": chunks,
                "file_deleted": file_deleted,
                "indexed_again_by_next_run": returns,
            }
            # Which others hold the same text is not for a caller who may not see them.
            return report if caller.filter is not None else {**report, "same_text_in": same_text_in}

        return self._submit(Job("delete", owner_of(caller), work, can_stop=False))

    def erase_sources(self, caller: Caller, sources: Sequence[str]) -> Job:
        """Erase sources by id, path or folder, as ``ragstack rm`` does: files are not touched."""
        if not sources:
            raise InputError("no source was named.", hint="Name source ids or paths in `sources`.")

        def work(progress: JobProgress, interruption: Interruption) -> Mapping[str, Any]:
            report = self.pipeline.erase(*sources)
            names = [name for source in report.erased for name in (source.source_id, str(source.path or ""))]
            self.runner.forget_texts_about([name for name in names if name])
            return report.to_json()

        return self._submit(Job("delete", owner_of(caller), work, can_stop=False))

    def _submit(self, job: Job) -> Job:
        try:
            return self.runner.submit(job)
        except RagstackError:
            job.discard()
            raise

    def _require_erasable(self, caller: Caller, source_id: str) -> None:
        if owns_upload(self.folder, folder_of(caller.filter), source_id):
            return  # perhaps not indexed yet
        require_erasable(self.pipeline, caller, source_id)

    def _outcome(self, file: ReceivedFile, place: Path, folder: str, report: IndexReport) -> dict[str, Any]:
        """What became of one uploaded file: ``indexed``, ``skipped`` or ``failed``, and why."""
        source_id = self.folder.source_id(folder, file.name)
        row = find_source(self.pipeline.state_dir, source_id)
        reason = next((failure.reason for failure in report.failed if failure.path == str(place)), "")
        if reason:
            status = "failed"
        elif row is None or row.source_version != file.sha256:
            status, reason = "skipped", "left out by the config's patterns or limits, or replaced meanwhile"
        else:
            status, reason = ("skipped", row.skipped) if row.skipped else ("indexed", "")
        return {
            "source_id": source_id,
            "source_version": file.sha256,
            "size_bytes": file.size_bytes,
            "status": status,
            "reason": reason,
        }


def owner_of(caller: Caller) -> str:
    """Whose a job is: the key's id, or the name of a caller without one."""
    return caller.key_id or caller.name


def _discard(files: Sequence[ReceivedFile]) -> None:
    for file in files:
        file.path.unlink(missing_ok=True)
