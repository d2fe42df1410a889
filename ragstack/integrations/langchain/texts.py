"""Texts cut to what a model reads."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.embedding.base import Embedder, InputType
from ragstack.errors import EmbeddingError
from ragstack.integrations.langchain.backend import Truncate


def cut_texts(embedder: Embedder, texts: Sequence[str], input_type: InputType, truncate: Truncate) -> list[str]:
    """``texts``, the start or the end cut off, at a token, of those that are longer than the embedder reads.

    Raises EmbeddingError for such a text with ``NONE``.
    """
    limit = embedder.info.text_tokens(input_type)
    counts = embedder.tokenizer.count(texts)
    if truncate == "NONE":
        for index, count in enumerate(counts):
            if count > limit:
                raise EmbeddingError(
                    f"text {index} has {count} tokens; {embedder.info.name} reads at most {limit}.",
                    hint="Split the text, or pass truncate='END' to leave out its end.",
                )
        return list(texts)
    return [
        _cut(embedder, text, limit, truncate) if count > limit else text
        for text, count in zip(texts, counts, strict=True)
    ]


def _cut(embedder: Embedder, text: str, limit: int, truncate: Truncate) -> str:
    while True:
        spans = embedder.tokenizer.token_byte_spans(text)
        excess = len(spans) - limit
        if excess <= 0:
            return text
        # A word cut in two may have more tokens than it had before, so what is left is counted again.
        data = text.encode("utf-8")
        kept = data[: spans[-excess][0]] if truncate == "END" else data[spans[excess][0] :]
        text = kept.decode("utf-8", "ignore")
