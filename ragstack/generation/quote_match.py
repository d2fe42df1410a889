"""Finds words that a model says it copied, in the passage they are said to be from.

A quote is found when the passage holds it word for word. White space, the kind of quotation marks and dashes, letter
case and Markdown's emphasis may differ: models change them without thinking. So may a few letters: at most one word in
eight (at least one), each by one letter put in, left out, changed or swapped with its neighbour, in words of five
letters or more with the same first letter. Nothing may be left out or added, and numbers must be equal: "not" and the
difference between 400 and 500 days are what a quote is read for. What is found is given as a range of the passage,
so that the text shown is always the passage's own.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_MAX_WORDS = 400
_WORDS_PER_TYPO = 8
_MIN_WORDS_WITH_TYPO = 4
_MIN_TYPO_LETTERS = 5
# Han, kana, Thai, Lao, Burmese and Khmer put no spaces between words: each character is compared by itself.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_INVISIBLE = "\u00ad\u200b-\u200d\u2060"
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w[\u0300-\u036f{_INVISIBLE}]*)+|[^\w\s]")
_DROPPED = re.compile(f"[{_INVISIBLE}]")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_ELLIPSIS = re.compile(r"\s*(?:\[\s*(?:\.\.\.|…)\s*\]|\(\s*(?:\.\.\.|…)\s*\)|\.\.\.|…)\s*")
_DECIMALS = re.compile(r"\d[.,]\d")
_ELIDED_WORDS = 3
_MIN_CHARACTERS = 2
_MARKS = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′`´＇", "'"),
        **dict.fromkeys("“”„‟″«»＂", '"'),
        **dict.fromkeys("‐‑‒–—―−﹣－", "-"),
        # What a prompt shows instead of what might be read as an instruction, see ragstack.generation.prompt.
        **dict.fromkeys("‹＜", "<"),
        **dict.fromkeys("[［", "("),
        **dict.fromkeys("]］", ")"),
    }
)
_EMPHASIS = "*_`'\""


@dataclass(frozen=True)
class _Words:
    """The words and marks of a text as they are compared, each with its character range."""

    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]


def find_quote(quote: str, text: str) -> list[tuple[int, int]]:
    """Where ``quote`` stands in ``text``: half-open character ranges, in order; empty when it is not there.

    There are several where the quote leaves something out with an ellipsis; each of its parts must be there, in order,
    and have three words or more.
    """
    quote = quote.strip()
    at = text.find(quote) if quote else -1
    if at >= 0 and _stands_apart(text, at, at + len(quote)):
        return [(at, at + len(quote))]
    haystack = _words(text)
    whole = _find(_words(quote), haystack, 0)
    if whole is not None:
        place = _range(haystack, *whole)
        return [place] if _stands_apart(text, *place) else []
    parts = [_words(part) for part in _ELLIPSIS.split(quote) if part]
    if len(parts) < 2 or any(len(part.words) < _ELIDED_WORDS for part in parts):
        return []
    found, position = [], 0
    for part in parts:
        part_place = _find(part, haystack, position)
        if part_place is None:
            return []
        found.append(_range(haystack, *part_place))
        position = part_place[1]
    return found


@lru_cache(maxsize=64)
def _words(text: str) -> _Words:
    words, spans = [], []
    for match in _WORD.finditer(text):
        word = unicodedata.normalize("NFKC", _DROPPED.sub("", match[0])).translate(_MARKS).casefold().strip("_")
        if word and word not in _EMPHASIS:
            words.append(word)
            spans.append(match.span())
    return _Words(tuple(words), tuple(spans))


def _find(needle: _Words, haystack: _Words, position: int) -> tuple[int, int] | None:
    """The first range of words, from ``position`` on, that is the needle, with as few typing mistakes as there are."""
    wanted, tail = needle.words, 0
    # Marks at the ends of a quote are often the model's own.
    while wanted and not wanted[-1][0].isalnum():
        wanted, tail = wanted[:-1], tail + 1
    while wanted and not wanted[0][0].isalnum():
        wanted = wanted[1:]
    count = len(wanted)
    if not wanted or count > _MAX_WORDS or sum(map(len, wanted)) < _MIN_CHARACTERS:
        return None
    starts = range(position, len(haystack.words) - count + 1)
    start = next((i for i in starts if haystack.words[i : i + count] == wanted), None)
    if start is None and count >= _MIN_WORDS_WITH_TYPO:
        allowed = max(1, count // _WORDS_PER_TYPO)
        start = next((i for i in starts if _typos(wanted, haystack.words[i : i + count], allowed) <= allowed), None)
    if start is None:
        return None
    end = start + count
    marks = needle.words[len(needle.words) - tail :]
    return start, end + tail if tail and haystack.words[end : end + tail] == marks else end


def _typos(wanted: tuple[str, ...], found: tuple[str, ...], allowed: int) -> int:
    """How many words differ by a typing mistake; more than ``allowed`` when a word differs by more."""
    different = 0
    for a, b in zip(wanted, found, strict=True):
        if a != b:
            different += 1
            if different > allowed or not is_typo(a, b):
                return allowed + 1
    return different


def is_typo(a: str, b: str) -> bool:
    """Whether two different words are one but for one letter, or two neighbours that changed places."""
    if min(len(a), len(b)) < _MIN_TYPO_LETTERS or a[0] != b[0] or not (a.isalpha() and b.isalpha()):
        return False
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    x, y = a[start : len(a) - end], b[start : len(b) - end]
    return max(len(x), len(y)) <= 1 or (len(x) == len(y) == 2 and x == y[::-1])


def _range(haystack: _Words, first: int, last: int) -> tuple[int, int]:
    return haystack.spans[first][0], haystack.spans[last - 1][1]


def _stands_apart(text: str, start: int, end: int) -> bool:
    """Whether a range neither begins nor ends inside a word or number, and holds two letters or digits at least."""
    if _is_inside(text, start) or _is_inside(text, end):
        return False
    return sum(c.isalnum() for c in text[start:end]) >= _MIN_CHARACTERS


def _is_inside(text: str, at: int) -> bool:
    around = text[max(0, at - 1) : at + 1]
    if len(around) == 2 and around.isalnum():
        return not _IS_UNSPACED.search(around)
    # "400" is not what "400.5" says.
    return any(_DECIMALS.match(text, at - back) is not None for back in (1, 2) if at >= back)
