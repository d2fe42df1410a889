"""The texts of a request made ready for the model: token ids read, counted, and cut where the client wants it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ragstack.api.model_errors import ModelRequestError
from ragstack.embedding.base import Embedder, InputType, VocabularyTokenizer
from ragstack.errors import EmbeddingError

Truncate: TypeAlias = Literal["NONE", "START", "END"]
"""What is cut off a text that is longer than the model reads: nothing (an error), its start, its end."""

TextInput: TypeAlias = "str | list[str] | list[int] | list[list[int]]"


@dataclass(frozen=True)
class PreparedTexts:
    """Texts that the model reads whole.

    ``token_counts`` are those of the texts alone; ``cost`` adds prompt and special tokens: what the model runs.
    """

    texts: Sequence[str]
    token_counts: Sequence[int]
    cost: Sequence[int]


def is_short(given: TextInput | Sequence[str], most: int) -> bool:
    """True for at most ``most`` characters, or token ids, in all."""
    if isinstance(given, str):
        return len(given) <= most
    if len(given) > most:
        return False
    size = 0
    for item in given:
        size += 1 if isinstance(item, int) else len(item)
        if size > most:
            return False
    return True


def texts_of(embedder: Embedder, given: TextInput, param: str) -> list[str]:
    """The texts of one request's ``given``: a text, texts, the token ids of one text, or those of several.

    Raises ModelRequestError: empty for no text or an empty one, unreadable for token ids that the model's tokenizer
    does not turn into a text and back into the same ids.
    """
    if len(given) == 0:
        raise ModelRequestError("empty", f"`{param}` cannot be empty", param=param)
    if isinstance(given, str):
        return [given]
    if isinstance(given[0], int):
        return [_text_of_ids(embedder, given, param)]
    texts: list[str] = []
    for index, item in enumerate(given):
        if not item:
            raise ModelRequestError("empty", f"`{param}[{index}]` cannot be empty", param=param)
        texts.append(item if isinstance(item, str) else _text_of_ids(embedder, item, f"{param}[{index}]"))  # type: ignore[arg-type]
    return texts


def prepare_texts(
    embedder: Embedder, texts: Sequence[str], input_type: InputType, truncate: Truncate, param: str
) -> PreparedTexts:
    """Count the texts' tokens and cut those that are longer than the model reads, if ``truncate`` says so.

    Raises ModelRequestError: too_long where nothing may be cut, unreadable for a text that no UTF-8 can hold.
    """
    limit = embedder.info.text_tokens(input_type)
    ready = list(texts)
    counts = _counted(embedder, ready, param)
    for index, count in enumerate(counts):
        if count <= limit:
            continue
        if truncate == "NONE":
            raise ModelRequestError(
                "too_long",
                f"`{param}[{index}]` must have at most {limit} tokens. Given: {count}",
                hint="Shorten the text, or have it cut with `truncate`.",
                param=param,
            )
        ready[index], counts[index] = _cut(embedder, ready[index], limit, truncate)
    specials = embedder.tokenizer.specials if isinstance(embedder.tokenizer, VocabularyTokenizer) else 0
    added = embedder.info.max_tokens - limit + specials
    return PreparedTexts(ready, counts, [max(1, count + added) for count in counts])


def check_readable(texts: Sequence[str], param: str) -> None:
    """Raises ModelRequestError (unreadable) for a text that no UTF-8 can hold."""
    for index, text in enumerate(texts):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:  # noqa: PERF203 - it must tell which text it was
            raise ModelRequestError(
                "unreadable",
                f"`{param}[{index}]`: character {error.start} is a lone surrogate, which no UTF-8 text can hold.",
                param=param,
            ) from error


def _counted(embedder: Embedder, texts: Sequence[str], param: str) -> list[int]:
    check_readable(texts, param)
    return embedder.tokenizer.count(texts)


def _cut(embedder: Embedder, text: str, limit: int, truncate: Truncate) -> tuple[str, int]:
    data = text.encode("utf-8")
    spans = embedder.tokenizer.token_byte_spans(text)
    kept = limit
    while True:
        part = data[: spans[kept - 1][1]] if truncate == "END" else data[spans[len(spans) - kept][0] :]
        cut = part.decode("utf-8")
        # A word that was cut in two may be read as more pieces than it was a part of.
        count = embedder.tokenizer.count([cut])[0]
        if count <= limit:
            return cut, count
        kept -= count - limit


def _text_of_ids(embedder: Embedder, token_ids: Sequence[int], param: str) -> str:
    tokenizer = embedder.tokenizer
    if not isinstance(tokenizer, VocabularyTokenizer):
        raise ModelRequestError(
            "unreadable", f"`{param}`: {embedder.info.name} reads no token ids.", hint="Send the text.", param=param
        )
    try:
        own = _without_specials(tokenizer, token_ids)
        text = tokenizer.decode(own, skip_specials=False)
    except EmbeddingError as error:
        raise ModelRequestError(
            "unreadable", f"`{param}`: {error.message}", hint="Send the text.", param=param
        ) from error
    if text and [piece.token_id for piece in tokenizer.pieces(text, with_specials=False)] == list(own):
        return text
    raise ModelRequestError(
        "unreadable",
        f"`{param}`: these token ids are no text that the tokenizer of {embedder.info.name} turns into the same ids.",
        hint="Send the text; ids must come from this model's tokenizer (POST /tokenize).",
        param=param,
    )


def _without_specials(tokenizer: VocabularyTokenizer, token_ids: Sequence[int]) -> Sequence[int]:
    """The ids without those that the model itself puts around every text, if they are there."""
    around = [None if not piece.special else piece.token_id for piece in tokenizer.pieces("a", with_specials=True)]
    first, last = around.index(None), len(around) - 1 - around[::-1].index(None)
    before, after = around[:first], around[last + 1 :]
    end = len(token_ids) - len(after)
    is_whole = end >= first and list(token_ids[:first]) == before and list(token_ids[end:]) == after
    return token_ids[first:end] if is_whole else token_ids
