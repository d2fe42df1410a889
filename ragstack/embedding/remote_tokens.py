"""What counts tokens for a model that runs elsewhere: its own tokenizer, tiktoken's tables, or an estimate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

import numpy as np

from ragstack.embedding.model_files import resolve_model
from ragstack.embedding.models import MODELS, HubFiles
from ragstack.embedding.tokenizer import char_to_byte_spans, json_tokenizer
from ragstack.errors import EmbeddingError, InputError
from ragstack.inference.tiktoken_tables import load_encoding, require_tiktoken
from ragstack.registry import known_names
from ragstack.types import Int32Array, Tokenizer

if TYPE_CHECKING:
    import tiktoken

# Where an estimated token ends inside a run of characters of one kind (docs/remote-models.md has what was measured).
_WORD_CHARS = 5
_LONG_WORD, _LONG_WORD_CHARS = 18, 2
_PIECES = re.compile(
    r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])"  # words of the alphabet that vocabularies know best, and those in camelCase
    r"|\d{1,2}"
    r"|[^\W\d_\u0000-\u007f]"  # a letter of any other: two of them are seldom one token
    r"|[^\w\s]|_"
    r"|\n+|(?<=[ \t])[ \t]+"  # lines and indentation; a single space belongs to its word
)
# Of texts in a language that a model's vocabulary was made for, none has more tokens than 1.41 times the estimate: two
# thirds of what the model reads are left to it.
_ESTIMATE = "estimate/1"
_SPECIALS = 4
"""Special tokens that an unknown model may add to a text: <s>, </s>, and of some models one for each of two types."""


@dataclass(frozen=True)
class RemoteTokenizer:
    """A tokenizer, and how much to trust it.

    ``specials`` is how many special tokens the model adds to a text; ``is_exact`` whether the counts are the model's
    own. ``fingerprint`` changes with the tokens.
    """

    tokenizer: Tokenizer
    fingerprint: str
    specials: int
    is_exact: bool

    def readable(self, max_tokens: int) -> int:
        """How many of these tokens a text may have for a model that reads ``max_tokens``, special ones included."""
        room = max(1, max_tokens - self.specials)
        return room if self.is_exact else max(1, room * 2 // 3)


def remote_tokenizer(name: str | None) -> RemoteTokenizer:
    """The tokenizer that ``embedder.tokenizer`` names: a file, a registered model in a package, an encoding; or none.

    Raises InputError for a name that is none of these, EmbeddingError for a file that cannot be read, and
    MissingExtraError where tiktoken is not installed.
    """
    if name is None:
        return RemoteTokenizer(EstimatingTokenizer(), _ESTIMATE, _SPECIALS, is_exact=False)
    if name in MODELS and isinstance(MODELS[name].files, (HubFiles, NoneType)):
        raise InputError(
            f"embedder.tokenizer: the files of {name} are in no package.",
            hint="Download the tokenizer.json of its repository, and give that path.",
        )
    if name in MODELS:
        own = resolve_model(name).tokenizer
        return RemoteTokenizer(own, own.sha256, own.specials, is_exact=True)
    if name.endswith(".json") or "/" in name or "\\" in name:
        read = json_tokenizer(Path(name).expanduser())
        return RemoteTokenizer(read, read.sha256, read.specials, is_exact=True)
    require_tiktoken("embedder.tokenizer")
    import tiktoken  # noqa: PLC0415 - an extra

    encodings = tiktoken.list_encoding_names()
    if name not in encodings:
        in_packages = [known for known, card in MODELS.items() if not isinstance(card.files, (HubFiles, NoneType))]
        raise InputError(
            f"embedder.tokenizer: {name!r} is neither a tokenizer.json, nor a registered model, nor an encoding.",
            hint=known_names(name, [*in_packages, *encodings]),
        )
    encoding = load_encoding(name, None, "embedder.tokenizer", "leave embedder.tokenizer out")
    return RemoteTokenizer(TiktokenTokenizer(encoding), name, 0, is_exact=True)


class EstimatingTokenizer:
    """About as many tokens as most models make of a text, rather a few too many: no vocabulary is at hand.

    Words of unaccented letters count a token for each five, and long runs that are no words one for each two; digits go
    in pairs; every other letter, mark and line end counts one.
    """

    def count(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text."""
        return [sum(_tokens_of(piece) for piece in _PIECES.findall(text)) for text in texts]

    def token_byte_spans(self, text: str) -> Int32Array:
        """Byte offsets (UTF-8 of ``text``) of each token: ``(n, 2) int32``, half-open, sorted."""
        spans = np.array(list(_estimated(text)), dtype=np.int64).reshape(-1, 2)
        return char_to_byte_spans(text, spans)


def _tokens_of(piece: str) -> int:
    """How many tokens :func:`_estimated` makes of it."""
    size = len(piece)
    if size <= _WORD_CHARS or not piece[0].isalpha():
        return 1
    return -(-size // (_LONG_WORD_CHARS if size > _LONG_WORD else _WORD_CHARS))


def _estimated(text: str) -> Iterator[tuple[int, int]]:
    for match in _PIECES.finditer(text):
        start, end = match.span()
        size = end - start
        if size <= _WORD_CHARS or not text[start].isalpha():
            yield start, end
            continue
        step = _LONG_WORD_CHARS if size > _LONG_WORD else _WORD_CHARS
        for at in range(start, end, step):
            yield at, min(at + step, end)


class TiktokenTokenizer:
    """An encoding of tiktoken. Tokens that begin or end inside a character are widened to the whole of it."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self._encoding = encoding

    def count(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text."""
        return [len(self._ids(text)) for text in texts]

    def token_byte_spans(self, text: str) -> Int32Array:
        """Byte offsets (UTF-8 of ``text``) of each token: ``(n, 2) int32``, half-open, sorted by start."""
        pieces = self._encoding.decode_tokens_bytes(self._ids(text))
        ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
        data = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
        begins = np.flatnonzero((data & 0xC0) != 0x80)  # where characters begin
        bounds = np.append(begins, len(data))
        starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]]) if len(ends) else ends
        first = bounds[np.searchsorted(bounds, starts, side="right") - 1]
        last = bounds[np.searchsorted(bounds, ends, side="left")]
        return np.stack([first, last], axis=1).astype(np.int32).reshape(-1, 2)

    def _ids(self, text: str) -> list[int]:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise EmbeddingError(
                f"character {error.start} of a text is a lone surrogate, which no UTF-8 text can hold.",
                hint="Decode the source with its right encoding, or replace the character.",
            ) from error
        return self._encoding.encode_ordinary(text)
