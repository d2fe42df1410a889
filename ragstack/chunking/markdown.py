"""The Markdown chunker: one section at a time, each chunk under one heading path."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.chunking.layout import layout_of, prose_levels, sections, spans_of
from ragstack.chunking.packing import Limits, cut
from ragstack.types import ChunkSpan, Document, Tokenizer


class MarkdownChunker:
    """Cuts before every heading, and long sections as the recursive chunker does; sections are never merged.

    A heading belongs to the chunk of the text that follows it, and so does a run of headings.

    ``max_tokens`` and ``overlap_tokens`` count tokens of the embedder's tokenizer, special tokens left
    out. Raises InputError when they contradict each other.
    """

    def __init__(self, *, max_tokens: int = 200, overlap_tokens: int = 0) -> None:
        self._limits = Limits(max_tokens, overlap_tokens)
        self.fingerprint: dict[str, object] = {
            "type": "markdown",
            "version": 2,
            "max_tokens": max_tokens,
            "overlap_tokens": overlap_tokens,
        }

    def chunk(self, document: Document, tokenizer: Tokenizer) -> Sequence[ChunkSpan]:
        """The spans of ``document``; see :class:`ragstack.chunking.base.Chunker`."""
        layout = layout_of(document)
        levels = prose_levels(layout)
        pieces = cut(layout.data, sections(layout), levels, self._limits, tokenizer)
        return spans_of(layout, pieces)
