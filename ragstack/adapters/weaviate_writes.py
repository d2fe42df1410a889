"""Writing to a part of a collection: split to what a request may hold, repeated where that is safe, by-id errors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from weaviate import exceptions as driver
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter as Driver

from ragstack.adapters.weaviate_errors import Redaction, is_transient
from ragstack.adapters.weaviate_filters import Compiled, marked
from ragstack.adapters.weaviate_records import ALL, size_of
from ragstack.errors import PartialWriteError, StoreError

Object = DataObject[Any, Any]
_OBJECTS_PER_REQUEST = 256
_IDS_PER_DELETE = 1000
_ATTEMPTS = 4
_FIRST_PAUSE_S = 0.25


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
    if failed:
        first, reason = next(iter(failed.items()))
        raise PartialWriteError(
            f"Weaviate at {connection.address} refused {len(failed)} of {len(objects)} records, "
            f"first {first}: {reason}.",
            failed,
            hint="Mend these records and write them again; the others are stored.",
        )


def _send(part: Any, batch: list[Object], connection: Redaction) -> dict[str, str]:
    """The server's reason by id for each object that it refused. Writing again is safe, so a lost request is."""
    pause = _FIRST_PAUSE_S
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            answer = part.data.insert_many(batch)
            return {str(batch[at].uuid): _short(error.message) for at, error in answer.errors.items()}
        except driver.WeaviateInsertManyAllFailedError as error:
            # The driver keeps no reason for each when it has none to praise.
            return {str(object_.uuid): connection.text(error) for object_ in batch}
        except Exception as error:
            if attempt == _ATTEMPTS or not is_transient(error):
                raise
        time.sleep(pause)
        pause *= 2
    raise AssertionError("unreachable")


def delete_ids(part: Any, ids: Sequence[str], connection: Redaction) -> None:
    """Delete those that exist. PartialWriteError names what the server could not delete."""
    failed: dict[str, str] = {}
    for start in range(0, len(ids), _IDS_PER_DELETE):
        some = list(ids[start : start + _IDS_PER_DELETE])
        answer = part.data.delete_many(where=Driver.by_id().contains_any(some), verbose=True)
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
        answer = part.data.delete_many(where=where)
        if answer.failed:
            raise StoreError(
                f"Weaviate at {connection.address} could not delete {answer.failed} of {answer.matches} records.",
                hint="Delete them again; the server's log says why.",
            )
        if not answer.matches:
            return


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
