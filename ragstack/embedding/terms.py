"""From text to search terms: word breaking for every script, compound words, stop words and stemming."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import Stemmer  # type: ignore[import-not-found]

from ragstack.embedding.stop_words import STOP_WORDS
from ragstack.errors import InputError
from ragstack.registry import known_names

# Scripts written without spaces (Han, kana, Thai, Lao, Tibetan, Myanmar, Khmer), and Hangul, whose words carry endings.
UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0f40-\u0fbc\u1000-\u1049\u1050-\u109d\u1100-\u11ff\u1780-\u17d3"
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Vowel signs and accents are no word characters to `re`, and would tear words of these scripts apart.
MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963"
    "\u0981-\u0983\u09bc-\u09cd\u09d7\u0a01-\u0a03\u0a3c-\u0a51\u0a70\u0a71\u0a81-\u0a83\u0abc-\u0acd\u0b01-\u0b03"
    "\u0b3c-\u0b57\u0b82\u0bbe-\u0bcd\u0bd7\u0c00-\u0c04\u0c3c-\u0c56\u0c81-\u0c83\u0cbc-\u0cd6\u0d00-\u0d03"
    "\u0d3b-\u0d4d\u0d57\u0d81-\u0d83\u0dca-\u0ddf\u1ab0-\u1aff\u1dc0-\u1dff\ufe20-\ufe2f"
)
_LETTER = rf"[^\W_{UNSPACED}{MARKS}]"
_WORD = rf"{_LETTER}[^\W_{UNSPACED}]*(?:[{MARKS}]+(?:[^\W_{UNSPACED}])*)*"
# Zero-width joiners and soft hyphens lie inside words and are dropped before breaking.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
_JOINERS = "-_.\u2010\u2011"
_TOKEN = re.compile(rf"[{UNSPACED}]+|(?<!\w)[A-Za-z](?:\+\+|#)(?![\w#+])|{_WORD}(?:[{_JOINERS}]+{_WORD})*")
_UNSPACED_START = re.compile(rf"[{UNSPACED}]")
_SEPARATORS = re.compile(rf"[{_JOINERS}]+")
_INNER_SEPARATOR = re.compile(rf"(?<!\d)[{_JOINERS}]+|[{_JOINERS}]+(?!\d)")
# camelCase, HTTPServer, and the borders between letters and digits.
_CASE_OR_DIGIT = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)")

_CACHE_LIMIT = 100_000  # about 20 MB
_MAX_TERM_CHARS = 128

COMPOUNDING = frozenset({"danish", "dutch", "estonian", "finnish", "german", "hungarian", "norwegian", "swedish"})
"""The languages, by stemmer, that write compounds as one word."""
_BEGINNING = 5


class TermAnalyzer:
    """Breaks texts into terms; the same for passages and queries.

    * The text is put into NFKC and case-folded; words are runs of letters, digits and their marks.
    * A compound (``x86-64``, ``snake_case``, ``3.5``, ``node.js``, ``camelCase``, ``E1234``) gives its
      parts and the whole. The whole is written without its separators, except between two digits, so
      that ``e-mail`` finds ``email`` while ``3.5`` does not find ``35``.
    * Runs of scripts without spaces (Chinese, Japanese, Thai, …) and of Hangul give every character and
      every pair of neighbours.
    * ``language`` names a Snowball stemmer (``english``, ``german``, …): parts that are stop words are
      left out, the others stemmed. With None words are not stemmed, and stop words are those given.
    * In languages that write compounds as one word, the first five letters are a term of their own:
      ``Wasser`` finds ``Wasserleitung``.
    * Accents of Latin and Greek letters are dropped after stemming: ``café`` finds ``cafe``.

    Raises InputError for a language that has no stemmer. Safe to call from several threads.
    """

    def __init__(self, language: str | None = "english", stop_words: frozenset[str] | None = None) -> None:
        if language is not None and language not in Stemmer.algorithms():
            raise InputError(
                f"bm25.language: there is no Snowball stemmer {language!r}.",
                hint=f"{known_names(language, Stemmer.algorithms())} Or null for none.",
            )
        self.language = language
        self.stop_words = STOP_WORDS.get(language or "", frozenset()) if stop_words is None else stop_words
        self._cache: dict[str, tuple[str, ...]] = {}

    def tokens(self, text: str) -> list[str]:
        """The raw tokens of a text, in order; :meth:`terms_of` turns each into terms."""
        if not text.isascii():
            text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
        return _TOKEN.findall(text)

    def terms_of(self, token: str) -> tuple[str, ...]:
        """The terms that one raw token stands for; empty for a stop word."""
        found = self._cache.get(token)
        if found is None:
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache = {}
            found = tuple(term[:_MAX_TERM_CHARS] for term in self._analyze(token))
            self._cache[token] = found
        return found

    def terms(self, text: str) -> list[str]:
        """Every term of a text, in order, repeated as often as it occurs."""
        return [term for token in self.tokens(text) for term in self.terms_of(token)]

    def _analyze(self, token: str) -> Iterator[str]:
        if _UNSPACED_START.match(token):
            yield from token
            yield from (token[i : i + 2] for i in range(len(token) - 1))
            return
        if token[-1] in "#+":
            yield token.casefold()
            return
        words = _SEPARATORS.split(token)
        pieces = [piece for word in words for piece in _CASE_OR_DIGIT.split(word)]
        if len(words) == 1:
            yield from self._word(token)
        else:
            yield from self._word(_INNER_SEPARATOR.sub("", token))
            for word in words:
                yield from self._word(word)
        if len(pieces) > len(words):
            # One letter or digit out of a code ("B12") finds too much to be worth a term.
            yield from (term for piece in pieces if len(piece) > 1 and piece not in words for term in self._word(piece))

    def _word(self, word: str) -> Iterator[str]:
        folded = word.casefold()
        if folded in self.stop_words:
            return
        stem = folded
        if self.language is not None:
            # A stemmer object is not safe to share between threads, and costs microseconds; results are cached.
            stem = Stemmer.Stemmer(self.language, 0).stemWord(folded)
        yield fold_accents(stem)
        if self.language in COMPOUNDING and len(folded) >= _BEGINNING:
            yield fold_accents(folded)[:_BEGINNING] + "*"


def fold_accents(word: str) -> str:
    """Drop the combining marks on Latin and Greek letters; other scripts keep theirs, which tell words apart."""
    if word.isascii():
        return word
    kept: list[str] = []
    base = ""
    for char in unicodedata.normalize("NFD", word):
        if not unicodedata.combining(char):
            base = char
        elif base < "\u0400":
            continue
        kept.append(char)
    return unicodedata.normalize("NFC", "".join(kept))
