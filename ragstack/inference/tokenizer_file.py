"""A model's ``tokenizer.json``."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from ragstack.inference.model_files import read_pinned
from ragstack.inference.role import ModelRole
from ragstack.types import sha256_hex


def read_tokenizer(path: Path, sha256: str | None, role: ModelRole) -> tuple[Tokenizer, str]:
    """The tokenizer of a file, its truncation and padding switched off, and the file's SHA-256 (hex).

    Raises the role's error when the file is missing, unreadable, or its SHA-256 is not ``sha256``.
    """
    data = read_pinned(path, sha256, role)
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises bare Exception
        raise role.error(
            f"{path}: not a tokenizer that the tokenizers library reads: {error}.",
            hint="Export the model again with a fast tokenizer.",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, sha256_hex(data)
