"""Which archived documents nothing refers to any more."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from ragstack.archive.base import DocumentArchive, DocumentKey


def unreferenced(archive: DocumentArchive, live: Iterable[DocumentKey]) -> list[DocumentKey]:
    """Keys that the archive holds and ``live`` does not name, in their order.

    Of the live keys 16 bytes each are held in memory, for a large index has millions; two that share a digest
    (probability below 2**-80) would keep a document too many, never delete one too many.
    """
    wanted = {_digest(key) for key in live}
    return [key for key in archive.keys() if _digest(key) not in wanted]  # noqa: SIM118 - an archive is no mapping


def _digest(key: DocumentKey) -> bytes:
    return blake2b("\0".join(key).encode("utf-8", "surrogatepass"), digest_size=16).digest()
