"""Small data sets in every format, and a config that needs no model, for the tests of evaluation."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PARTS = ("pump", "valve", "gauge", "lamp", "lever", "shaft", "filter", "hose", "motor", "belt")
PLACES = ("hall", "cellar", "tower", "yard", "attic", "bridge", "tunnel", "harbour", "garage", "office")
CONFIG: dict[str, Any] = {
    "version": 1,
    "chunker": {"type": "recursive", "max_tokens": 40},
    "embedder": {"type": "hashing", "dim": 32},
    "retrieval": {"min_relevance": 0.0},
    "indexer": {"min_free_bytes": 0, "lock_timeout_s": 0.2},
}


def write_config(file: Path, **blocks: Any) -> Path:
    """:data:`CONFIG` with other blocks, as a file."""
    file.write_text(yaml.safe_dump({**CONFIG, **blocks}, sort_keys=False), "utf-8")
    return file


def facts() -> dict[str, tuple[str, str, str]]:
    """Document texts by id, each with a question about it and the words that answer."""
    numbers = random.Random(5)
    made = {}
    for part in PARTS:
        for place in PLACES:
            bars = numbers.randrange(100, 999)
            answer = f"{bars} bar"
            text = (
                f"The {part} of the {place} was built by masons.\n\nThe {part} of the {place} holds {answer} at night."
            )
            made[f"{part}/{place}"] = (text, f"What does the {part} of the {place} hold?", answer)
    return made


def write_beir(folder: Path, documents: int = 100, questions: int = 40) -> Path:
    """A BEIR folder of :func:`facts`; ids hold slashes, as many do."""
    rows = list(facts().items())[:documents]
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": name, "title": name.split("/")[0], "text": text} for name, (text, _, _) in rows]
    queries = [{"_id": f"q-{name}", "text": question} for name, (_, question, _) in rows]
    for name, lines in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    asked = random.Random(1).sample(rows, questions)
    qrels = "".join(f"q-{name}\t{name}\t1\n" for name, _ in asked)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels, "utf-8")
    return folder


def write_squad(file: Path, contexts: Mapping[str, str], impossible: int = 0) -> Path:
    """A SQuAD 2.0 file: contexts by answer, each with one question, the context's first line. Some have no answer."""
    paragraphs = [
        {
            "context": context,
            "qas": [
                {
                    "id": f"a{number}",
                    "question": context.strip("\ufeff").splitlines()[0],
                    "is_impossible": False,
                    "answers": [{"text": answer, "answer_start": context.index(answer)}],
                }
            ],
        }
        for number, (answer, context) in enumerate(contexts.items())
    ]
    for number in range(impossible):
        paragraphs[0]["qas"].append(  # type: ignore[attr-defined]
            {"id": f"i{number}", "question": f"Who painted ceiling {number}?", "is_impossible": True, "answers": []}
        )
    file.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}), "utf-8")
    return file


def write_questions(file: Path, rows: list[dict[str, Any]]) -> Path:
    """A file of own questions."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return file
