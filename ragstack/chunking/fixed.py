"""The fixed chunker: chunks of a fixed number of tokens, cut between words."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.chunking.layout import layout_of, spans_of
from ragstack.chunking.packing import Limits, cut
from ragstack.types import ChunkSpan, Document, Tokenizer


class FixedChunker:
    """Fills every chunk up to ``max_tokens`` and looks at nothing but words: a baseline to compare with.

    ``max_tokens`` and ``overlap_tokens`` count tokens of the embedder's tokenizer, special tokens left
    out. Raises InputError when they contradict each other.
    """

    def __init__(self, *, max_tokens: int = 200, overlap_tokens: int = 0) -> None:
        self._limits = Limits(max_tokens, overlap_tokens)
        self.fingerprint: dict[str, object] = {
            "type": "fixed",
            "version": 1,
            "max_tokens": max_tokens,
            "overlap_tokens": overlap_tokens,
        }

    def chunk(self, document: Document, tokenizer: Tokenizer) -> Sequence[ChunkSpan]:
        """The spans of ``document``; see :class:`ragstack.chunking.base.Chunker`."""
        layout = layout_of(document)
        pieces = cut(layout.data, layout.body, (), self._limits, tokenizer, balance=False)
        return spans_of(layout, pieces)
