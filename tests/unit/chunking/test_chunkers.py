"""What each chunker is for: sections, heading paths, whole rows, whole functions, sentences, overlap."""

from __future__ import annotations

import itertools

import pytest

from ragstack.chunking.auto import AutoChunker
from ragstack.chunking.code import CodeChunker
from ragstack.chunking.fixed import FixedChunker
from ragstack.chunking.graphemes import is_cluster_boundary
from ragstack.chunking.markdown import MarkdownChunker
from ragstack.chunking.packing import soft_cut
from ragstack.chunking.recursive import RecursiveChunker
from ragstack.chunking.sentence import SentenceChunker
from ragstack.errors import InputError
from ragstack.parsing.base import RawSource
from ragstack.parsing.registry import parser_for
from ragstack.types import ChunkSpan, Document, Source, Tokenizer


def make_document(text: str, media_type: str = "text/markdown") -> Document:
    source = Source("root/a", "file:///root/a", "0" * 64)
    (document,) = parser_for(media_type).parse(RawSource(source, text.encode("utf-8"), media_type))
    return document


def texts(document: Document, spans: list[ChunkSpan]) -> list[str]:
    return [document.canonical_bytes[s.byte_start : s.byte_end].decode("utf-8") for s in spans]


SECTIONS = """---
title: Front
---
Intro.

# One

## Empty

### Deep

Deep text.

## Two

Text of two.

# Three
"""


def test_markdown_sections_and_paths(wordpiece: Tokenizer) -> None:
    document = make_document(SECTIONS)
    spans = list(MarkdownChunker().chunk(document, wordpiece))
    assert list(zip(texts(document, spans), [s.heading_path for s in spans], strict=True)) == [
        ("Intro.", ()),
        ("# One\n\n## Empty\n\n### Deep\n\nDeep text.", ("One", "Empty", "Deep")),
        ("## Two\n\nText of two.", ("One", "Two")),
        ("# Three", ("Three",)),
    ]


def test_recursive_merges_sections_and_names_the_first_path(wordpiece: Tokenizer) -> None:
    document = make_document(SECTIONS)
    (span,) = RecursiveChunker().chunk(document, wordpiece)
    assert texts(document, [span])[0].startswith("Intro.")
    assert span.heading_path == ()


def test_a_long_section_keeps_its_path_and_its_heading_is_never_alone(wordpiece: Tokenizer) -> None:
    paragraph = "This sentence has quite a few words in it. " * 12
    document = make_document(f"# Top\n\n## Long\n\n{paragraph}\n\n{paragraph}\n\n{paragraph}\n")
    spans = list(MarkdownChunker(max_tokens=100).chunk(document, wordpiece))
    assert len(spans) > 3
    assert {s.heading_path for s in spans} == {("Top", "Long")}
    assert texts(document, spans)[0].startswith("# Top\n\n## Long\n\nThis sentence")
    assert all(text.endswith(".") for text in texts(document, spans))


def test_the_last_chunks_are_balanced(wordpiece: Tokenizer) -> None:
    document = make_document("A short sentence of eight words here. " * 30, "text/plain")
    spans = list(RecursiveChunker(max_tokens=200).chunk(document, wordpiece))
    assert len(spans) == 2
    assert min(s.token_count for s in spans) > 100


def test_table_rows_and_code_lines_stay_whole(wordpiece: Tokenizer) -> None:
    rows = "".join(f"| row {i} | a cell with. A stop {i} |\n" for i in range(60))
    lines = "".join(f"value_{i} = compute(value_{i - 1})  # step. Next\n" for i in range(60))
    document = make_document(f"| name | value |\n|---|---|\n{rows}\ntext\n\n```python\n{lines}```\n")
    for chunker in (MarkdownChunker(max_tokens=64), RecursiveChunker(max_tokens=64), SentenceChunker(max_tokens=64)):
        whole = set(document.text.split("\n"))
        for text in texts(document, list(chunker.chunk(document, wordpiece))):
            assert set(text.split("\n")) <= whole


def test_lines_of_a_log_stay_whole(wordpiece: Tokenizer) -> None:
    log = "".join(f"2024-01-01T00:00:{i:02d} host service[{i}]: connected to peer {i}\n" for i in range(60))
    document = make_document(log, "text/plain")
    whole = set(log.split("\n"))
    for text in texts(document, list(AutoChunker().chunk(document, wordpiece))):
        assert set(text.split("\n")) <= whole


CODE = '''import os
from pathlib import Path


class Foo:
    """Doc."""

    def small(self):
        return 1

    def other(self):
        return 2


def bar(x):
    return x
'''


