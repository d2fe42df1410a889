"""Markdown: blocks with exact byte ranges, titles, front matter, hostile input."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.types import Document

SAMPLE = """é and a # that is none

# Títle with *emphasis*, `code` and [link](http://x) {#anchor}

para one
goes on

Second level
---

- a
  - nested

  still a
- c

```py title=x
# not a heading

1
```

| a | b |
|---|---|
| 1 | 2 |

> quote
> > deeper

<div>
# not a heading either
</div>

[ref]: http://example.org

***

## Closed ##
"""


def kinds(document: Document) -> list[tuple[str, str]]:
    data = document.canonical_bytes
    return [(b.kind, data[b.byte_start : b.byte_end].decode("utf-8")) for b in document.blocks]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_blocks(parse, line_end: str) -> None:
    document = parse(SAMPLE.replace("\n", line_end).encode(), "a.md")
    assert [(kind, text.replace(line_end, "\n")) for kind, text in kinds(document)] == [
        ("paragraph", "é and a # that is none"),
        ("heading", "# Títle with *emphasis*, `code` and [link](http://x) {#anchor}"),
        ("paragraph", "para one\ngoes on"),
        ("heading", "Second level\n---"),
        ("list", "- a\n  - nested\n\n  still a"),
        ("list", "- c"),
        ("code", "```py title=x\n# not a heading\n\n1\n```"),
        ("table", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("quote", "> quote\n> > deeper"),
        ("other", "<div>\n# not a heading either\n</div>"),
        ("other", "[ref]: http://example.org"),
        ("other", "***"),
        ("heading", "## Closed ##"),
    ]
    headings = [(b.level, b.title) for b in document.blocks if b.kind == "heading"]
    assert headings == [(1, "Títle with emphasis, code and link"), (2, "Second level"), (2, "Closed")]
    assert [b.language for b in document.blocks if b.kind == "code"] == ["py"]
    assert document.metadata["title"] == "Títle with emphasis, code and link"


def test_other_line_separators_end_no_line(parse) -> None:
    for separator in ("\u2028", "\x0b", "\x0c", "\x85", "\x1c"):
        document = parse(f"text{separator}# no heading".encode(), "a.md")
        assert all(block.kind != "heading" for block in document.blocks), repr(separator)


def test_front_matter(parse) -> None:
    data = (
        b"---\r\ntitle: From YAML\r\ndate: 2024-02-29\r\nat: 2024-02-29 10:00:00\r\n"
        b"tags: [a, b]\r\nn: .inf\r\nnested: {x: 1, 2: y}\r\n---\r\n# Body\r\n"
    )
    document = parse(data, "a.md")
    assert document.metadata == {
        "title": "From YAML",
        "date": "2024-02-29",
        "at": "2024-02-29T10:00:00",
        "tags": ["a", "b"],
        "n": "inf",
        "nested": {"x": 1, "2": "y"},
    }
    json.dumps(document.metadata, allow_nan=False)
    assert kinds(document) == [("metadata", data[: data.index(b"# Body")].decode()), ("heading", "# Body")]


@pytest.mark.parametrize(
    ("front", "words"),
    [
        ("a: [1, 2", "line 3"),
        ("a: &x [1]\nb: *x", "alias"),
        ("a: " + "[" * 100 + "]" * 100, "nested"),
        ("when: 2023-02-30", "day is out of range"),
        ("a: " + "9" * 5000, "integer"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_broken_front_matter_is_text(parse, front: str, words: str) -> None:
    document = parse(f"---\n{front}\n---\nbody\n".encode(), "a.md")
    assert words in document.metadata["front_matter_error"]
    assert all(block.kind != "metadata" for block in document.blocks)


@pytest.mark.parametrize(
    "text", ["---\nHello\n---\n", "---\nno end: 1\n", " ---\na: 1\n---\n", "text\n---\na: 1\n---\n"]
)
def test_what_is_no_front_matter(parse, text: str) -> None:
    document = parse(text.encode(), "a.md")
    assert "front_matter_error" not in document.metadata
    assert all(block.kind != "metadata" for block in document.blocks)


MARKS = [
    "# ",
    "\n",
    "\r\n",
    "\r",
    "- ",
    "  ",
    "> ",
    "```",
    "~~~\n",
    "|",
    "---\n",
    "===\n",
    "<div>",
    "<!--",
    "*",
    "_",
    "`",
    "[",
    "](",
    ")",
    "!",
    "\t",
    "1. ",
    "a",
    "word ",
    "\x00",
    "é",
    "😀",
    "\u2028",
    "[^1]: ",
    "[x]: y\n",
    "{#i}",
    "\\",
]


@given(st.one_of(st.lists(st.sampled_from(MARKS), max_size=60).map("".join), st.text(max_size=100)))
def test_blocks_are_sorted_disjoint_and_complete(parse, text: str) -> None:
    data = text.encode("utf-8", "ignore")
    if b"\x00" in data[:32] or data.startswith(b"\xef\xbb\xbf"):
        data = b"# a title that makes it text\n\n" + data
    document = parse(data, "a.md")
    outside = bytearray(data)
    position = 0
    for block in document.blocks:
        assert position <= block.byte_start < block.byte_end <= len(data)
        data[block.byte_start : block.byte_end].decode("utf-8")
        outside[block.byte_start : block.byte_end] = b" " * (block.byte_end - block.byte_start)
        assert (block.level > 0) == (block.kind == "heading")
        position = block.byte_end
    assert not outside.strip(b" \t\r\n\f\v")


@pytest.mark.parametrize(
    "unit", ["[", "![", "> ", "- ", "* a\n", "*a_ ", "`", "<a ", "|", "[a]: x\n", "[^a]: x\n", "# ["]
)
def test_hostile_repetition(parse, unit: str) -> None:
    document = parse((unit * 20_000 + "\n").encode(), "a.md")
    assert document.blocks
    assert all(len(block.title) <= 200 for block in document.blocks)
