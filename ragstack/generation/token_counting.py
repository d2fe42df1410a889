"""Counts the tokens of a prompt the way a model does, or safely without knowing how it does."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ragstack.config.generators import TokenCounterConfig
from ragstack.errors import InputError
from ragstack.inference.tiktoken_tables import load_encoding, require_tiktoken

if TYPE_CHECKING:
    import tiktoken

TokenCounter: TypeAlias = Callable[[str], int]
"""Gives the number of tokens of a text. Safe to call from several threads."""


def token_counter(config: TokenCounterConfig, model: str) -> TokenCounter:
    """The counter that a config names; ``model`` tells tiktoken's encoding where the config does not.

    Raises InputError for a file that cannot be read, an unknown encoding, or a table that is not here and cannot be
    fetched; MissingExtraError without tiktoken.
    """
    if config.type == "tiktoken":
        encoding = _tiktoken(config, model)
        return lambda text: len(encoding.encode_ordinary(text))
    if config.type == "tokenizers":
        return _tokenizers(Path(config.file or ""))
    return lambda text: math.ceil(len(text.encode("utf-8", "replace")) / config.bytes_per_token)


def _tokenizers(file: Path) -> TokenCounter:
    from tokenizers import Tokenizer  # noqa: PLC0415 - slow to import

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise InputError(
            f"generator.tokens.file: {file} cannot be read as a tokenizer: {error}.",
            hint="Give the path of the model's tokenizer.json.",
        ) from error
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _tiktoken(config: TokenCounterConfig, model: str) -> tiktoken.Encoding:
    require_tiktoken("generator.tokens")
    name = config.encoding or _encoding_of(model)
    return load_encoding(
        name, config.file, "generator.tokens", "name the file in generator.tokens.file, or use type: estimate"
    )


def _encoding_of(model: str) -> str:
    from tiktoken.model import encoding_name_for_model  # noqa: PLC0415

    try:
        return encoding_name_for_model(model)
    except KeyError as error:
        raise InputError(
            f"generator.tokens: tiktoken does not know the model {model!r}.",
            hint="Name an encoding in generator.tokens.encoding, or use type tokenizers or estimate.",
        ) from error
