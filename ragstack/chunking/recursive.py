"""The recursive chunker: sections, then blocks, then sentences and lines, then words."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.chunking.layout import layout_of, prose_levels, spans_of
from ragstack.chunking.packing import Limits, cut
from ragstack.types import ChunkSpan, Document, Tokenizer


class RecursiveChunker:
    """Fills chunks across the whole document, cutting at the coarsest boundary that leaves them at least half full.

    ``max_tokens`` and ``overlap_tokens`` count tokens of the embedder's tokenizer, special tokens left
    out. Raises InputError when they contradict each other.
    """

    def __init__(self, *, max_tokens: int = 200, overlap_tokens: int = 0) -> None:
        self._limits = Limits(max_tokens, overlap_tokens)
        self.fingerprint: dict[str, object] = {
            "type": "recursive",
            "version": 2,
            "max_tokens": max_tokens,
            "overlap_tokens": overlap_tokens,
        }

    def chunk(self, document: Document, tokenizer: Tokenizer) -> Sequence[ChunkSpan]:
        """The spans of ``document``; see :class:`ragstack.chunking.base.Chunker`."""
        layout = layout_of(document)
        levels = prose_levels(layout)
        pieces = cut(layout.data, layout.body, levels, self._limits, tokenizer)
        return spans_of(layout, pieces)
