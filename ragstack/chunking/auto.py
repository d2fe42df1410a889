"""The default chunker: the one that suits each document."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.chunking.base import Chunker
from ragstack.chunking.code import CodeChunker
from ragstack.chunking.markdown import MarkdownChunker
from ragstack.chunking.recursive import RecursiveChunker
from ragstack.types import ChunkSpan, Document, Tokenizer


class AutoChunker:
    """``markdown`` for documents with headings, ``code`` for source code, ``recursive`` for the rest.

    Source code is a document all of whose blocks are code. ``max_tokens`` and ``overlap_tokens``
    count tokens of the embedder's tokenizer, special tokens left out. Raises InputError when they
    contradict each other.
    """

    def __init__(self, *, max_tokens: int = 200, overlap_tokens: int = 0) -> None:
        self._code = CodeChunker(max_tokens=max_tokens, overlap_tokens=overlap_tokens)
        self._markdown = MarkdownChunker(max_tokens=max_tokens, overlap_tokens=overlap_tokens)
        self._recursive = RecursiveChunker(max_tokens=max_tokens, overlap_tokens=overlap_tokens)
        self.fingerprint: dict[str, object] = {
            "type": "auto",
            "version": 2,
            "max_tokens": max_tokens,
            "overlap_tokens": overlap_tokens,
            "parts": [part.fingerprint for part in (self._code, self._markdown, self._recursive)],
        }

    def chunk(self, document: Document, tokenizer: Tokenizer) -> Sequence[ChunkSpan]:
        """The spans of ``document``; see :class:`ragstack.chunking.base.Chunker`."""
        return self.choose(document).chunk(document, tokenizer)

    def choose(self, document: Document) -> Chunker:
        """The chunker that ``chunk`` uses for ``document``."""
        kinds = {block.kind for block in document.blocks}
        if "heading" in kinds:
            return self._markdown
        return self._code if kinds == {"code"} else self._recursive
