"""Domain types shared by every part. Offsets are bytes of the canonical text unless the name says otherwise."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ragstack.source_map import SourceMap

Float32Array: TypeAlias = NDArray[np.float32]
Int32Array: TypeAlias = NDArray[np.int32]
UInt32Array: TypeAlias = NDArray[np.uint32]

FieldValue: TypeAlias = "str | int | float | bool | list[str] | list[int] | list[float]"
BlockKind: TypeAlias = Literal["heading", "paragraph", "list", "quote", "code", "table", "metadata", "other"]

_CHUNK_NAMESPACE = uuid.UUID("6f0f7c1e-3d0b-5b57-9a8e-5d1f6f0c3a10")


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: the form that is hashed for fingerprints and digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_hex(data: bytes) -> str:
    """SHA-256 of ``data`` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Source:
    """One file or object as raw bytes, and one version of it.

    ``source_id`` is root label + ``/`` + path relative to that root, always with ``/``; it does not
    depend on the machine or on the folders above the root. ``source_uri`` says where it was read.
    ``source_version`` is the SHA-256 (hex) of the raw bytes.
    """

    source_id: str
    source_uri: str
    source_version: str


@dataclass(frozen=True, slots=True)
class Block:
    """A structural unit of a document that a chunker prefers not to cut.

    Blocks are sorted and disjoint; text between them is separators. A ``heading`` block has its
    ``level`` (1 is the highest) and plain ``title``; a ``code`` block its ``language`` where known, and
    in ``scope`` the definitions that it is part of, outermost first (``class Foo``, ``def bar``). A
    ``metadata`` block is what the format declares about the document (front matter): it is no body
    text, and no chunk holds it.
    """

    kind: BlockKind
    byte_start: int
    byte_end: int
    level: int = 0
    title: str = ""
    language: str = ""
    scope: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """What a parser makes of one source version.

    ``text`` is the canonical text, never normalised (CRLF stays inside, a BOM is outside).
    ``source_encoding`` names the codec of the raw bytes. ``metadata`` holds what the format declares
    (front matter, title, language). ``blocks`` is empty where the format has no structure.
    """

    source: Source
    text: str
    media_type: str
    source_encoding: str
    source_map: SourceMap
    metadata: Mapping[str, Any] = field(default_factory=dict)
    blocks: Sequence[Block] = ()

    @cached_property
    def canonical_bytes(self) -> bytes:
        """The canonical text as UTF-8: what ``byte_start`` and ``byte_end`` count."""
        return self.text.encode("utf-8")


class Tokenizer(Protocol):
    """Counts and locates tokens the way the embedder's model does, special tokens left out."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text."""

    def token_byte_spans(self, text: str) -> Int32Array:
        """Byte offsets (UTF-8 of ``text``) of each token: ``(n, 2) int32``, half-open, sorted by start.

        Text that the model drops (spaces, control characters) lies between spans.
        """


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """What a chunker returns: a byte range of the canonical text, never a string to be searched for.

    ``token_count`` is what the embedder's tokenizer counts in that text alone, specials and heading
    prefix left out. ``heading_path`` is the chain of titles above the chunk, outermost first.
    """

    byte_start: int
    byte_end: int
    token_count: int
    heading_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A contiguous byte range of one document's canonical text, as it is stored and retrieved.

    ``text_language`` is the ISO 639-1 code of what its document is written in, or empty where that could not be told.
    """

    chunk_id: str
    source_id: str
    source_version: str
    byte_start: int
    byte_end: int
    text: str
    token_count: int
    heading_path: tuple[str, ...] = ()
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    text_language: str = ""

    @property
    def embedded_text(self) -> str:
        """What the embedder reads: the heading path on a line of its own, then the text."""
        return embedded_prefix(self.heading_path) + self.text


def embedded_prefix(heading_path: Sequence[str]) -> str:
    """The line put before a chunk's text when it is embedded; empty without headings."""
    return " > ".join(heading_path) + "\n" if heading_path else ""


def chunk_id(source_id: str, source_version: str, byte_start: int, byte_end: int, fingerprint: str) -> str:
    """The chunk's UUID (version 5): a function of its five arguments alone, equal on every machine.

    ``fingerprint`` is the pipeline fingerprint: a hash over everything that changes what is stored
    for the same bytes.
    """
    name = "\x00".join((source_id, source_version, str(byte_start), str(byte_end), fingerprint))
    return str(uuid.uuid5(_CHUNK_NAMESPACE, name))


@dataclass(frozen=True)
class SparseVector:
    """A sparse vector: ``indices`` ``(n,) uint32``, sorted and unique; ``values`` ``(n,) float32``."""

    indices: UInt32Array
    values: Float32Array

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class TokenVectors:
    """One text's token vectors, special tokens left out.

    ``vectors`` ``(t, dim) float32``, each of length 1; ``token_ids`` ``(t,) int32``; ``byte_spans``
    ``(t, 2) int32``: byte offsets of each token in the text that was embedded.
    """

    vectors: Float32Array
    token_ids: Int32Array
    byte_spans: Int32Array

    def __len__(self) -> int:
        return len(self.token_ids)
