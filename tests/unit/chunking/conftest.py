"""Two tokenizers: the real one of the embedded model, and a hostile one that no boundary suits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from ragstack.embedding.model_files import package_data
from ragstack.embedding.tokenizer import bert_tokenizer
from ragstack.types import Int32Array, Tokenizer


class SpaceBytes:
    """Every byte that is no ASCII space is a token, and each text has one more than its bytes.

    Tokens begin inside characters, and the sum of the parts' counts is not the count of the whole:
    what byte-level and SentencePiece tokenizers do to a chunker, at its worst.
    """

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(self.token_byte_spans(text)) + 1 for text in texts]

    def token_byte_spans(self, text: str) -> Int32Array:
        spans = [(m.start(), m.end()) for m in re.finditer(rb"[^ \t\r\n]", text.encode("utf-8"))]
        return np.array(spans, dtype=np.int32).reshape(-1, 2)


@cache
def _tokenizers() -> dict[str, Any]:
    return {
        "wordpiece": bert_tokenizer(package_data("bert-base-uncased.vocab.txt")),
        "space-bytes": SpaceBytes(),
    }


@pytest.fixture(scope="session")
def wordpiece() -> Tokenizer:
    """The tokenizer of all-MiniLM-L6-v2, from the packaged vocabulary."""
    tokenizer: Tokenizer = _tokenizers()["wordpiece"]
    return tokenizer


@pytest.fixture(scope="session", params=["wordpiece", "space-bytes"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Each of the two tokenizers in turn."""
    found: Tokenizer = _tokenizers()[request.param]
    return found
