"""Texts cut to what a model reads."""

from __future__ import annotations

from ragstack.embedding.base import Embedder
from ragstack.integrations.langchain.backend import Truncate


def cut_text(embedder: Embedder, text: str, truncate: Truncate) -> str:
    """``text``, its start or end cut off at a token where it is longer than the embedder reads.

    With ``NONE`` it stays as it is: the embedder refuses it.
    """
    limit = embedder.info.max_tokens
    while truncate != "NONE":
        spans = embedder.tokenizer.token_byte_spans(text)
        excess = len(spans) - limit
        if excess <= 0:
            break
        # A word cut in two may have more tokens than it had before, so what is left is counted again.
        data = text.encode("utf-8")
        kept = data[: spans[-excess][0]] if truncate == "END" else data[spans[excess][0] :]
        text = kept.decode("utf-8", "ignore")
    return text
