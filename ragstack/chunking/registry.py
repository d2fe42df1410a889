"""The chunkers by the name used as ``type:`` in a config; a new one is one module and one row."""

from __future__ import annotations

from ragstack.registry import Entry, Registry

CHUNKERS = Registry(
    "chunkers",
    {
        "auto": Entry("ragstack.chunking.auto:AutoChunker"),
        "code": Entry("ragstack.chunking.code:CodeChunker"),
        "fixed": Entry("ragstack.chunking.fixed:FixedChunker"),
        "markdown": Entry("ragstack.chunking.markdown:MarkdownChunker"),
        "recursive": Entry("ragstack.chunking.recursive:RecursiveChunker"),
        "sentence": Entry("ragstack.chunking.sentence:SentenceChunker"),
    },
)
