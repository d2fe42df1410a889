"""What a config may change of a model: the length of its vectors, and its prompts."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from ragstack.embedding.model_card import ModelCard
from ragstack.embedding.model_files import ResolvedModel
from ragstack.errors import InputError
from ragstack.inference.role import EMBEDDER

_log = logging.getLogger(__name__)

_INSTRUCTED = re.compile(r"(?s)(?P<before>.*\bInstruct: ).*(?P<after>\nQuery: ?)\Z")


def with_options(
    model: ResolvedModel,
    *,
    dimensions: int | None = None,
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
    instruction: str | None = None,
) -> ResolvedModel:
    """``model`` with what is not None changed.

    ``dimensions`` cuts dense vectors to their first so many numbers and brings them to length 1 again (Matryoshka
    representations, Kusupati et al. 2022). A registered model has the lengths that it was trained for; of another
    one any length up to its own is believed, and logged. ``instruction`` says what queries are for, where the model's
    query prompt has the form ``Instruct: <instruction>\\nQuery:``.

    Raises InputError for lengths and instructions that the model does not have.
    """
    card = model.card
    if instruction is not None:
        if query_prompt is not None:
            raise EMBEDDER.input_error(
                "instruction", "query_prompt is set too, and holds the whole prompt.", "Set one of the two."
            )
        query_prompt = _instructed(card, instruction)
    card = replace(
        card,
        query_prompt=card.query_prompt if query_prompt is None else query_prompt,
        passage_prompt=card.passage_prompt if passage_prompt is None else passage_prompt,
    )
    if dimensions is None or dimensions == card.dim:
        return replace(model, card=card)
    _check_dimensions(card, dimensions)
    return replace(model, card=card, dimensions=dimensions)


def lengths_in_words(matryoshka: Sequence[int], dim: int) -> str:
    """``384, 512 or 2048`` and ``any from 32 to 1024``."""
    if isinstance(matryoshka, range):
        return f"any from {matryoshka.start} to {dim}"
    return f"{', '.join(str(size) for size in matryoshka)} or {dim}" if matryoshka else str(dim)


def _check_dimensions(card: ModelCard, dimensions: int) -> None:
    if dimensions < 1 or dimensions > card.dim:
        raise EMBEDDER.input_error(
            "dimensions",
            f"{dimensions} is not between 1 and {card.dim}, the length of {card.name}'s vectors.",
            "Set a shorter length, or leave it out.",
        )
    if card.files is None:
        _warn_once(card.name, card.dim, dimensions)
        return
    if dimensions not in card.matryoshka:
        raise EMBEDDER.input_error(
            "dimensions",
            f"{card.name} was not trained for vectors of {dimensions} numbers.",
            f"Set it to {lengths_in_words(card.matryoshka, card.dim)}, or leave it out.",
        )


@lru_cache(maxsize=64)
def _warn_once(name: str, dim: int, dimensions: int) -> None:
    """Say once in a process what the files of a model do not: for which lengths it was trained."""
    _log.warning(
        "embedder.dimensions: vectors of %s are cut from %d to %d numbers; whether it was trained for that, its files"
        " do not say",
        name,
        dim,
        dimensions,
    )


def _instructed(card: ModelCard, instruction: str) -> str:
    form = _INSTRUCTED.match(card.query_prompt)
    if form is None:
        raise InputError(
            f"embedder.instruction: {card.name} takes no instruction; its query prompt is {card.query_prompt!r}.",
            hint="Leave it out, or set embedder.query_prompt to the whole prompt.",
        )
    return f"{form['before']}{instruction}{form['after']}"
