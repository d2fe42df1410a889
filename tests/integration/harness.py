"""A small pipeline on the real embedded store, with the embedder that needs no model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ragstack.adapters.base import VectorStore
from ragstack.archive.sqlite import SqliteArchive
from ragstack.assembly import build_store, token_vector_store
from ragstack.citations.chain import Chain
from ragstack.config.loader import LoadedConfig, load_config
from ragstack.indexer.report import IndexReport
from ragstack.indexer.run import IndexRequest, index
from ragstack.ledger.schema import ARCHIVE_FILE, collection_name, token_vectors_file
from ragstack.ledger.writer import Ledger
from ragstack.retrieval.engine import QueryEngine, QueryRequest

SMALL_CONFIG: dict[str, Any] = {
    "version": 1,
    "chunker": {"type": "recursive", "max_tokens": 24},
    "embedder": {"type": "hashing", "dim": 32},
    "indexer": {"group_chunks": 6, "min_free_bytes": 0, "lock_timeout_s": 0.2},
}


@dataclass
class Index:
    """One index under test: its folder, its config, and what it is made from."""

    directory: Path
    config: dict[str, Any] = field(default_factory=lambda: dict(SMALL_CONFIG))

    @property
    def state_dir(self) -> Path:
        return self.directory / ".ragstack"

    @property
    def config_file(self) -> Path:
        return self.directory / "pipeline.yaml"

    def loaded(self) -> LoadedConfig:
        self.directory.mkdir(parents=True, exist_ok=True)
        indexer = {**self.config["indexer"], "state_dir": str(self.state_dir)}
        self.config_file.write_text(yaml.safe_dump({**self.config, "indexer": indexer}))
        return load_config(self.config_file, {})

    def run(self, *targets: Path | str, prune: bool = False, rebuild: bool = False) -> IndexReport:
        request = IndexRequest([str(target) for target in targets], prune=prune, rebuild=rebuild)
        return index(self.loaded(), self.state_dir, request)

    def run_in_child(self, *targets: Path | str, fault: str | None = None, extra: Sequence[str] = ()) -> int:
        """Run ``ragstack index`` in a process of its own; ``fault`` is the point at which it kills itself."""
        self.loaded()
        environment = dict(os.environ)
        if fault is not None:
            environment["RAGSTACK_FAULT_POINT"] = fault
        command = [sys.executable, "-m", "ragstack", "index", "-c", str(self.config_file), *map(str, targets), *extra]
        return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120).returncode

    def query(self, text: str, **options: Any) -> Chain:
        with QueryEngine(self.loaded().config, self.state_dir) as engine:
            return engine.query(QueryRequest(text, **options))

    def store(self) -> VectorStore:
        return build_store(self.loaded().config.store, self.state_dir, 1.0)

    def content(self) -> dict[str, Any]:
        """Everything the index holds, in a form that two indexes of the same sources have in common."""
        ledger = Ledger(self.state_dir)
        generation = next(g for g in ledger.generations() if g.state == "active")
        archive = SqliteArchive(self.state_dir / ARCHIVE_FILE)
        path = self.state_dir / token_vectors_file(generation.generation)
        tokens = token_vector_store(path, self.loaded().config)
        store = self.store()
        try:
            collection = collection_name(generation.generation)
            ids = [hit.id for hit in store.iterate(collection)]
            records = store.fetch(collection, ids)
            found = tokens.get(ids)
            frequencies = ledger._query(  # the public reader takes ids; here all of them are compared
                "SELECT kind, id, frequency FROM frequencies WHERE generation=? ORDER BY 1, 2", generation.generation
            )
            return {
                "ids": sorted(ids),
                "payloads": {
                    i: {k: v for k, v in record.payload.items() if k != "seq"} for i, record in sorted(records.items())
                },
                "dense": {i: np.round(record.dense, 5).tolist() for i, record in sorted(records.items())},
                "sparse": {
                    i: (record.sparse.indices.tolist(), np.round(record.sparse.values, 5).tolist())
                    for i, record in sorted(records.items())
                },
                "tokens": {i: vectors.token_ids.tolist() for i, vectors in sorted(found.items())},
                "token_ids": sorted(tokens.chunk_ids()),
                "archive": sorted(archive.keys()),
                "sources": {
                    row.source_id: (row.source_version, row.skipped, row.spans)
                    for row in ledger.sources(generation.generation).values()
                },
                "frequencies": frequencies,
                "chunk_count": generation.chunk_count,
                "superseded": ledger.superseded(generation.generation),
                "group_open": generation.group_open,
            }
        finally:
            store.close()
            tokens.close()
            archive.close()
            ledger.close()


def write_corpus(root: Path) -> None:
    """Markdown, text and code, with a BOM, CRLF, several scripts and repeated passages."""
    (root / "notes").mkdir(parents=True, exist_ok=True)
    (root / "guide.md").write_text(
        "# Guide\n\nThe pump is primed with oil.\n\n## Starting\n\nTurn the red lever twice. Wait ten seconds.\n\n"
        "## Stopping\n\nPush the lever back. The lamp goes out.\n"
    )
    (root / "notes" / "crlf.txt").write_bytes(b"First line about valves.\r\n\r\nSecond line about gaskets.\r\n")
    (root / "notes" / "bom.txt").write_bytes(b"\xef\xbb\xbfTemperatures are measured in kelvin.\n")
    (root / "notes" / "scripts.txt").write_text(
        "水泵每年检查一次。\n\nНасос проверяют каждый год.\n\nيتم فحص المضخة كل عام.\n\n👩‍🔧 checks e\u0301very pump.\n"
    )
    (root / "tool.py").write_text(
        '"""Tools."""\n\n\ndef prime(pump):\n    """Prime a pump."""\n    return pump.oil()\n'
    )
    for number in range(6):
        (root / "notes" / f"log{number}.txt").write_text(
            "\n\n".join(f"Entry {number}-{line}: pressure was {number * line} bar." for line in range(8)) + "\n"
        )
    (root / "empty.txt").write_bytes(b"")
    (root / "picture.bin").write_bytes(bytes(range(256)) * 4)
