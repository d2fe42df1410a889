"""A description of the index on disk, read without taking its lock."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ragstack.embedding.models import card_of
from ragstack.indexer.disk import disk_bytes
from ragstack.indexer.source_languages import counted_languages, unread_languages
from ragstack.ledger.schema import ERASING_FILE, LEDGER_FILE, REPAIRING_FILE
from ragstack.ledger.snapshot import no_index
from ragstack.ledger.writer import Generation, Ledger
from ragstack.source_names import path_of_name


def index_status(state_dir: Path) -> dict[str, Any]:
    """What ``ragstack status --json`` prints. Raises IndexNotFoundError where there is no ledger."""
    if not (state_dir / LEDGER_FILE).exists():
        raise no_index(state_dir)
    ledger = Ledger(state_dir)
    try:
        generations = ledger.generations()
        active = next((g for g in generations if g.state == "active"), None)
        shown = active or (generations[-1] if generations else None)
        rows = list(ledger.sources(shown.generation).values()) if shown else []
        superseded = ledger.superseded(shown.generation) if shown else []
        tallies = ledger.languages(shown.generation) if shown else []
        read = _languages_read(ledger, shown) if shown else ()
        return {
            "state_dir": str(state_dir),
            "size_bytes": disk_bytes(state_dir),
            "active": None if active is None else {**_generation(active), **_model(ledger, active)},
            "building": [_generation(g) for g in generations if g.state == "building"],
            "generations": [
                {**_generation(g), **_model(ledger, g), "pending_purges": len(ledger.superseded(g.generation))}
                for g in generations
            ],
            "sources": {
                "indexed": sum(not row.skipped for row in rows),
                "skipped": dict(Counter(row.skipped for row in rows if row.skipped)),
                "media_types": dict(Counter(row.media_type for row in rows if not row.skipped)),
                "languages": counted_languages(tallies),
                "unread_languages": [tally.language for tally in unread_languages(tallies, read)],
            },
            "roots": [
                {"label": label, "path": str(path_of_name(path)), "exists": path_of_name(path).exists()}
                for label, path in sorted(ledger.roots().items())
            ],
            "pending": any(g.group_open for g in generations),
            "erasing": (state_dir / ERASING_FILE).exists(),
            "repairing": (state_dir / REPAIRING_FILE).exists(),
            "superseded_versions": len(superseded),
            "last_run": ledger.last_run(),
        }
    finally:
        ledger.close()


def _generation(generation: Generation) -> dict[str, Any]:
    return {
        "generation": generation.generation,
        "state": generation.state,
        "group_open": generation.group_open,
        "fingerprint": generation.fingerprint,
        "committed_seq": generation.committed_seq,
        "chunk_count": generation.chunk_count,
        "created_at": generation.created_at,
    }


def _languages_read(ledger: Ledger, generation: Generation) -> tuple[str, ...]:
    """What the generation's model reads; empty where its files do not say."""
    model = ledger.config_of(generation.generation)["config"]["embedder"].get("model")
    card = card_of(model) if isinstance(model, str) else None
    return () if card is None else card.languages


def _model(ledger: Ledger, generation: Generation) -> dict[str, Any]:
    embedder = ledger.config_of(generation.generation)["config"]["embedder"]
    return {"embedder": embedder.get("model", embedder["type"])}
