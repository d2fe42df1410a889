"""The code chunker: definitions, then blank lines, then lines."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.chunking.layout import blank_line_cuts, block_cuts, layout_of, line_cuts, spans_of
from ragstack.chunking.packing import Level, Limits, cut
from ragstack.types import ChunkSpan, Document, Tokenizer


class CodeChunker:
    """Keeps functions and methods whole where they fit and puts small neighbours together.

    The heading path of a chunk is the chain of definitions that hold all of it, such as
    ``("class Foo", "def bar")``.

    ``max_tokens`` and ``overlap_tokens`` count tokens of the embedder's tokenizer, special tokens left
    out. Raises InputError when they contradict each other.
    """

    def __init__(self, *, max_tokens: int = 200, overlap_tokens: int = 0) -> None:
        self._limits = Limits(max_tokens, overlap_tokens)
        self.fingerprint: dict[str, object] = {
            "type": "code",
            "version": 1,
            "max_tokens": max_tokens,
            "overlap_tokens": overlap_tokens,
        }

    def chunk(self, document: Document, tokenizer: Tokenizer) -> Sequence[ChunkSpan]:
        """The spans of ``document``; see :class:`ragstack.chunking.base.Chunker`."""
        layout = layout_of(document)
        levels = (
            Level(block_cuts(layout, max_scope=1), min_fill=0.5),
            Level(block_cuts(layout), min_fill=0.4),
            Level(blank_line_cuts(layout), min_fill=0.4),
            Level(line_cuts(layout), min_fill=0.0),
        )
        pieces = cut(layout.data, layout.body, levels, self._limits, tokenizer)
        return spans_of(layout, pieces)
