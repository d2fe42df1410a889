"""What is known of models that only a server runs: data. Listing it imports no runtime and asks no server."""

from __future__ import annotations

from dataclasses import dataclass

from ragstack.embedding.models import card_of


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """``max_tokens`` of one text, special ones included. ``languages`` are ISO 639-1 codes, empty where the maker names
    none; ``licence`` is that of the weights.

    How long vectors are is not here: servers lend such names to other models, so it is asked.
    """

    max_tokens: int
    languages: tuple[str, ...] = ()
    licence: str = "proprietary"


_ENGLISH = ("en",)
_KNOWN: dict[str, RemoteModel] = {
    # platform.openai.com/docs/guides/embeddings
    "text-embedding-3-small": RemoteModel(8191),
    "text-embedding-3-large": RemoteModel(8191),
    "text-embedding-ada-002": RemoteModel(8191),
    # docs.cohere.com/docs/cohere-embed
    "embed-v4.0": RemoteModel(128_000),
    "embed-english-v3.0": RemoteModel(512, _ENGLISH),
    "embed-english-light-v3.0": RemoteModel(512, _ENGLISH),
    "embed-multilingual-v3.0": RemoteModel(512),
    "embed-multilingual-light-v3.0": RemoteModel(512),
}

_SPECIALS = 2


def known_remote_model(name: str) -> RemoteModel | None:
    """What is known of the model that a server calls ``name``, by the part after the last ``/``; None for nothing."""
    last = name.rsplit("/", 1)[-1]
    found = _KNOWN.get(last)
    if found is not None:
        return found
    card = card_of(name) or card_of(last)
    return None if card is None else RemoteModel(card.max_tokens + _SPECIALS, card.languages, card.licence)
