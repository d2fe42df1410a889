"""Vectors that need not be made again: chunks whose embedded text is stored already.

The cache is the index itself. The ledger ties a digest of each published chunk's embedded text to the
chunk; its vectors are in the store. So a line appended to a large file, a renamed file or a copy cost
no inference, nothing is kept twice, and what is erased from the index is gone from the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from ragstack.adapters.base import Payload, VectorStore
from ragstack.embedding.bm25 import Bm25Encoder, EncodedPassage
from ragstack.ledger.schema import collection_name
from ragstack.ledger.snapshot import SnapshotReader
from ragstack.reranking.base import TokenVectorStore
from ragstack.types import Float32Array, Int32Array, embedded_prefix


def embedded_text_of(payload: Payload) -> str:
    """What was embedded for a stored chunk."""
    return embedded_prefix(payload["heading_path"]) + str(payload["text"])


def encode_stored(bm25: Bm25Encoder, payload: Payload) -> EncodedPassage:
    """The sparse vector and length that a stored chunk's payload stands for."""
    language = str(payload.get("text_language", ""))
    return bm25.encode_chunk(str(payload["text"]), payload["heading_path"], payload, language)


def text_digest(embedded_text: str) -> bytes:
    """128 bits of BLAKE2b of what the embedder reads."""
    return blake2b(embedded_text.encode("utf-8"), digest_size=16).digest()


@dataclass(frozen=True)
class Origin:
    """A generation whose vectors were made by the model of the config; ``tokens`` None where none are kept."""

    generation: int
    tokens: TokenVectorStore | None


@dataclass(frozen=True)
class StoredVectors:
    """One text's vectors as they are stored. ``tokens`` and ``token_ids`` are None where none are kept."""

    dense: Float32Array
    tokens: bytes | None
    token_ids: Int32Array | None


@dataclass(frozen=True)
class EmbeddingCache:
    """Looks texts up in the generations given, the first one first."""

    ledger: SnapshotReader
    store: VectorStore
    origins: Sequence[Origin]

    def find(self, texts: Sequence[str]) -> dict[int, StoredVectors]:
        """Stored vectors by position in ``texts``, for those that are found."""
        found: dict[int, StoredVectors] = {}
        for origin in self.origins:
            missing = [i for i in range(len(texts)) if i not in found]
            found.update(self._find_in(origin, texts, missing))
        return found

    def _find_in(self, origin: Origin, texts: Sequence[str], positions: Sequence[int]) -> dict[int, StoredVectors]:
        digests = {i: text_digest(texts[i]) for i in positions}
        known = self.ledger.embedded(origin.generation, list(digests.values()))
        if not known:
            return {}
        ids = list(known.values())
        records = self.store.fetch(collection_name(origin.generation), ids)
        packed = {item.chunk_id: item.data for item in origin.tokens.packed(ids)} if origin.tokens is not None else {}
        tokens = origin.tokens.get(ids) if origin.tokens is not None else {}
        found = {}
        for position, digest in digests.items():
            identity = known.get(digest, "")
            record = records.get(identity)
            # The text itself decides: a digest only says where to look.
            if record is None or embedded_text_of(record.payload) != texts[position]:
                continue
            if origin.tokens is None:
                found[position] = StoredVectors(record.dense, None, None)
            elif identity in packed:
                found[position] = StoredVectors(record.dense, packed[identity], tokens[identity].token_ids)
        return found
