"""The sentence chunker: as many whole sentences as fit."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.chunking.layout import block_cuts, layout_of, line_cuts, merged, sentence_cuts, spans_of
from ragstack.chunking.packing import Level, Limits, cut
from ragstack.types import ChunkSpan, Document, Tokenizer


class SentenceChunker:
    """Fills chunks with whole sentences (rows and lines in tables and code), whatever the paragraphs.

    ``max_tokens`` and ``overlap_tokens`` count tokens of the embedder's tokenizer, special tokens left
    out. Raises InputError when they contradict each other.
    """

    def __init__(self, *, max_tokens: int = 200, overlap_tokens: int = 0) -> None:
        self._limits = Limits(max_tokens, overlap_tokens)
        self.fingerprint: dict[str, object] = {
            "type": "sentence",
            "version": 2,
            "max_tokens": max_tokens,
            "overlap_tokens": overlap_tokens,
        }

    def chunk(self, document: Document, tokenizer: Tokenizer) -> Sequence[ChunkSpan]:
        """The spans of ``document``; see :class:`ragstack.chunking.base.Chunker`."""
        layout = layout_of(document)
        whole = merged(block_cuts(layout), sentence_cuts(layout))
        levels = (Level(whole, min_fill=0.15), Level(line_cuts(layout), min_fill=0.3))
        pieces = cut(layout.data, layout.body, levels, self._limits, tokenizer)
        return spans_of(layout, pieces)
