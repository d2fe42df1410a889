"""Copying all that one vector store holds into another one, without embedding again.

A page of records is read from both stores; those that the target lacks, or holds otherwise, are written, and
read back. So a run that was stopped goes on where it was, by looking, and what it says was copied was seen in
the target. Nothing is deleted, and records that only the target has are an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from ragstack.adapters.base import CollectionSpec, Record, VectorStore
from ragstack.errors import StoreError
from ragstack.filters import FieldType

_PAGE = 500
_TOLERANCE = 1e-5  # a store may normalise what is normalised already, which changes last bits
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class MigratedCollection:
    """One collection that is in both stores now. ``records`` of them in all, ``copied`` in this run.

    ``checksum`` is the SHA-256 (hex) over ids, payloads and sparse vectors in id order; it is the same for both.
    """

    name: str
    records: int
    copied: int
    checksum: str

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def migrate(
    source: VectorStore,
    target: VectorStore,
    fields: Mapping[str, FieldType],
    dim: Callable[[], int],
    *,
    progress: Progress | None = None,
) -> list[MigratedCollection]:
    """Copy every collection. ``fields`` are those declared; ``dim`` is asked for collections without records.

    Raises StoreError when the target does not give back what was written, or holds records of its own. Nobody
    may write into either store meanwhile.
    """
    names = source.collections()
    total = sum(source.count(name) for name in names)
    done = 0
    migrated = []
    for name in names:
        ids = (hit.id for hit in source.iterate(name, batch_size=_PAGE))
        digests = _Digest(), _Digest()
        records = copied = 0
        for told in _pages(ids):
            wanted = source.fetch(name, told)
            page = [id_ for id_ in told if id_ in wanted]  # one deleted just now shows in the count
            if not page:
                continue
            if records == 0:
                target.ensure_collection(CollectionSpec(name, len(next(iter(wanted.values())).dense), fields))
            copied += _copy(target, name, [wanted[id_] for id_ in page])
            found = target.fetch(name, page)
            _check(name, wanted, found)
            for id_ in page:
                digests[0].add(wanted[id_])
                digests[1].add(found[id_])
            records += len(page)
            if progress is not None:
                progress(done + records, total)
        if records == 0:
            target.ensure_collection(CollectionSpec(name, dim(), fields))
        _check_whole(name, records, source.count(name), target.count(name), digests)
        target.flush(name)
        done += records
        migrated.append(MigratedCollection(name, records, copied, digests[1].hex()))
    return migrated


def _pages(ids: Iterator[str]) -> Iterator[list[str]]:
    while page := list(islice(ids, _PAGE)):
        yield page


def _copy(target: VectorStore, name: str, records: Sequence[Record]) -> int:
    there = target.fetch(name, [record.id for record in records])
    missing = [record for record in records if record.id not in there or not _same(record, there[record.id])]
    if missing:
        target.upsert(name, missing)
    return len(missing)


def _check(name: str, wanted: Mapping[str, Record], found: Mapping[str, Record]) -> None:
    for id_, record in wanted.items():
        if id_ not in found or not _same(record, found[id_]):
            raise StoreError(
                f"the target store gave the record {id_} of the collection {name!r} back otherwise"
                " than it was written.",
                hint="Run the same command again; if it stays so, please report it.",
            )


def _check_whole(name: str, records: int, source: int, target: int, digests: tuple[_Digest, _Digest]) -> None:
    if source != records:
        raise StoreError(
            f"the collection {name!r} changed while it was copied: {records} records were read, {source} are there.",
            hint="Let nothing write into the source, and run the same command again.",
        )
    if target != records:
        raise StoreError(
            f"the target holds {target} records in the collection {name!r}, the source {records}.",
            hint=f"If nobody needs the others: ragstack store drop {name} --config <target's config>, then again.",
        )
    if digests[0].hex() != digests[1].hex():
        raise StoreError(f"the checksums of the collection {name!r} differ between the stores.")


def _same(one: Record, other: Record) -> bool:
    return (
        _text(one) == _text(other)
        and one.dense.shape == other.dense.shape
        and bool(np.allclose(one.dense, other.dense, rtol=0.0, atol=_TOLERANCE))
    )


def _text(record: Record) -> bytes:
    sparse = [record.sparse.indices.tolist(), record.sparse.values.tolist()]
    return json.dumps([record.id, dict(record.payload), sparse], sort_keys=True).encode()


class _Digest:
    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, record: Record) -> None:
        text = _text(record)
        self._sha256.update(len(text).to_bytes(8, "big") + text)

    def hex(self) -> str:
        return self._sha256.hexdigest()
