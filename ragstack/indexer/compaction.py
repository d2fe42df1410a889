"""Copying a generation into fresh files: the one way to be rid of deleted chunks for good.

A store does not overwrite what is deleted; its log and its segments keep the bytes. So what remains is
copied, as it is, into a collection and a file of token vectors of a new generation with the same
fingerprint, and one ledger transaction puts the copy in the old one's place. What is durable at each step:

1. a generation ``building``, marked ``group_open``: a run that meets it deletes what it holds;
2. chunks and token vectors are copied, then flushed: no query sees them;
3. **one ledger transaction**: the copy answers, the old generation is retired;
4. the old collection and file are deleted, then documents that nothing refers to.

Killed before 3, the old generation answers and the next command drops the copy; killed after 3, it drops
what is left of the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from ragstack.adapters.base import CollectionSpec
from ragstack.embedding.bm25_scores import stored_term_count
from ragstack.errors import IndexFormatError
from ragstack.indexer.databases import remove_database
from ragstack.indexer.disk import disk_bytes, require_free_space, reserve_bytes
from ragstack.indexer.maintenance import ExistingIndex, store_folder
from ragstack.indexer.reuse import embedded_text_of, text_digest
from ragstack.indexer.staging import fault_point
from ragstack.indexer.statistics import ChunkCounts, count_terms, count_tokens, new_counts
from ragstack.ledger.schema import collection_name, token_vectors_file
from ragstack.ledger.spans import span_chunk_ids
from ragstack.ledger.upkeep import LedgerUpkeep
from ragstack.ledger.writer import Generation
from ragstack.reranking.base import TokenVectorStore

_PAGE = 500
_CHECK = "Check the index with: ragstack fsck --repair"


def copy_generation(
    index: ExistingIndex, left_out: Collection[str] = (), progress: Callable[[int, int], None] | None = None
) -> Generation:
    """Replace the generation by a copy without the sources ``left_out``; returns the new one, whose files are fresh.

    Vectors and payloads are copied unchanged: nothing is parsed or embedded. Frequencies are counted again.
    Memory is bounded by a page of chunks and the ids of the ledger. Generations that were begun and not
    finished are dropped. ``progress`` gets chunks copied and chunks in all. Raises StoreError when the copy
    does not fit on the disk, IndexFormatError for a chunk that the store lost.
    """
    workspace, old = index.workspace, index.generation
    workspace.drop_others(old)
    _require_space(index)
    new = workspace.ledger.create_generation(old.fingerprint, workspace.ledger.config_of(old.generation))
    try:
        workspace.ledger.set_group_open(new.generation, True)
        _discard_files(index, new)
        fault_point("copy-begun")
        with LedgerUpkeep(workspace.state_dir) as upkeep:
            copied = _copy_chunks(index, new, set(left_out), upkeep, progress)
            upkeep.switch_to_copy(
                old.generation, new.generation, left_out, copied.frequencies, copied.chunks,
                max(old.committed_seq, copied.largest_seq),
            )  # fmt: skip
    except BaseException:
        # The disk may be full: give the space back now. A killed process leaves this to the next command.
        workspace.drop_others(old)
        raise
    fault_point("copy-switched")
    if old.state == "active":
        workspace.finish(new)
    else:
        workspace.drop_others(new)
    return new


class _Copied:
    """What was copied so far."""

    def __init__(self) -> None:
        self.chunks = 0
        self.largest_seq = 0
        self.frequencies = new_counts()


def _copy_chunks(
    index: ExistingIndex,
    new: Generation,
    left_out: set[str],
    upkeep: LedgerUpkeep,
    progress: Callable[[int, int], None] | None,
) -> _Copied:
    workspace, old = index.workspace, index.generation
    source, target = collection_name(old.generation), collection_name(new.generation)
    copied = _Copied()
    total = old.chunk_count
    tokens, new_tokens = index.open_token_vectors(), index.open_token_vectors(new)
    try:
        is_made = False
        for ids in _pages(index, left_out):
            records = workspace.store.fetch(source, ids)
            for identity in ids:
                if identity not in records:
                    raise _lost(f"chunk {identity} is in the ledger but not in the store")
            if not is_made:
                dim = len(records[ids[0]].dense)
                is_made = True
                workspace.store.ensure_collection(CollectionSpec(target, dim, workspace.config.field_types()))
            require_free_space(
                workspace.state_dir,
                0,
                reserve_bytes(workspace.config, workspace.state_dir),
                "what remains is being copied",
            )
            workspace.store.upsert(target, [records[identity] for identity in ids])
            for record in records.values():
                language = str(record.payload.get("text_language", ""))
                term_count = stored_term_count(record.payload, record.id)
                count_terms(copied.frequencies, record.sparse, term_count, language)
                copied.largest_seq = max(copied.largest_seq, int(record.payload["seq"]))
            if tokens is not None and new_tokens is not None:
                _copy_tokens(tokens, new_tokens, ids, copied.frequencies)
            upkeep.add_embedded(
                new.generation,
                [(text_digest(embedded_text_of(record.payload)), identity) for identity, record in records.items()],
            )
            copied.chunks += len(ids)
            fault_point("copied")
            if progress is not None:
                progress(copied.chunks, total)
        if not is_made:
            dim = workspace.embedder.info.dim
            workspace.store.ensure_collection(CollectionSpec(target, dim, workspace.config.field_types()))
        workspace.store.optimize(target)
        workspace.store.flush(target)
        if new_tokens is not None:
            new_tokens.flush()
        fault_point("copy-flushed")
    finally:
        for store in (tokens, new_tokens):
            if store is not None:
                store.close()
    return copied


def _copy_tokens(
    tokens: TokenVectorStore, new_tokens: TokenVectorStore, ids: Sequence[str], counts: ChunkCounts
) -> None:
    entries = tokens.packed(ids)
    if len(entries) < len(ids):
        missing = set(ids) - {entry.chunk_id for entry in entries}
        raise _lost(f"the token vectors of chunk {min(missing)} are missing")
    new_tokens.put_packed(entries)
    # Read back from the copy: what cannot be decoded must not become the index.
    for vectors in new_tokens.get(ids).values():
        count_tokens(counts, vectors.token_ids)


def _pages(index: ExistingIndex, left_out: set[str]) -> Iterator[list[str]]:
    """The ids of the chunks that remain, a page at a time."""
    page: list[str] = []
    for source_id, row in sorted(index.workspace.ledger.sources(index.generation.generation).items()):
        if source_id in left_out:
            continue
        page += span_chunk_ids(source_id, row.source_version, row.spans, index.generation.fingerprint)
        while len(page) >= _PAGE:
            yield page[:_PAGE]
            page = page[_PAGE:]
    if page:
        yield page


def _require_space(index: ExistingIndex) -> None:
    workspace = index.workspace
    needed = disk_bytes(store_folder(workspace.config, workspace.state_dir)) + disk_bytes(index.token_vectors_path)
    require_free_space(
        workspace.state_dir,
        needed,
        reserve_bytes(workspace.config, workspace.state_dir),
        "what remains has to be copied",
    )


def _discard_files(index: ExistingIndex, new: Generation) -> None:
    """Remove files that lie where the copy goes: numbers of dropped generations are given again."""
    index.workspace.store.drop(collection_name(new.generation))
    remove_database(index.workspace.state_dir / token_vectors_file(new.generation))


def _lost(what: str) -> IndexFormatError:
    return IndexFormatError(f"{what}.", hint=_CHECK)
