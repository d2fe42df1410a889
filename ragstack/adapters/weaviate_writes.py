"""Writing to a part of a collection: split to what a request may hold, repeated where that is safe, by-id errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from weaviate import exceptions as driver
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter as Driver
from weaviate.collections.classes.filters import _Filters as DriverFilter

from ragstack.adapters.weaviate_errors import Redaction, is_transient
from ragstack.adapters.weaviate_filters import Compiled, marked
from ragstack.adapters.weaviate_records import ALL, size_of
from ragstack.errors import PartialWriteError, StoreError

Object = DataObject[Any, Any]
T = TypeVar("T")
_OBJECTS_PER_REQUEST = 256
_IDS_PER_DELETE = 1000
_NO_RECORD = "no-record"
_PAUSES_S = (0.25, 0.5, 1.0, 2.0)


def batches(objects: Sequence[Object], dim: int, max_bytes: int) -> Iterator[list[Object]]:
    """The objects in order, in lists of at most 256 and about ``max_bytes``; a larger one goes alone."""
    batch: list[Object] = []
    used = 0
    for object_ in objects:
        size = size_of(object_, dim)
        if batch and (len(batch) == _OBJECTS_PER_REQUEST or used + size > max_bytes):
            yield batch
            batch, used = [], 0
        batch.append(object_)
        used += size
    if batch:
        yield batch


def write(part: Any, objects: Sequence[Object], dim: int, max_bytes: int, connection: Redaction) -> None:
    """Insert or replace by id. PartialWriteError names what the server refused; the others are written."""
    failed: dict[str, str] = {}
    for batch in batches(objects, dim, max_bytes):
        failed.update(_send(part, batch, connection))
    write_logs(part)
    if failed:
        first, reason = next(iter(failed.items()))
        raise PartialWriteError(
            f"Weaviate at {connection.address} refused {len(failed)} of {len(objects)} records, "
            f"first {first}: {reason}.",
            failed,
            hint="Mend these records and write them again; the others are stored.",
        )


def write_logs(part: Any) -> None:
    """Have the server write out its logs, that of the graph too.

    It answers a batch of objects before the graph's part of it has left a buffer of its process; what it is
    killed with there is stored, but found by no vector search. A batch of deletions writes out all logs of
    every shard, also one that matches nothing and is only tried.
    """
    patiently(lambda: part.data.delete_many(where=marked(_NO_RECORD), dry_run=True))


def _send(part: Any, batch: list[Object], connection: Redaction) -> dict[str, str]:
    """The server's reason by id for each object that it refused. Writing again is safe, so a lost request is."""
    try:
        answer = patiently(lambda: part.data.insert_many(batch))
    except driver.WeaviateInsertManyAllFailedError as error:
        # The driver keeps no reason for each when all were refused.
        return {str(object_.uuid): connection.text(error) for object_ in batch}
    return {str(batch[at].uuid): _short(error.message) for at, error in answer.errors.items()}


def patiently(request: Callable[[], T]) -> T:
    """The answer to a request that is safe to repeat, repeated with growing pauses while the failure may pass."""
    for pause in _PAUSES_S:
        try:
            return request()
        except Exception as error:
            if not is_transient(error):
                raise
        time.sleep(pause)
    return request()


def delete_ids(part: Any, ids: Sequence[str], connection: Redaction) -> None:
    """Delete those that exist. PartialWriteError names what the server could not delete."""
    failed: dict[str, str] = {}
    for start in range(0, len(ids), _IDS_PER_DELETE):
        some = list(ids[start : start + _IDS_PER_DELETE])
        answer = _delete(part, Driver.by_id().contains_any(some), verbose=True)
        failed.update({str(o.uuid): _short(o.error or "") for o in answer.objects if not o.successful})
    if failed:
        raise PartialWriteError(
            f"Weaviate at {connection.address} could not delete {len(failed)} records: {next(iter(failed.values()))}.",
            failed,
            hint="Delete them again.",
        )


def delete_matching(part: Any, filter: Compiled, connection: Redaction) -> None:
    """Delete all that match; the server takes them in portions, so it is asked until none is left."""
    if filter == "nothing":
        return
    where = marked(ALL) if isinstance(filter, str) else filter
    while True:
        answer = _delete(part, where, verbose=False)
        if answer.failed:
            raise StoreError(
                f"Weaviate at {connection.address} could not delete {answer.failed} of {answer.matches} records.",
                hint="Delete them again; the server's log says why.",
            )
        if not answer.matches:
            return


def _delete(part: Any, where: DriverFilter, *, verbose: bool) -> Any:
    return patiently(lambda: part.data.delete_many(where=where, verbose=verbose))


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
