"""The SciFact abstracts in passages of a few sentences, with the default model's vectors.

Vectors take minutes to make on 2 cores, so they are kept in the folder for temporary files, named after what they
were made of.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np

from ragstack.adapters.base import FieldType, Record
from ragstack.assembly import build_bm25, build_embedder
from ragstack.config.models import PipelineConfig
from ragstack.embedding.base import InputType
from ragstack.sentences import character_spans
from ragstack.types import Float32Array, SparseVector

FIELDS: dict[str, FieldType] = {
    "doc": "keyword",
    "part": "integer",
    "words": "integer",
    "density": "float",
    "numbers": "keyword",
    "last": "bool",
    "added": "datetime",
}
"""Fields of a passage. ``numbers`` is a list, and missing where the text has none; so is ``last`` but for the last."""

COUNT = 20_480
_PARTS = 4


@dataclass(frozen=True)
class Passage:
    """Some sentences of the abstract ``doc``."""

    doc: str
    text: str
    payload: dict[str, Any]

    @property
    def id(self) -> str:
        """A UUID."""
        return str(uuid5(NAMESPACE_OID, f"{self.doc}/{self.payload['part']}"))


@dataclass(frozen=True)
class Corpus:
    """Passages and queries with their vectors, row by row. ``relevant`` holds the abstracts of each query."""

    passages: Sequence[Passage]
    dense: Float32Array
    sparse: Sequence[SparseVector]
    query_dense: Float32Array
    query_sparse: Sequence[SparseVector]
    relevant: Sequence[set[str]]

    @cached_property
    def records(self) -> list[Record]:
        """What goes into a store."""
        rows = zip(self.passages, self.dense, self.sparse, strict=True)
        return [Record(passage.id, dense, sparse, passage.payload) for passage, dense, sparse in rows]


def read_corpus(data: Path, queries: int) -> Corpus:
    """The corpus in ``data/scifact`` and the first ``queries`` claims, in a shuffled order, that have abstracts."""
    folder = data / "scifact"
    rows = _rows(folder / "corpus.jsonl")
    passages = [*(passage for row in rows for passage in _passages(row)), *map(_title, rows)][:COUNT]
    relevant: dict[str, set[str]] = {}
    for line in (folder / "qrels" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, doc, score = line.split("\t")
        if int(score) > 0:
            relevant.setdefault(query, set()).add(doc)
    asked = [row for row in _rows(folder / "queries.jsonl") if row["_id"] in relevant]
    order = np.random.default_rng(7).permutation(len(asked))[:queries].tolist()
    asked = [asked[i] for i in order]
    config = PipelineConfig()
    bm25 = build_bm25(config)
    sparse = [bm25.encode_passage(passage.text) for passage in passages]
    frequencies: dict[int, int] = {}
    for vector in sparse:
        for index in vector.indices.tolist():
            frequencies[index] = frequencies.get(index, 0) + 1
    claims = [str(row["text"]) for row in asked]
    return Corpus(
        passages,
        _embedded(config, [passage.text for passage in passages], "passage"),
        sparse,
        _embedded(config, claims, "query"),
        [bm25.encode_query(claim, frequencies, len(passages)) for claim in claims],
        [relevant[str(row["_id"])] for row in asked],
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _passages(row: dict[str, Any]) -> list[Passage]:
    """An abstract in up to four passages, the title before the first."""
    text = str(row["text"])
    sentences = [text[start:end].strip() for start, end in character_spans(text)]
    size = -(-len(sentences) // _PARTS)
    found = []
    for part, start in enumerate(range(0, len(sentences), size or 1)):
        told = " ".join(sentences[start : start + size])
        words = told.split()
        payload: dict[str, Any] = {
            "doc": row["_id"],
            "part": part,
            "words": len(words),
            "density": round(len(told) / max(len(words), 1), 3),
            "added": f"20{int(row['_id']) % 24:02d}-0{1 + part}-15T12:00:00Z",
            "text": f"{row['title']}. {told}" if part == 0 else told,
        }
        if numbers := sorted({word for word in words if word.isdigit()}):
            payload["numbers"] = numbers
        if start + size >= len(sentences):
            payload["last"] = True
        found.append(Passage(str(row["_id"]), payload["text"], payload))
    return found


def _title(row: dict[str, Any]) -> Passage:
    """The title alone; it has few of the fields."""
    title = str(row["title"])
    return Passage(
        str(row["_id"]), title, {"doc": row["_id"], "part": _PARTS, "words": len(title.split()), "text": title}
    )


def _embedded(config: PipelineConfig, texts: list[str], input_type: InputType) -> Float32Array:
    embedder = build_embedder(config.embedder)
    try:
        name = sha256(json.dumps([embedder.info.fingerprint, input_type, texts]).encode()).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"ragstack-benchmark-{name}.npy"
        if not path.exists():
            limit = embedder.info.max_tokens
            vectors = embedder.embed([_cut(text, limit) for text in texts], input_type).dense
            assert vectors is not None
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npy", delete=False) as file:
                np.save(file, vectors)
            Path(file.name).rename(path)
        found: Float32Array = np.load(path)
        return found
    finally:
        embedder.close()


def _cut(text: str, max_tokens: int) -> str:
    """A model takes so many tokens, and a word of this corpus at most three on average."""
    words = text.split()
    return text if len(words) * 3 <= max_tokens else " ".join(words[: max_tokens // 3])
