"""Telling kinds of models apart by their files, so that a wrong one is refused with the right setting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ragstack.errors import InputError, RerankingError
from ragstack.reranking.models import RerankerCard

ModelKind: TypeAlias = Literal["classifier", "language model", "embedding model"]

_RERANKER_TYPES: Mapping[ModelKind, str] = {"classifier": "cross_encoder", "language model": "llm_yes_no"}


def check_kind(folder: Path, config: Mapping[str, Any], wanted: ModelKind) -> None:
    """Refuse a model whose files say that it is of another kind than ``wanted``; files may say nothing.

    Raises InputError, which names the setting that such a model is for.
    """
    found, evidence = _kind(folder, config)
    if found is None or found == wanted:
        return
    if found == "embedding model":
        raise InputError(
            f"reranker.model: {folder.name} is an embedding model ({evidence}): it gives vectors, no scores.",
            hint="Name it as embedder.model, and take a reranker here; or set reranker.type to late_interaction, which"
            " compares the embedder's own vectors.",
        )
    raise InputError(
        f"reranker.type: {folder.name} is a {found} ({evidence}), and no {wanted}.",
        hint=f"Set reranker.type to {_RERANKER_TYPES[found]}.",
    )


def check_card_kind(card: RerankerCard, wanted: ModelKind) -> None:
    """Refuse a registered model of another kind than ``wanted``, as :func:`check_kind` does."""
    if card.type != _RERANKER_TYPES[wanted]:
        raise InputError(f"reranker.type: {card.name} is no {wanted}.", hint=f"Set reranker.type to {card.type}.")


def modules(folder: Path) -> list[dict[str, Any]]:
    """The modules of a folder of sentence-transformers; empty for others. Raises RerankingError for a damaged file."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RerankingError(f"{path}: not JSON: {error}.", hint="Download the model again.") from error
    if not isinstance(found, list) or not all(isinstance(module, dict) for module in found):
        raise RerankingError(f"{path}: not a list of modules.", hint="Download the model again.")
    return found


def module_kind(module: Mapping[str, Any]) -> str:
    """The class of a module without its package: ``Pooling``."""
    return str(module.get("type", "")).rsplit(".", 1)[-1]


def _kind(folder: Path, config: Mapping[str, Any]) -> tuple[ModelKind | None, str]:
    """The kind of a model and what tells it; None where nothing does."""
    # Embedding models made of language models keep these models' architecture.
    if any(module_kind(module) == "Pooling" for module in modules(folder)):
        return "embedding model", "its modules.json has a Pooling"
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    if name.endswith("ForSequenceClassification"):
        return "classifier", name
    if name.endswith("ForCausalLM"):
        return "language model", name
    if name.endswith(("Model", "ForMaskedLM")):
        return "embedding model", name
    return None, name