def test_code_keeps_small_neighbours_together(wordpiece: Tokenizer) -> None:
    document = make_document(CODE, "text/x-python")
    (span,) = CodeChunker().chunk(document, wordpiece)
    assert span.heading_path == ()
    spans = list(CodeChunker(max_tokens=12).chunk(document, wordpiece))
    found = list(zip(texts(document, spans), [s.heading_path for s in spans], strict=True))
    assert found[-1] == ("def bar(x):\n    return x", ("def bar",))
    assert ("def other(self):\n        return 2", ("class Foo", "def other")) in found


def test_code_cuts_a_long_function_at_lines_and_keeps_its_name(wordpiece: Tokenizer) -> None:
    body = "".join(f"        self.value_{i} = compute({i})\n" for i in range(40))
    document = make_document(f"class A:\n    def m(self):\n{body}", "text/x-python")
    spans = list(CodeChunker(max_tokens=64).chunk(document, wordpiece))
    assert len(spans) > 4
    assert {s.heading_path for s in spans[1:]} == {("class A", "def m")}
    lines = {line.strip() for line in document.text.split("\n")}
    assert all({line.strip() for line in text.split("\n")} <= lines for text in texts(document, spans))


@pytest.mark.parametrize(
    ("text", "media_type", "expected"),
    [
        ("# H\n\ntext", "text/markdown", MarkdownChunker),
        ("text\n\n- a", "text/markdown", RecursiveChunker),
        ("text", "text/plain", RecursiveChunker),
        ("x = 1", "text/x-python", CodeChunker),
        ("SELECT 1;", "text/x-sql", CodeChunker),
        ("```\nonly code\n```\ntext", "text/markdown", RecursiveChunker),
    ],
)
def test_auto_chooses(text: str, media_type: str, expected: type) -> None:
    assert isinstance(AutoChunker().choose(make_document(text, media_type)), expected)


def test_fixed_fills_chunks_to_the_limit(wordpiece: Tokenizer) -> None:
    document = make_document("one two three four five six seven " * 100, "text/plain")
    spans = list(FixedChunker(max_tokens=50).chunk(document, wordpiece))
    assert [s.token_count for s in spans] == [50] * 14


def test_overlap_repeats_whole_sentences_when_they_fit(wordpiece: Tokenizer) -> None:
    document = make_document(" ".join(f"Sentence {n} is here now." for n in range(100, 160)), "text/plain")
    spans = list(SentenceChunker(max_tokens=60, overlap_tokens=15).chunk(document, wordpiece))
    for left, right in itertools.pairwise(spans):
        shared = document.canonical_bytes[right.byte_start : left.byte_end].decode("utf-8")
        assert shared.startswith("Sentence")
        assert shared.endswith(".")
        assert 7 <= wordpiece.count([shared])[0] <= 15


@pytest.mark.parametrize(
    ("max_tokens", "overlap_tokens", "words"),
    [(0, 0, "max_tokens is 0"), (-5, 0, "max_tokens is -5"), (10, 6, "0 to 5"), (10, -1, "overlap_tokens is -1")],
)
def test_settings_are_checked(max_tokens: int, overlap_tokens: int, words: str) -> None:
    for chunker in (AutoChunker, CodeChunker, FixedChunker, MarkdownChunker, RecursiveChunker, SentenceChunker):
        with pytest.raises(InputError, match=words):
            chunker(max_tokens=max_tokens, overlap_tokens=overlap_tokens)


def test_a_character_with_more_tokens_than_fit(wordpiece: Tokenizer) -> None:
    document = make_document("한", "text/plain")  # decomposes into three jamo
    with pytest.raises(InputError, match=r"'한' at byte 0 alone has 3 tokens.*at least 3"):
        RecursiveChunker(max_tokens=2).chunk(document, wordpiece)


@pytest.mark.parametrize("cluster", ["👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "e\u0301\u0323", "각", "ก\u0e33", "☎\ufe0f", "\r\n"])
def test_clusters_stay_whole(cluster: str) -> None:
    inside = [i for i in range(1, len(cluster)) if is_cluster_boundary(cluster * 3, len(cluster) + i)]
    assert inside == []
    assert is_cluster_boundary(cluster * 3, len(cluster))
    data = (cluster * 20).encode("utf-8")
    width = len(cluster.encode("utf-8"))
    for hi in range(width, len(data), 3):
        while data[hi : hi + 1] and data[hi] & 0xC0 == 0x80:
            hi += 1  # noqa: PLW2901
        assert soft_cut(data, 0, hi, hi) % width == 0
