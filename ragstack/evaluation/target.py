"""What the questions are asked of: an index of the data set's documents, or one that the user has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ragstack.assembly import build_chunker, build_embedder
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig, RootConfig, SourcesConfig
from ragstack.config.stores.qdrant_edge import QdrantEdgeStoreConfig
from ragstack.errors import InputError
from ragstack.evaluation import corpus_files
from ragstack.evaluation.dataset import Dataset, Question
from ragstack.evaluation.gold_quotes import located
from ragstack.indexer.fingerprint import pipeline_fingerprint
from ragstack.indexer.interruption import Interruption
from ragstack.indexer.report import IndexProgress, IndexReport
from ragstack.ledger.listing import list_sources
from ragstack.pipeline import Pipeline
from ragstack.types import canonical_json, sha256_hex

DEFAULT_STATE_DIR = Path(".ragstack-eval")
_PAGE = 10_000
_BUILT_FILE = "built.json"


@dataclass(frozen=True)
class IndexFigures:
    """How the index was made. Seconds and tokens are those of the run that made it; ``reused``: an earlier one."""

    documents: int
    chunk_count: int
    tokens_embedded: int
    seconds: float
    reused: bool

    @property
    def tokens_per_second(self) -> float:
        """Tokens embedded in a second, everything from reading to publishing counted."""
        return self.tokens_embedded / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Target:
    """An opened pipeline, the questions with their gold spans, and the document of each source id.

    ``figures`` is None for an index that this package did not make. ``warnings`` are of the data set and the index.
    """

    pipeline: Pipeline
    questions: tuple[Question, ...]
    documents: Mapping[str, str]
    figures: IndexFigures | None
    warnings: tuple[str, ...]

    def document_of(self, source_id: str) -> str:
        """The data set's id of a source; sources that it does not know keep their own."""
        return self.documents.get(source_id, source_id)


@dataclass(frozen=True)
class IndexPlace:
    """Where indexes for evaluation are kept, and what is indexed there when the data set has no documents."""

    state_dir: Path = DEFAULT_STATE_DIR
    corpus: Sequence[Path] = ()


@contextmanager
def indexed_target(
    loaded: LoadedConfig,
    dataset: Dataset,
    place: IndexPlace,
    progress: IndexProgress | None = None,
    interruption: Interruption | None = None,
) -> Iterator[Target]:
    """A target over the data set's documents (or ``place.corpus``, or the config's paths), indexed by the config.

    The index lies below ``place.state_dir``, in a folder named by the documents and the pipeline fingerprint, so that
    it is there already the next time. It is kept in the embedded store, whatever the config's is: a server's
    collections may be somebody's. Raises what indexing raises, and InputError when there is nothing to index or no
    question's document is in the index.
    """
    _keep_out_of_version_control(place.state_dir)
    roots, name = _roots(loaded, dataset, place)
    state_dir = place.state_dir / "indexes" / f"{name}-{_fingerprint(loaded.config)[:16]}"
    config, notes = _evaluation_config(loaded, dataset, state_dir)
    pipeline = Pipeline(config)
    try:
        report = pipeline.index(*roots, prune=True, progress=progress, interruption=interruption)
        if report.failed:
            failed = report.failed[0]
            notes.append(f"{len(report.failed):,} documents failed, the first: {failed.path}: {failed.reason}")
        if report.skipped:
            notes.append(f"documents without an index entry: {dict(report.skipped)}")
        notes += report.warnings
        documents: dict[str, str] = {}
        if dataset.corpus is not None:
            documents = {corpus_files.source_id(document): document for document in dataset.corpus.ids}
        questions, doubts = located(dataset, state_dir, _source_versions(state_dir))
        notes = [*dataset.warnings, *notes, *doubts]
        yield Target(pipeline, questions, documents, _figures(report, state_dir), tuple(notes))
    finally:
        pipeline.close()


