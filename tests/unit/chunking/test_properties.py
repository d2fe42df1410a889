"""What holds for every chunker, document and tokenizer: the clauses of ``ragstack.chunking.base.Chunker``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstack.chunking.registry import CHUNKERS
from ragstack.parsing.base import RawSource
from ragstack.parsing.registry import parser_for
from ragstack.source_map import SourceMap
from ragstack.types import ChunkSpan, Document, Source, Tokenizer

PIECES = [
    "the quick brown fox ",
    "The same line again.\n",
    "word",
    " ",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    "\t",
    "\x0c",
    "\u2028",
    "\u00a0",
    "\u200b",
    "\x00",
    "\x07",
    "One sentence. Another one! A third? ",
    "Dr. Smith paid 3.14 dollars. ",
    "# Title\n",
    "## Sub *section*\n",
    "Setext\n===\n",
    "- item\n",
    "  - nested item\n",
    "1. first\n",
    "> quoted\n",
    "> > deeper\n",
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
    "```python\nx = 1\n\ny = 2\n```\n",
    "```\n",
    "<div>\nx\n</div>\n",
    "[ref]: https://example.org\n",
    "---\n",
    "---\ntitle: T\n---\n",
    "def f(x):\n    return x\n\n",
    "class A:\n    def m(self):\n        pass\n",
    "# comment\n",
    "你好，世界。今天天气很好！",
    "한국어 문장입니다. ",
    "안녕하세요",
    "日本語の文。",
    "مرحبا بالعالم؟ ",
    "שלום עולם. ",
    "नमस्ते दुनिया। ",
    "e\u0301\u0323",
    "a" + "\u0301" * 40,
    "👩‍👩‍👧‍👦",
    "🇩🇪🇫🇷🇯🇵",
    "👍🏽 ",
    "x" * 130,
    "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo" * 8,
    "supercalifragilisticexpialidocious",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ",
    "ǅ½ﬁ ",
]
TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=60).map("".join),
    st.tuples(st.sampled_from(PIECES), st.integers(1, 120)).map(lambda pair: pair[0] * pair[1]),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=200),
)
MEDIA_TYPES = st.sampled_from(["text/plain", "text/markdown", "text/x-python", "text/x-kotlin", "none"])
NAMES = ["auto", "code", "fixed", "markdown", "recursive", "sentence"]


def make_document(text: str, media_type: str = "text/plain") -> Document:
    """The document that the parser of ``media_type`` makes of ``text``; with ``none``, one without blocks."""
    data = text.encode("utf-8")
    source = Source("root/a", "file:///root/a", "0" * 64)
    if media_type == "none":
        return Document(source, text, "text/plain", "utf-8", SourceMap.identity(len(data)))
    (document,) = parser_for(media_type).parse(RawSource(source, data, media_type))
    return document


def check(document: Document, spans: Sequence[ChunkSpan], tokenizer: Tokenizer, limit: int, overlap: int) -> None:
    data = document.canonical_bytes
    covered = bytearray(len(data))
    texts = []
    for span in spans:
        text = data[span.byte_start : span.byte_end].decode("utf-8")  # C1, and character boundaries
        assert text
        assert text == text.strip()
        texts.append(text)
        covered[span.byte_start : span.byte_end] = b"\x01" * (span.byte_end - span.byte_start)
    assert [span.token_count for span in spans] == tokenizer.count(texts)
    assert all(span.token_count <= limit for span in spans)
    bounds = [(span.byte_start, span.byte_end) for span in spans]
    assert bounds == sorted(set(bounds))
    for left, right in pairwise(spans):
        if overlap == 0:
            assert left.byte_end <= right.byte_start
        shared = data[right.byte_start : max(left.byte_end, right.byte_start)].decode("utf-8")
        assert not shared.strip() or tokenizer.count([shared])[0] <= overlap
    for block in document.blocks:
        if block.kind == "metadata":
            assert not any(covered[block.byte_start : block.byte_end])
            covered[block.byte_start : block.byte_end] = b"\x01" * (block.byte_end - block.byte_start)
    position = 0
    for character in document.text:
        width = len(character.encode("utf-8"))
        assert character.isspace() or all(covered[position : position + width])
        position += width


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(text=TEXTS, media_type=MEDIA_TYPES, limit=st.integers(8, 64), share=st.sampled_from([0, 0, 0.1, 0.5]))
def test_the_contract(tokenizer: Tokenizer, name: str, text: str, media_type: str, limit: int, share: float) -> None:
    document = make_document(text, media_type)
    overlap = int(limit * share)
    chunker = CHUNKERS.load(name)(max_tokens=limit, overlap_tokens=overlap)
    spans = chunker.chunk(document, tokenizer)
    check(document, spans, tokenizer, limit, overlap)
    assert CHUNKERS.load(name)(max_tokens=limit, overlap_tokens=overlap).chunk(document, tokenizer) == spans


@pytest.mark.parametrize("name", NAMES)
def test_large_and_strange(wordpiece: Tokenizer, name: str) -> None:
    # More than one tokenisation window of each.
    texts = [
        "A line without an end " * 8000,
        "x" * 150_000,
        "語" * 50_000,
        " " * 100_000 + "a",
        "row;row;row\r\n" * 12_000,
        "a\n\n" * 20_000,
        "👩‍👩‍👧‍👦" * 3000,
        "e" + "\u0301" * 40_000,
    ]
    for text in texts:
        for media_type in ("text/plain", "text/markdown"):
            document = make_document(text, media_type)
            spans = CHUNKERS.load(name)().chunk(document, wordpiece)
            check(document, spans, wordpiece, 200, 0)
            assert all(span.byte_end - span.byte_start <= 200 * 16 for span in spans)


def test_registry_names_every_chunker() -> None:
    assert CHUNKERS.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_fingerprint_follows_settings(name: str) -> None:
    chunker = CHUNKERS.load(name)
    first, same, other = chunker(), chunker(max_tokens=200), chunker(max_tokens=100)
    assert json.dumps(first.fingerprint) == json.dumps(same.fingerprint) != json.dumps(other.fingerprint)
    assert first.fingerprint["type"] == name
