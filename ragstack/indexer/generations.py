"""The files of one index, opened for writing, and the choice of the generation to write."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ragstack.adapters.base import CollectionSpec, VectorStore
from ragstack.adapters.qdrant_space import space_to_open
from ragstack.archive.base import DocumentArchive
from ragstack.archive.sqlite import SqliteArchive
from ragstack.archive.unreferenced import unreferenced
from ragstack.assembly import (
    SharedIndex,
    build_chunker,
    build_embedder,
    build_store,
    keeps_token_vectors,
    snapshot_pins,
    token_vector_bytes,
    token_vector_store,
)
from ragstack.chunking.base import Chunker
from ragstack.config.loader import LoadedConfig
from ragstack.embedding.base import Embedder
from ragstack.errors import IndexStateError
from ragstack.indexer.batches import Demand, Sizes
from ragstack.indexer.disk import disk_bytes, is_tight, require_growth, reserve_bytes, store_folder
from ragstack.indexer.fingerprint import INDEX_BLOCKS, check_model_limits, describe_change, pipeline_fingerprint
from ragstack.indexer.lost_ledger import refuse_lost_ledger
from ragstack.indexer.reuse import EmbeddingCache, Origin
from ragstack.indexer.staging import LONGEST_QUERY_S, Stager, fault_point
from ragstack.ledger.pins import Pins
from ragstack.ledger.schema import ARCHIVE_FILE, LOCK_FILE, collection_name, token_vectors_file
from ragstack.ledger.snapshot import SnapshotReader
from ragstack.ledger.writer import Generation, Ledger
from ragstack.process_lock import hold_lock
from ragstack.reranking.base import TokenVectorStore


@dataclass(frozen=True)
class GenerationChoice:
    """The generation a run writes. ``replaces`` is the active one that goes on answering until the switch."""

    generation: Generation
    replaces: Generation | None
    reason: str

    @property
    def is_rebuild(self) -> bool:
        """True when a new generation is built beside an active one."""
        return self.replaces is not None


_TIGHT_GROUP = 64


class Workspace:
    """Lock, ledger, store and archive of one index, held by the one process that writes it."""

    def __init__(
        self,
        loaded: LoadedConfig,
        state_dir: Path,
        stack: ExitStack,
        shared: SharedIndex | None,
        embedder: Embedder | None = None,
    ) -> None:
        self._shared = shared
        self._lent_embedder = embedder
        self._tokens: dict[int, TokenVectorStore] = {}
        self._rebuild_asked = False
        self.loaded = loaded
        self.config = loaded.config
        self.state_dir = state_dir
        self._stack = stack
        self.ledger = Ledger(state_dir)
        stack.callback(self.ledger.close)

    @classmethod
    @contextmanager
    def open(
        cls,
        loaded: LoadedConfig,
        state_dir: Path,
        shared: SharedIndex | None = None,
        embedder: Embedder | None = None,
    ) -> Iterator[Workspace]:
        """Take the index lock and open the ledger; everything but ``shared`` and ``embedder`` is closed at the end.

        Raises IndexLockedError naming the holder, IndexFormatError for damaged or foreign files.
        """
        refuse_lost_ledger(state_dir, store_folder(loaded.config, state_dir))
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise IndexStateError(
                f"the state directory {state_dir} cannot be made: {error.strerror or error}.",
                hint="Choose another folder with indexer.state_dir in the config.",
            ) from error
        with ExitStack() as stack:
            stack.enter_context(
                hold_lock(state_dir / LOCK_FILE, loaded.config.indexer.lock_timeout_s, f"the index {state_dir}")
            )
            yield cls(loaded, state_dir, stack, shared, embedder)

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder of the config, opened on first use, unless the caller lent one."""
        if self._lent_embedder is not None:
            return self._lent_embedder
        embedder = build_embedder(self.config.embedder)
        self._stack.callback(embedder.close)
        return embedder

    @cached_property
    def chunker(self) -> Chunker:
        """The chunker of the config."""
        return build_chunker(self.config.chunker)

    @cached_property
    def store(self) -> VectorStore:
        """The store of the config, opened on first use; the one that readers share where there are any."""
        if self._shared is not None:
            return self._shared.store
        store = build_store(self.config.store, self.state_dir, self.config.indexer.lock_timeout_s)
        self._stack.callback(store.close)
        return store

    @property
    def is_store_open(self) -> bool:
        """True when this process has opened the store's files."""
        return self._shared is not None or "store" in vars(self)

    @cached_property
    def archive(self) -> DocumentArchive:
        """The document archive."""
        archive = SqliteArchive(self.state_dir / ARCHIVE_FILE)
        self._stack.callback(archive.close)
        return archive

    def choose_generation(self, *, rebuild: bool) -> GenerationChoice:
        """The generation with the fingerprint of the config: the active one, one that was begun, or a new one.

        Generations that were begun with another fingerprint and never finished are dropped.
        """
        self._rebuild_asked = rebuild
        check_model_limits(self.loaded, self.embedder.info)
        fingerprint, parts = pipeline_fingerprint(self.config, self.chunker, self.embedder.info)
        generations = self.ledger.generations()
        active = next((g for g in generations if g.state == "active"), None)
        if active is not None and active.fingerprint == fingerprint and not rebuild:
            self._drop([g for g in generations if g is not active])
            return GenerationChoice(active, None, "")
        begun = next((g for g in generations if g.state == "building" and g.fingerprint == fingerprint), None)
        self._drop([g for g in generations if g is not active and g is not begun])
        if begun is None:
            begun = self.ledger.create_generation(fingerprint, self._index_config(parts))
            fault_point("generation-created")
        if active is None:
            return GenerationChoice(begun, None, "")
        same = active.fingerprint == fingerprint
        reason = (
            "asked for by --rebuild"
            if same
            else describe_change(self.ledger.config_of(active.generation)["parts"], parts)
        )
        return GenerationChoice(begun, active, reason)

    def stager(self, generation: Generation) -> Stager:
        """The writer of one generation."""
        spec = CollectionSpec(collection_name(generation.generation), self.embedder.info.dim, self.config.field_types())
        tokens = self._token_vectors(generation.generation)
        stager = Stager(
            self.ledger,
            generation,
            self.store,
            self.archive,
            tokens,
            spec,
            self.pins,
            self._check_space,
            token_vector_bytes(self.config, self.embedder.info),
        )
        if all(known.state != "active" for known in self.ledger.generations()):
            # The first generation replaces nothing: what is published of it may be asked at once.
            self.ledger.activate(generation.generation)
        return stager

    def embedding_cache(self, choice: GenerationChoice) -> EmbeddingCache:
        """Vectors that can be used again: of this generation, and of the one it replaces if the model is the same.

        A rebuild that was asked for makes every vector anew: what is stored may be what is wrong.
        """
        numbers = [choice.generation.generation]
        if choice.replaces is not None and not self._rebuild_asked and self._same_vectors(choice):
            numbers.append(choice.replaces.generation)
        reader = SnapshotReader(self.state_dir)
        self._stack.callback(reader.close)
        return EmbeddingCache(reader, self.store, [Origin(number, self._token_vectors(number)) for number in numbers])

    def _same_vectors(self, choice: GenerationChoice) -> bool:
        """True when both generations were made with the same model and keep the same token vectors."""
        generations = (choice.generation, choice.replaces)
        parts = [self.ledger.config_of(g.generation)["parts"] for g in generations if g is not None]
        return all(parts[0][name] == parts[1][name] for name in ("format", "model", "token_vectors"))

    def _token_vectors(self, generation: int) -> TokenVectorStore | None:
        if not keeps_token_vectors(self.config):
            return None
        if generation not in self._tokens:
            path = self.state_dir / token_vectors_file(generation)
            self._tokens[generation] = token_vector_store(path, self.config)
            self._stack.callback(self._tokens[generation].close)
        return self._tokens[generation]

    def _check_space(self, needed_bytes: int) -> None:
        folder = store_folder(self.config, self.state_dir)
        reserve = reserve_bytes(self.config, self.state_dir)
        require_growth(self.state_dir, needed_bytes + space_to_open(folder), reserve)
        if folder.exists():
            require_growth(folder, 0, reserve)

    @cached_property
    def pins(self) -> Pins:
        """Which snapshots are being read."""
        return self._shared.pins if self._shared is not None else snapshot_pins(self.store, self.state_dir)

    def sizes(self, demand: Demand) -> Sizes:
        """After how much to embed and to publish: what the config says and the embedder asks for, and little where
        little space is left for a group.
        """
        wanted = self.config.indexer.group_chunks
        tight = is_tight(self.config, self.state_dir)
        return Demand().sizes(min(wanted, _TIGHT_GROUP)) if tight else demand.sizes(wanted)

    def optimize(self, generation: Generation) -> str:
        """Let the store build its search indexes; why not, where that has to wait, else an empty string."""
        folder = store_folder(self.config, self.state_dir) / collection_name(generation.generation)
        # A segment is written anew beside the old one; a store that keeps its files elsewhere has no size here.
        needed = disk_bytes(folder) * 5 // 4
        if needed and shutil.disk_usage(folder).free < needed:
            return (
                f"the disk has too little room to renew the search index (about {needed / 1e6:.0f} MB for a while);"
                " queries are right all the same, and slower on large indexes until a later run has the room"
            )
        self.store.optimize(collection_name(generation.generation))
        fault_point("optimized")
        self.store.flush(collection_name(generation.generation))
        fault_point("optimized-flushed")
        return ""

    def finish(self, generation: Generation) -> None:
        """Make the generation the one that answers, and remove every other."""
        self.ledger.activate(generation.generation)
        fault_point("activated")
        self.pins.wait_for_readers(generation.generation, 0, LONGEST_QUERY_S)
        self._drop([g for g in self.ledger.generations() if g.generation != generation.generation])

    def drop_others(self, keep: Generation | None) -> int:
        """Remove every generation but ``keep``, with what it holds; returns how many there were."""
        others = [g for g in self.ledger.generations() if keep is None or g.generation != keep.generation]
        self._drop(others)
        return len(others)

    def drop_retired(self) -> None:
        """Remove what is left of generations that were replaced."""
        self._drop([g for g in self.ledger.generations() if g.state == "retired"])

    def _drop(self, generations: list[Generation]) -> None:
        for old in generations:
            self.ledger.retire(old.generation)
            fault_point("retired")
            self.store.drop(collection_name(old.generation))
            fault_point("dropped")
            tokens = self._tokens.pop(old.generation, None)
            if tokens is not None:
                tokens.close()
            for suffix in ("", "-wal", "-shm"):
                path = self.state_dir / (token_vectors_file(old.generation) + suffix)
                path.unlink(missing_ok=True)
                fault_point("dropped-tokens")
        if generations:
            # The generations are forgotten last: as long as the ledger names them, the next run comes here again.
            garbage = unreferenced(self.archive, self.ledger.live_documents())
            self.archive.delete(garbage)
            self.archive.flush()
            fault_point("collected-dropped")
        for old in generations:
            self.ledger.forget_generation(old.generation)
            fault_point("forgotten")

    def _index_config(self, parts: dict[str, Any]) -> dict[str, Any]:
        blocks = self.config.model_dump(mode="json", include=set(INDEX_BLOCKS))
        return {"config": blocks, "parts": parts}
