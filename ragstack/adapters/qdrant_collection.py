"""One collection on disk: a folder with a description, Qdrant's shard and a mark that counts what was flushed.

    <collection>/collection.json   what the collection is: format, name, dimension, fields
    <collection>/shard/            the driver's files
    <collection>/flushed.json      number of records at the last flush; absent while there are later writes

The driver opens a shard whose id or vector files were lost as if it held fewer records or vectors. The
mark finds the one: when nothing was written since the last flush, the number of records must be the one
that was flushed. Counting vectors finds the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import qdrant_edge as qdrant

from ragstack.adapters.base import CollectionSpec
from ragstack.adapters.checks import check_growth
from ragstack.adapters.qdrant_damage import deadly_because, stamp_of
from ragstack.adapters.qdrant_errors import damaged, panic_text_held_back, sync_folder
from ragstack.adapters.qdrant_records import DENSE, PAYLOAD_KEY, SPARSE, field_index, index_values, payload_of
from ragstack.adapters.qdrant_space import is_in_memory
from ragstack.adapters.qdrant_values import LISTS_KEY
from ragstack.errors import CollectionError, RagstackError
from ragstack.filters import FieldType

FORMAT = 1
DESCRIPTION, MARK, SHARD = "collection.json", "flushed.json", "shard"
_CREATING, _DROPPED = ".creating-", ".dropped-"
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class HnswSettings:
    """``min_points``: collections with fewer records have no graph and are searched exactly."""

    m: int
    ef_construct: int
    min_points: int


@dataclass
class OpenCollection:
    """An open shard. Writers hold ``write_lock``; readers need no lock, the driver has its own.

    ``points``: about how many there are, as after the last write.
    """

    folder: Path
    spec: CollectionSpec
    shard: qdrant.EdgeShard
    flushed: bool
    points: int = 0
    write_lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def keys(self) -> dict[str, tuple[str, FieldType]]:
        """Index key and type of each declared field."""
        return index_keys(self.spec.fields)

    def count(self, filter: qdrant.Filter | None = None) -> int:
        """Exact number of records."""
        return self.shard.count(qdrant.CountRequest(exact=True, filter=filter))

    def begin_write(self) -> None:
        """Take the mark away before the first write after a flush."""
        if self.flushed:
            (self.folder / MARK).unlink(missing_ok=True)
            sync_folder(self.folder)
            self.flushed = False

    def write(self, operations: Iterable[qdrant.UpdateOperation]) -> None:
        """Carry out changes of points, one after the other."""
        self.begin_write()
        for operation in operations:
            self.shard.update(operation)
        self.points = self.shard.info().points_count

    def flush(self) -> None:
        """Make every write durable, then set the mark."""
        with self.write_lock:
            self.shard.flush()
            if not self.flushed:
                write_json(self.folder / MARK, {"points": self.count()})
                self.flushed = True

    def close(self) -> None:
        """Flush and close the shard; note the state of its files, so that a change by others is noticed."""
        with self.write_lock:
            self.flush()
            self.shard.close()
            told = json.loads((self.folder / MARK).read_bytes())
            stamp = stamp_of(self.folder / SHARD)
            if told.get("files") != stamp:
                write_json(self.folder / MARK, {**told, "files": stamp})

    def pages(
        self, filter: qdrant.Filter | None, page: int = _PAGE, keys: tuple[str, ...] = (PAYLOAD_KEY,)
    ) -> Iterator[list[qdrant.Record]]:
        """All matching points in id order, ``page`` at a time."""
        offset = None
        while True:
            points, offset = self.shard.scroll(
                qdrant.ScrollRequest(offset=offset, limit=page, filter=filter, with_payload=list(keys))
            )
            if points:
                yield points
            if offset is None:
                return


_SEGMENT_KB = 60_000  # of vectors: 40,000 of 384 dimensions


@lru_cache(maxsize=4096)
def index_key(name: str, type_: FieldType) -> str:
    """The payload key that a field is indexed under: a path without the characters that Qdrant gives a meaning.

    It depends on name and type alone, so what an interrupted change left behind is either overwritten
    or never read.
    """
    return "f_" + hashlib.sha256(f"{type_}:{name}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def index_keys(fields: Mapping[str, FieldType]) -> dict[str, tuple[str, FieldType]]:
    """Index key and type of each field."""
    return {name: (index_key(name, type_), type_) for name, type_ in fields.items()}


def create(folder: Path, spec: CollectionSpec, settings: HnswSettings) -> None:
    """Create a collection; a crash leaves it whole or not at all."""
    building = folder.parent / f"{_CREATING}{uuid.uuid4().hex}"
    (building / SHARD).mkdir(parents=True)
    graph_from_kb = max(1, settings.min_points * spec.dim * 4 // 1024)
    # Opening reads all vectors into the page cache; in a file system that is memory already this gains
    # nothing, and fills the holes of its files.
    memory = qdrant.Memory.Cold if is_in_memory(building) else None
    mapped = _mapped(building)
    config = qdrant.EdgeConfig(
        vectors={DENSE: qdrant.EdgeVectorParams(size=spec.dim, distance=qdrant.Distance.Cosine, memory=memory)},
        sparse_vectors={SPARSE: qdrant.EdgeSparseVectorParams(memory=mapped)},
        hnsw_config=qdrant.HnswIndexConfig(
            # Below this size of a segment, or of what a filter leaves of it, the driver scans.
            m=settings.m,
            ef_construct=settings.ef_construct,
            full_scan_threshold=min(10_000, graph_from_kb),
        ),
        # Segments of bounded size bound the memory and the time that building a graph takes.
        optimizers=qdrant.EdgeOptimizersConfig(
            indexing_threshold=graph_from_kb, max_segment_size=max(_SEGMENT_KB, 2 * graph_from_kb)
        ),
    )
    shard = qdrant.EdgeShard.create(str(building / SHARD), config)
    shard.update(field_index(LISTS_KEY, "keyword", mapped))
    for name, type_ in spec.fields.items():
        shard.update(field_index(index_key(name, type_), type_, mapped))
    shard.flush()
    shard.close()
    _describe(building, spec)
    write_json(building / MARK, {"points": 0})
    building.rename(folder)
    sync_folder(folder.parent)


def _mapped(folder: Path) -> qdrant.Memory | None:
    """Mapped files, which the system can take back, instead of the process's own memory; None in a file system that is
    memory itself."""
    return None if is_in_memory(folder) else qdrant.Memory.Cached


def load(folder: Path, *, probe: bool = True) -> OpenCollection:
    """Open a collection. Raises CollectionError when its files are not what was written.

    With ``probe``, files that were changed since the collection was closed are first read by a child process.
    """
    spec = read_spec(folder)
    flushed, stamp = None, None
    mark = folder / MARK
    try:
        if mark.exists():
            told = json.loads(mark.read_bytes())
            flushed, stamp = int(told["points"]), told.get("files")
        why = deadly_because(folder) if probe and stamp is not None and stamp != stamp_of(folder / SHARD) else ""
        if why:
            raise damaged(spec.name, why)
        with panic_text_held_back():
            shard = qdrant.EdgeShard.load(str(folder / SHARD))
            opened = OpenCollection(folder, spec, shard, flushed is not None)
            points = opened.points = opened.count()
            vectors = opened.count(qdrant.Filter(must=[qdrant.HasVectorCondition(DENSE)]))
            shard.scroll(qdrant.ScrollRequest(limit=1, with_payload=True, with_vector=True))
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(spec.name, f"its file {MARK} cannot be read") from error
    if flushed not in (None, points) or vectors != points:
        shard.close()
        written = points if flushed is None else flushed
        raise damaged(spec.name, f"it holds {points} records and {vectors} vectors where {written} were written")
    return opened


def read_spec(folder: Path) -> CollectionSpec:
    """What a collection on disk is. Raises CollectionError for a damaged description or another format."""
    try:
        told: dict[str, Any] = json.loads((folder / DESCRIPTION).read_bytes())
        format_ = told["format"]
        if format_ == FORMAT:
            return CollectionSpec(str(told["name"]), int(told["dim"]), dict(told["fields"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise damaged(folder.name, f"its file {DESCRIPTION} cannot be read") from error
    raise CollectionError(
        f"the collection {folder.name!r} has format {format_}; this version reads format {FORMAT}.",
        hint="Rebuild it from the sources: ragstack index --rebuild",
    )


def add_fields(opened: OpenCollection, spec: CollectionSpec) -> None:
    """Check ``spec`` against the collection and index the fields that are new, for the records it holds too."""
    check_growth(opened.spec, spec)
    new = {name: type_ for name, type_ in spec.fields.items() if name not in opened.spec.fields}
    if not new:
        return
    with opened.write_lock:
        grown = replace(opened.spec, fields={**opened.spec.fields, **new})
        keys = index_keys(grown.fields)
        mapped = _mapped(opened.folder)
        opened.begin_write()
        for name, type_ in new.items():
            opened.shard.update(field_index(index_key(name, type_), type_, mapped))
        for points in opened.pages(None):
            for point in points:
                _index_new_fields(opened, point, new, keys)
        opened.flush()
        _describe(opened.folder, grown)
        opened.spec = grown


def _index_new_fields(
    opened: OpenCollection,
    point: qdrant.Record,
    new: Mapping[str, FieldType],
    keys: Mapping[str, tuple[str, FieldType]],
) -> None:
    payload = payload_of(point)
    if all(payload.get(name) is None for name in new):
        return
    try:
        values = index_values(payload, str(point.id), keys)
    except RagstackError as error:
        raise CollectionError(
            f"the collection {opened.spec.name!r} cannot get the new fields {sorted(new)}: {error.message}",
            hint="Declare the type that the stored values have, or rebuild the index: ragstack index --rebuild",
        ) from error
    if values:
        opened.shard.update(qdrant.UpdateOperation.set_payload([point.id], values))


def remove(folder: Path) -> None:
    """Delete a collection's folder; a crash leaves it whole or out of sight."""
    gone = folder.parent / f"{_DROPPED}{uuid.uuid4().hex}"
    folder.rename(gone)
    sync_folder(folder.parent)
    shutil.rmtree(gone)


def remove_leftovers(root: Path) -> None:
    """Delete what a crash left of collections that were being created or dropped."""
    for leftover in [*root.glob(f"{_CREATING}*"), *root.glob(f"{_DROPPED}*")]:
        shutil.rmtree(leftover)


def _describe(folder: Path, spec: CollectionSpec) -> None:
    told = {"format": FORMAT, "name": spec.name, "dim": spec.dim, "metric": "cosine", "fields": dict(spec.fields)}
    write_json(folder / DESCRIPTION, told)


def write_json(path: Path, value: object) -> None:
    """Replace a small file atomically and durably."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(json.dumps(value, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
