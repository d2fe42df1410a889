"""Writing many points to a Qdrant server, and finding out which of them it refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qdrant_client import models

from ragstack.adapters.qdrant_server_errors import RequestRefusedError
from ragstack.adapters.qdrant_server_records import portions
from ragstack.config.stores.qdrant import QdrantStoreConfig
from ragstack.errors import PartialWriteError


def upsert_points(
    points: Sequence[models.PointStruct],
    block: QdrantStoreConfig,
    collection: str,
    upsert: Callable[[list[models.PointStruct]], None],
) -> None:
    """Write the points in portions. A portion that the server refuses is halved until single points are refused.

    Raises RequestRefusedError when it refuses all of them, PartialWriteError when it took some.
    """
    refused: dict[str, RequestRefusedError] = {}
    for portion in portions(points, block.batch_points, block.batch_bytes):
        _write(portion, upsert, refused)
    if not refused:
        return
    first_id, first = next(iter(refused.items()))
    if len(refused) == len(points):
        raise first
    raise PartialWriteError(
        f"the Qdrant server at {block.uri} refused {len(refused)} of {len(points)} records for the collection"
        f" {collection!r}; the others are written. Record {first_id}: {first.message}",
        {id_: error.message for id_, error in refused.items()},
        hint=first.hint,
    )


def _write(
    points: list[models.PointStruct],
    upsert: Callable[[list[models.PointStruct]], None],
    refused: dict[str, RequestRefusedError],
) -> None:
    try:
        upsert(points)
    except RequestRefusedError as error:
        if len(points) == 1:
            refused[str(points[0].id)] = error
            return
        half = len(points) // 2
        _write(points[:half], upsert, refused)
        _write(points[half:], upsert, refused)
