"""``ragstack models``: the embedding models that are known by name."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from ragstack.cli.options import JsonOption, with_epilog
from ragstack.cli.output import print_json, print_table

_LANGUAGES_SHOWN = 6
"""More are counted; ``--json`` lists them."""


@with_epilog("""
Use one in ragstack.yaml:
  embedder:
    model: all-MiniLM-L6-v2
A folder with model.onnx and tokenizer.json, or a Hugging Face id with a revision, works there too. Cross-encoders have
no names here: give such a folder or id as the model of a reranker of type cross_encoder.
""")
def models(as_json: JsonOption = False) -> int:
    """List the embedding models that are known by name, and whether their files are on this machine."""
    rows = [_described(name) for name in _cards()]
    if as_json:
        print_json({"models": rows})
        return 0
    print_table(
        ["name", ">dim", ">max tokens", "languages", "licence", ">size", "here"],
        [
            [
                row["name"],
                str(row["dim"]),
                str(row["max_tokens"]),
                ", ".join(row["languages"])
                if len(row["languages"]) <= _LANGUAGES_SHOWN
                else str(len(row["languages"])),
                row["licence"],
                f"{row['size_bytes'] / 1e6:.0f} MB",
                "yes" if row["installed"] else "no",
            ]
            for row in rows
        ],
    )
    return 0


def _cards() -> list[str]:
    from ragstack.embedding.models import MODELS

    return sorted(MODELS)


def _described(name: str) -> dict[str, Any]:
    from ragstack.embedding.models import MODELS, HubFiles

    card = MODELS[name]
    return {
        "name": card.name,
        "dim": card.dim,
        "max_tokens": card.max_tokens,
        "languages": list(card.languages),
        "licence": card.licence,
        "size_bytes": card.size_bytes,
        # Files of a hub are fetched on first use; only packaged ones can be told without the network.
        "installed": card.files is not None
        and not isinstance(card.files, HubFiles)
        and find_spec(card.files.package) is not None,
        "description": card.description,
    }
