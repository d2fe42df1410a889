"""Token vectors of texts that are in no index: kept in memory, uncompressed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ragstack.errors import CapabilityError
from ragstack.reranking.base import PackedTokens
from ragstack.reranking.token_codec import TokenCodec
from ragstack.types import TokenVectors


class MemoryTokenVectorStore:
    """A :class:`ragstack.reranking.base.TokenVectorStore` over an embedder's ``entries``, prepared but not rounded.

    ``codec`` prepares them (None: they stay as they are). For the ranking of texts that came with a request. It has
    no packed form: nothing is copied out of it.
    """

    def __init__(self, entries: Mapping[str, TokenVectors] | None = None, codec: TokenCodec | None = None) -> None:
        self._codec = codec or TokenCodec()
        self._entries: dict[str, tuple[int, TokenVectors]] = {}
        self.put(0, {chunk_id: self.prepare(tokens) for chunk_id, tokens in (entries or {}).items()})

    def prepare(self, tokens: TokenVectors) -> TokenVectors:
        """See :class:`ragstack.reranking.base.TokenVectorStore`."""
        return self._codec.prepare(tokens)

    def put(self, seq: int, entries: Mapping[str, TokenVectors]) -> None:
        """See :class:`ragstack.reranking.base.TokenVectorStore`."""
        self._entries.update({chunk_id: (seq, tokens) for chunk_id, tokens in entries.items()})

    def get(self, chunk_ids: Sequence[str]) -> dict[str, TokenVectors]:
        """See :class:`ragstack.reranking.base.TokenVectorStore`."""
        return {chunk_id: self._entries[chunk_id][1] for chunk_id in chunk_ids if chunk_id in self._entries}

    def delete(self, chunk_ids: Sequence[str]) -> None:
        """See :class:`ragstack.reranking.base.TokenVectorStore`."""
        for chunk_id in chunk_ids:
            self._entries.pop(chunk_id, None)

    def delete_after(self, seq: int) -> int:
        """See :class:`ragstack.reranking.base.TokenVectorStore`."""
        later = [chunk_id for chunk_id, (written, _) in self._entries.items() if written > seq]
        self.delete(later)
        return len(later)

    def chunk_ids(self) -> set[str]:
        """See :class:`ragstack.reranking.base.TokenVectorStore`."""
        return set(self._entries)

    def packed(self, chunk_ids: Sequence[str]) -> list[PackedTokens]:
        """Raises CapabilityError."""
        raise CapabilityError("token vectors kept in memory have no packed form.", hint="Use put and get.")

    def pack(self, chunk_id: str, seq: int, tokens: TokenVectors) -> PackedTokens:
        """Raises CapabilityError."""
        raise CapabilityError("token vectors kept in memory have no packed form.", hint="Use put and get.")

    def put_packed(self, entries: Sequence[PackedTokens]) -> None:
        """Raises CapabilityError."""
        raise CapabilityError("token vectors kept in memory have no packed form.", hint="Use put and get.")

    def flush(self) -> None:
        """Nothing is durable."""

    def close(self) -> None:
        """Nothing is held open."""
