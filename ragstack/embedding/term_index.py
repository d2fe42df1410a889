"""The number that stands for a term in sparse vectors."""

from __future__ import annotations

from hashlib import blake2b


def term_index(term: str) -> int:
    """The uint32 index of a term: the first 4 bytes of its BLAKE2b hash, little-endian; equal on every machine."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "little")
