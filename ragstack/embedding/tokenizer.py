"""Text to token ids and byte spans, as an embedding model's own tokenizer does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer, normalizers
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from ragstack.embedding.base import TokenPiece
from ragstack.errors import EmbeddingError, TextError
from ragstack.inference.model_files import read_pinned
from ragstack.inference.role import EMBEDDER
from ragstack.inference.tokenizer_file import read_tokenizer
from ragstack.types import Int32Array, sha256_hex


class TextTokenizer:
    """A tokenizer of the ``tokenizers`` library behind the :class:`ragstack.types.Tokenizer` protocol.

    Truncation and padding are off: what is too long is refused by the embedder, not cut here. Safe to
    call from several threads. ``sha256`` names the vocabulary or tokenizer file it was made from.
    """

    def __init__(self, tokenizer: Tokenizer, sha256: str) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.sha256 = sha256
        with_specials = tokenizer.encode("a")
        mask = with_specials.special_tokens_mask
        self._prefix = mask.index(0) if 0 in mask else 0
        self._specials = tokenizer.num_special_tokens_to_add(False)
        # BERT's look at words one by one; of the others only the makers know.
        self._splits_at_spaces = isinstance(tokenizer.pre_tokenizer, BertPreTokenizer) and isinstance(
            tokenizer.normalizer, BertNormalizer
        )

    @property
    def splits_at_spaces(self) -> bool:
        """See :class:`ragstack.types.WordTokenizer`."""
        return self._splits_at_spaces

    @property
    def specials(self) -> int:
        """How many special tokens the model adds to one text."""
        return self._specials

    @property
    def pair_specials(self) -> int:
        """How many special tokens the model adds to two texts that it reads together."""
        return self._tokenizer.num_special_tokens_to_add(True)

    @property
    def vocabulary(self) -> list[str]:
        """The entries of the vocabulary by id, with the marks by which it tells beginnings of words; gaps are empty."""
        ids = self._tokenizer.get_vocab(with_added_tokens=True)
        entries = [""] * (max(ids.values(), default=-1) + 1)
        for entry, token_id in ids.items():
            entries[token_id] = entry
        return entries

    def count(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text, special tokens left out."""
        return [len(e) for e in self._encode(texts, fast=True, specials=False)]

    def token_byte_spans(self, text: str) -> Int32Array:
        """Byte offsets (UTF-8 of ``text``) of each token: ``(n, 2) int32``, half-open, sorted by start.

        Several tokens of one character (a decomposed Hangul syllable) have the same span.
        """
        encoding = self._encode([text], fast=False, specials=False)[0]
        return char_to_byte_spans(text, np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2))

    def input_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text as the model reads them, special tokens included."""
        return [e.ids for e in self._encode(texts, fast=True, specials=True)]

    def ids_and_spans(self, texts: Sequence[str]) -> list[tuple[list[int], Int32Array]]:
        """For each text its input ids, special tokens included, and the byte spans of the others, ``(t, 2) int32``."""
        found = []
        for text, encoding in zip(texts, self._encode(texts, fast=False, specials=True), strict=True):
            offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)[self.content(len(encoding))]
            found.append((encoding.ids, char_to_byte_spans(text, offsets)))
        return found

    def pieces(self, text: str, *, with_specials: bool) -> list[TokenPiece]:
        """The tokens of a text; see :class:`ragstack.embedding.base.VocabularyTokenizer`."""
        encoding = self._encode([text], fast=False, specials=with_specials)[0]
        spans = char_to_byte_spans(text, np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)).tolist()
        return [
            TokenPiece(token_id, token, bool(special), *((None, None) if special else span))
            for token_id, token, special, span in zip(
                encoding.ids, encoding.tokens, encoding.special_tokens_mask, spans, strict=True
            )
        ]

    def decode(self, token_ids: Sequence[int], *, skip_specials: bool) -> str:
        """The text of token ids; see :class:`ragstack.embedding.base.VocabularyTokenizer`."""
        size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        for token_id in token_ids:
            if not 0 <= token_id < size:
                raise EmbeddingError(f"token id {token_id} is not in the vocabulary of {size} tokens.")
        return self._tokenizer.decode(list(token_ids), skip_special_tokens=skip_specials)

    def content(self, length: int) -> slice:
        """Where the tokens of the text itself lie in a sequence of ``length`` tokens with its special ones."""
        return slice(self._prefix, self._prefix + length - self._specials)

    def _encode(self, texts: Sequence[str], *, fast: bool, specials: bool) -> list[Encoding]:
        encode = self._tokenizer.encode_batch_fast if fast else self._tokenizer.encode_batch
        try:
            encoded: list[Encoding] = encode(texts, add_special_tokens=specials)
        except (TypeError, UnicodeEncodeError) as error:
            for index, text in enumerate(texts):
                if not isinstance(text, str):
                    raise TextError(index, f"expected a string, got {type(text).__name__}.") from error
                try:
                    text.encode("utf-8")
                except UnicodeEncodeError as reason:
                    raise TextError(
                        index,
                        f"character {reason.start} is a lone surrogate, which no UTF-8 text can hold.",
                        hint="Decode the source with its right encoding, or replace the character.",
                    ) from error
            raise
        return encoded


def char_to_byte_spans(text: str, spans: NDArray[np.int64]) -> Int32Array:
    """Turn ``(n, 2)`` character offsets of ``text`` into UTF-8 byte offsets, ``(n, 2) int32``."""
    if text.isascii() or not len(spans):
        return spans.astype(np.int32)
    code_points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    byte_offsets = np.zeros(len(code_points) + 1, dtype=np.int32)
    widths = 1 + (code_points >= 0x80).astype(np.int32) + (code_points >= 0x800) + (code_points >= 0x10000)
    np.cumsum(widths, out=byte_offsets[1:])
    return byte_offsets[spans]


def bert_tokenizer(vocab_file: Path, *, sha256: str | None = None) -> TextTokenizer:
    """The tokenizer of bert-base-uncased over a ``vocab.txt``: lower case, no accents, ``[CLS] text [SEP]``.

    Raises EmbeddingError when the file is missing, lacks a special token, or its SHA-256 is not ``sha256``.
    """
    data = read_pinned(vocab_file, sha256, EMBEDDER)
    vocab = {line: index for index, line in enumerate(data.decode("utf-8").rstrip("\n").split("\n"))}
    missing = [name for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if name not in vocab]
    if missing:
        message = f"{vocab_file}: the vocabulary has no {', '.join(missing)}."
        raise EmbeddingError(message, hint="Is it a BERT vocab.txt?")
    unknown = "[UNK]"
    tokenizer = Tokenizer(WordPiece(vocab, unk_token=unknown, max_input_chars_per_word=100))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.normalizer = BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return TextTokenizer(tokenizer, sha256_hex(data))


def json_tokenizer(tokenizer_file: Path, *, sha256: str | None = None, lower_case: bool = False) -> TextTokenizer:
    """The tokenizer of a ``tokenizer.json``, its truncation and padding switched off.

    With ``lower_case`` texts are brought to lower case first, where the tokenizer does not do that by itself.
    Raises EmbeddingError when the file is missing, unreadable, or its SHA-256 is not ``sha256``.
    """
    tokenizer, found = read_tokenizer(tokenizer_file, sha256, EMBEDDER)
    if lower_case and tokenizer.encode("A").ids != tokenizer.encode("a").ids:
        own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
        found = sha256_hex(f"{found} in lower case".encode())
    return TextTokenizer(tokenizer, found)