@contextmanager
def existing_target(loaded: LoadedConfig, dataset: Dataset) -> Iterator[Target]:
    """A target over the index that the config names, as it is. Nothing is written.

    For a data set with documents, its sources are recognised by their names (:func:`corpus_files.document_ids`).
    Raises IndexNotFoundError without an index, InputError when none of the questions' documents is in it.
    """
    pipeline = Pipeline(loaded)
    try:
        engine = pipeline.engine
        notes = ["the index was built with another config than this one"] if engine.config_differs else []
        versions = _source_versions(pipeline.state_dir)
        documents: dict[str, str] = {}
        if dataset.corpus is not None:
            documents = corpus_files.document_ids(versions, dataset.corpus)
            if not documents:
                raise InputError(
                    f"the index at {pipeline.state_dir} holds none of the documents of {dataset.path}.",
                    hint="Leave --no-index out, or index files that are named by the documents' ids.",
                )
            missing = len(dataset.corpus.ids) - len(set(documents.values()))
            if missing:
                notes.append(
                    f"{missing:,} of the data set's {len(dataset.corpus.ids):,} documents are not in the index"
                )
        questions, doubts = located(dataset, pipeline.state_dir, versions)
        yield Target(pipeline, questions, documents, None, (*dataset.warnings, *notes, *doubts))
    finally:
        pipeline.close()


def _keep_out_of_version_control(state_dir: Path) -> None:
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        (state_dir / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{state_dir}: indexes for evaluation cannot be kept here: {error.strerror or error}.",
            hint="Name another folder with --state-dir.",
        ) from error


def _roots(loaded: LoadedConfig, dataset: Dataset, place: IndexPlace) -> tuple[list[RootConfig | str], str]:
    """What is indexed, and a name for it."""
    if dataset.corpus is not None:
        if place.corpus:
            raise InputError(
                f"{dataset.path} has documents of its own.", hint="--corpus is for questions about your own files."
            )
        name = dataset.corpus.digest[:16]
        folder = corpus_files.write_corpus(dataset.corpus, place.state_dir / "corpora" / name)
        return [RootConfig(path=str(folder), label=corpus_files.LABEL)], name
    roots: list[RootConfig | str] = [str(path) for path in place.corpus] or list(loaded.config.sources.paths)
    if not roots:
        raise InputError(
            f"{dataset.path} has questions and no documents, and the config names no sources.paths.",
            hint="Name the documents with --corpus PATH, or ask the index that you have with --no-index.",
        )
    resolved = [str(Path(root).resolve()) if isinstance(root, str) else root.model_dump_json() for root in roots]
    return roots, sha256_hex(canonical_json(resolved).encode())[:16]


def _fingerprint(config: PipelineConfig) -> str:
    """The pipeline fingerprint: what an index made by this config would be stored under."""
    with closing(build_embedder(config.embedder)) as embedder:
        return pipeline_fingerprint(config, build_chunker(config.chunker), embedder.info)[0]


def _evaluation_config(loaded: LoadedConfig, dataset: Dataset, state_dir: Path) -> tuple[LoadedConfig, list[str]]:
    config, notes = loaded.config, []
    update: dict[str, Any] = {"indexer": config.indexer.model_copy(update={"state_dir": str(state_dir)})}
    update["store"] = QdrantEdgeStoreConfig()
    if isinstance(config.store, QdrantEdgeStoreConfig):
        update["store"] = config.store.model_copy(update={"path": None})
    else:
        notes.append(f"measured in the embedded store; to measure {config.store.type}, index and use --no-index")
    if dataset.corpus is not None:
        # The patterns are about the user's files, and so are the fields that a filter names.
        update["sources"] = SourcesConfig(exclude=(), use_gitignore=False, max_file_bytes=2**40)
        if config.retrieval.filter is not None:
            update["retrieval"] = config.retrieval.model_copy(update={"filter": None})
            notes.append("retrieval.filter is left out: it is about other documents")
    return replace(loaded, config=config.model_copy(update=update)), notes


def _figures(report: IndexReport, state_dir: Path) -> IndexFigures:
    """The figures of the run that made the index, which are kept beside it."""
    file = state_dir / _BUILT_FILE
    documents = report.added + report.changed + report.unchanged
    if report.chunks_written or not file.exists():
        values = {"tokens_embedded": report.tokens_embedded, "seconds": report.seconds}
        file.write_text(json.dumps(values), encoding="utf-8")
        return IndexFigures(documents, report.chunk_count, report.tokens_embedded, report.seconds, False)
    values = json.loads(file.read_text(encoding="utf-8"))
    return IndexFigures(documents, report.chunk_count, values["tokens_embedded"], values["seconds"], True)


def _source_versions(state_dir: Path) -> dict[str, str]:
    """The version of every source that has chunks."""
    versions: dict[str, str] = {}
    after = ""
    while page := list_sources(state_dir, after, _PAGE):
        versions |= {source.source_id: source.source_version for source in page if source.chunk_count}
        after = page[-1].source_id
    return versions
