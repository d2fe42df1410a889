"""What checking, erasing and tidying have in common: an index that must exist, opened as it was built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ragstack.assembly import SharedIndex, keeps_token_vectors, token_vector_store
from ragstack.config.embedders import reachable
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.indexer.databases import SUFFIXES
from ragstack.indexer.disk import store_folder as store_folder  # noqa: PLC0414 - part of what maintenance offers
from ragstack.indexer.generations import Workspace
from ragstack.indexer.lost_ledger import has_ledger, ledger_lost, refuse_lost_ledger
from ragstack.ledger.schema import token_vectors_file
from ragstack.ledger.snapshot import no_index
from ragstack.ledger.writer import Generation
from ragstack.reranking.base import TokenVectorStore

_COLLECTION = re.compile(r"gen-(\d+)")
_TOKENS_FILE = re.compile(r"tokens-(\d+)\.db(?:-wal|-shm|-journal)?")


@dataclass(frozen=True)
class ExistingIndex:
    """An index held for maintenance; ``generation`` is the one that answers, or the one being built for the first time.

    ``workspace.config`` has the blocks that this generation was built with, whatever the config says now.
    """

    workspace: Workspace
    generation: Generation

    @property
    def keeps_token_vectors(self) -> bool:
        """True when the generation has token vectors."""
        return keeps_token_vectors(self.workspace.config)

    @property
    def token_vectors_path(self) -> Path:
        """The file of the generation's token vectors, whether it keeps any or not."""
        return self.workspace.state_dir / token_vectors_file(self.generation.generation)

    def open_token_vectors(self, generation: Generation | None = None) -> TokenVectorStore | None:
        """The token vectors of the generation (another one of the same settings if given); None where none are kept."""
        if not self.keeps_token_vectors:
            return None
        number = (generation or self.generation).generation
        path = self.workspace.state_dir / token_vectors_file(number)
        return token_vector_store(path, self.workspace.config)

    def refreshed(self) -> ExistingIndex:
        """The same index with what the ledger says of the generation now."""
        number = self.generation.generation
        return ExistingIndex(self.workspace, _generation(self.workspace, number))


@contextmanager
def open_existing(
    loaded: LoadedConfig, state_dir: Path, shared: SharedIndex | None = None
) -> Iterator[ExistingIndex | None]:
    """Take the lock of an index and open its ledger; None where no run has begun a generation yet.

    Raises IndexNotFoundError where there is no index, IndexFormatError where its ledger is lost or damaged,
    IndexLockedError where another process holds it.
    """
    refuse_lost_ledger(state_dir, store_folder(loaded.config, state_dir))
    if not has_ledger(state_dir):
        raise no_index(state_dir)
    with Workspace.open(loaded, state_dir, shared) as workspace:
        generations = workspace.ledger.generations()
        if not generations:
            if unknown_collections(workspace) or unknown_files(workspace):
                raise ledger_lost(state_dir)
            yield None
            return
        chosen = next((g for g in generations if g.state == "active"), generations[-1])
        workspace.config = config_as_indexed(workspace, chosen)
        yield ExistingIndex(workspace, chosen)


def config_as_indexed(workspace: Workspace, generation: Generation) -> PipelineConfig:
    """The workspace's config with the blocks that the generation was built with."""
    told = workspace.ledger.config_of(generation.generation)["config"]
    indexed = PipelineConfig.model_validate({"version": 1, **told})
    update = {name: getattr(indexed, name) for name in told}
    return workspace.config.model_copy(
        update=update | {"embedder": reachable(indexed.embedder, workspace.config.embedder)}
    )


def unknown_collections(workspace: Workspace) -> list[str]:
    """Collections of the embedded store that belong to no generation. A shared store's are nobody's to judge here."""
    if workspace.store.capabilities.multi_process:
        return []
    known = {g.generation for g in workspace.ledger.generations()}
    found = {name: _COLLECTION.fullmatch(name) for name in workspace.store.collections()}
    return [name for name, match in found.items() if match and int(match[1]) not in known]


def unknown_files(workspace: Workspace) -> list[Path]:
    """Files of token vectors that belong to no generation."""
    known = {g.generation for g in workspace.ledger.generations()}
    found = {path: _TOKENS_FILE.fullmatch(path.name) for path in sorted(workspace.state_dir.iterdir())}
    return [path for path, match in found.items() if match and int(match[1]) not in known]


def remove_unknown(workspace: Workspace) -> list[str]:
    """Remove what :func:`unknown_collections` and :func:`unknown_files` find; returns their names."""
    collections, files = unknown_collections(workspace), unknown_files(workspace)
    for name in collections:
        workspace.store.drop(name)
    for path in files:
        path.unlink(missing_ok=True)
    return [*collections, *(path.name for path in files if not path.name.endswith(SUFFIXES[1:]))]


def _generation(workspace: Workspace, number: int) -> Generation:
    return next(g for g in workspace.ledger.generations() if g.generation == number)
