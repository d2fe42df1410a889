"""Throughput and memory of the parsers and chunkers, and semantic-text-splitter beside them.

    python benchmarks/chunking.py                    every parser and chunker on 4 MB of generated text
    python benchmarks/chunking.py --megabytes 50     whether time and memory stay linear
    python benchmarks/chunking.py --splitter         compare with semantic-text-splitter (pip install it first)

CPU seconds of this process and all its threads, so that other load on the machine does not count.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterable

from ragstack.chunking.registry import CHUNKERS
from ragstack.embedding.model_files import package_data
from ragstack.embedding.tokenizer import bert_tokenizer
from ragstack.parsing.base import RawSource
from ragstack.parsing.registry import parser_for
from ragstack.types import Document, Source

_PROSE = (
    "The committee met on Tuesday to discuss the budget of the harbour. Dr. Lindqvist, who had read the report,\n"
    'asked why the dredging cost 3.4 million more than planned. Nobody knew! "It is the weather," said the chair,\n'
    "and the meeting went on. Die Größe des Schiffes überraschte alle; 東京の港も大きい。\n\n"
)
_MARKDOWN = (
    "# Harbour report\n\n"
    + _PROSE
    + "## Costs of the *dredging*\n\n"
    + _PROSE * 3
    + "- the first item of a list\n- the second item, which is longer\n  - a nested one\n\n"
    "| year | cost |\n|------|------|\n| 2021 | 3.4 |\n| 2022 | 4.1 |\n\n"
    "```python\ndef cost(year):\n    return table[year]\n```\n\n"
)
_CODE = (
    'import os\nfrom pathlib import Path\n\n\nclass Harbour:\n    """A place for ships."""\n\n'
    "    def __init__(self, name, depth):\n        self.name = name\n        self.depth = depth\n\n"
    "    def admits(self, ship):\n        # Two metres are kept below the keel.\n"
    "        return ship.draught + 2 <= self.depth\n\n\n"
    "def deepest(harbours):\n    return max(harbours, key=lambda harbour: harbour.depth)\n\n\n"
)
CORPORA = {"text/plain": _PROSE, "text/markdown": _MARKDOWN, "text/x-python": _CODE}


def measured(work: Callable[[], object]) -> tuple[object, float]:
    """What ``work`` returns, and its CPU seconds."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def parse(data: bytes, media_type: str) -> Document:
    source = Source("root/file", "file:///root/file", "0" * 64)
    (document,) = parser_for(media_type).parse(RawSource(source, data, media_type))
    return document


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def benchmark(megabytes: float, chunkers: Iterable[str], media_types: Iterable[str]) -> None:
    tokenizer = bert_tokenizer(package_data("bert-base-uncased.vocab.txt"))
    row("what", "media type", "MB", "CPU s", "MB/s", "tokens", "µs a token", "chunks", "tokens a chunk", "peak MB")
    row(*["---"] * 10)
    for media_type in media_types:
        unit = CORPORA[media_type].encode("utf-8")
        data = unit * max(1, round(megabytes * 1e6 / len(unit)))
        size = len(data) / 1e6
        document, seconds = measured(lambda data=data, kind=media_type: parse(data, kind))
        assert isinstance(document, Document)
        row("parse", media_type, f"{size:.0f}", f"{seconds:.2f}", f"{size / seconds:.1f}", "", "", "", "", peak_mb())
        lines = document.text.split("\n\n")
        batches = [lines[at : at + 1024] for at in range(0, len(lines), 1024)]
        counts, seconds = measured(lambda batches=batches: [n for batch in batches for n in tokenizer.count(batch)])
        assert isinstance(counts, list)
        tokens = sum(counts)
        del lines, batches, counts
        micro = f"{seconds / tokens * 1e6:.2f}"
        row(
            "tokenise only",
            media_type,
            f"{size:.0f}",
            f"{seconds:.2f}",
            f"{size / seconds:.1f}",
            tokens,
            micro,
            "",
            "",
            "",
        )
        for name in chunkers:
            chunker = CHUNKERS.load(name)()
            spans, seconds = measured(lambda c=chunker, d=document: c.chunk(d, tokenizer))
            assert isinstance(spans, list)
            held = sum(span.token_count for span in spans)
            micro = f"{seconds / tokens * 1e6:.2f}"
            row(
                name, media_type, f"{size:.0f}", f"{seconds:.2f}", f"{size / seconds:.1f}", held, micro,
                len(spans), f"{held / len(spans):.0f}", peak_mb(),
            )  # fmt: skip


def compare_splitter(megabytes: float) -> None:
    """semantic-text-splitter with the same tokenizer and capacity: speed, range errors, chunks over its own limit."""
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    tokenizer = bert_tokenizer(package_data("bert-base-uncased.vocab.txt"))
    row("splitter", "MB", "CPU s", "MB/s", "chunks", "tokens a chunk", "wrong ranges", "over 200 tokens")
    row(*["---"] * 8)
    for make, media_type in ((TextSplitter, "text/plain"), (MarkdownSplitter, "text/markdown")):
        unit = CORPORA[media_type]
        text = unit * max(1, round(megabytes * 1e6 / len(unit.encode("utf-8"))))
        size = len(text.encode("utf-8")) / 1e6
        splitter = make.from_huggingface_tokenizer(tokenizer._tokenizer, 200)
        found, seconds = measured(lambda s=splitter, t=text: s.chunk_indices(t))
        assert isinstance(found, list)
        wrong = sum(text[start : start + len(chunk)] != chunk for start, chunk in found)
        counts = tokenizer.count([chunk for _, chunk in found])
        row(
            make.__name__, f"{size:.1f}", f"{seconds:.2f}", f"{size / seconds:.2f}", len(found),
            f"{sum(counts) / len(found):.0f}", wrong, sum(count > 200 for count in counts),
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=4.0)
    parser.add_argument("--chunker", choices=CHUNKERS.names(), action="append")
    parser.add_argument("--media-type", choices=sorted(CORPORA), action="append")
    parser.add_argument("--splitter", action="store_true")
    arguments = parser.parse_args()
    if arguments.splitter:
        compare_splitter(arguments.megabytes)
    else:
        benchmark(arguments.megabytes, arguments.chunker or CHUNKERS.names(), arguments.media_type or list(CORPORA))


if __name__ == "__main__":
    main()
