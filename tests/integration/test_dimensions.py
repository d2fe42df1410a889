"""Shorter vectors through the whole pipeline: a store of that length, token vectors whole, a new index for another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragstack.adapters.base import CollectionSpec
from ragstack.ledger.schema import collection_name
from ragstack.ledger.writer import Ledger
from tests.integration.harness import SMALL_CONFIG, Index
from tests.model_folder_kit import write_folder

TEXTS = {
    "cats.txt": "The kitten slept on the warm rug beside the fire.",
    "stocks.txt": "Share prices fell sharply after the bank raised interest rates.",
    "pumps.txt": "The pump must be vented before it is used for the first time.",
}


def test_an_index_has_the_length_that_its_config_names(tmp_path: Path) -> None:
    model = write_folder(tmp_path / "model")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, text in TEXTS.items():
        (corpus / name).write_text(text)
    embedder: dict[str, Any] = {"type": "local", "model": str(model), "threads": 1, "profile": "onnxruntime-cpu-fp32"}
    made = Index(tmp_path / "index", {**SMALL_CONFIG, "embedder": {**embedder, "dimensions": 64}})
    made.run(corpus)
    ledger = Ledger(made.state_dir)
    generation = next(g.generation for g in ledger.generations() if g.state == "active")
    ledger.close()
    store = made.store()
    try:
        # Opened with another length it would be refused.
        store.ensure_collection(CollectionSpec(collection_name(generation), 64, {}))
    finally:
        store.close()
    chain = made.query("Where did the young cat rest?", top_n=1)
    assert [passage.place.source_id.rsplit("/", 1)[-1] for passage in chain.passages] == ["cats.txt"]

    # Queries go on with the old length until the index is built anew.
    made.config["embedder"] = {**embedder, "dimensions": 128}
    assert made.query("Where did the young cat rest?", top_n=1).passages
    assert made.run(corpus).generation != generation
    assert made.query("Where did the young cat rest?", top_n=1).passages
