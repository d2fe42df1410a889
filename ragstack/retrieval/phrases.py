"""Quoted phrases in a query: the words between quotation marks, to be found as they stand. Pure.

Letters count without case and in Unicode's compatibility form; between two words anything may stand that is no word.
Nothing is stemmed and no stop word left out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ragstack.embedding.terms import MARKS, UNSPACED

# A quote opens where no word ends and closes where none begins, so that 5" and it's are no quotes.
_QUOTED = re.compile(
    r"(?<!\w)\"(?=\S)([^\"\n]+?)(?<=\S)\"(?!\w)|\u201c([^\u201c\u201d\n]+)\u201d|\u201e([^\u201c\u201d\u201e\n]+)[\u201c\u201d]"
    r"|\u00ab([^\u00ab\u00bb\n]+)\u00bb|\u300c([^\u300c\u300d\n]+)\u300d"
)
_WORD = re.compile(rf"[\w{MARKS}]+")
_UNSPACED_CHAR = re.compile(rf"[{UNSPACED}]")


@dataclass(frozen=True)
class Phrase:
    """``text`` is what stands between the marks; :meth:`is_in` looks for its words."""

    text: str
    pattern: re.Pattern[str]

    def is_in(self, folded: str) -> bool:
        """Whether the words stand in a text that went through :func:`folded_text`."""
        return self.pattern.search(folded) is not None


def quoted_phrases(query: str) -> tuple[Phrase, ...]:
    """The phrases of a query in their order, each once; marks around nothing that is a word are left alone."""
    phrases: dict[str, Phrase] = {}
    for match in _QUOTED.finditer(query):
        text = next(group for group in match.groups() if group is not None).strip()
        words = _WORD.findall(folded_text(text))
        if words:
            phrases.setdefault(text, Phrase(text, re.compile("".join(_pattern(words)))))
    return tuple(phrases.values())


def contain_all(phrases: Sequence[Phrase], text: str) -> bool:
    """Whether every phrase stands in the text."""
    folded = folded_text(text)
    return all(phrase.is_in(folded) for phrase in phrases)


def folded_text(text: str) -> str:
    """The form in which phrases and texts are compared."""
    return text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def _pattern(words: Sequence[str]) -> Iterator[str]:
    inside = rf"[\w{MARKS}]"
    if not _UNSPACED_CHAR.match(words[0]):
        yield rf"(?<!{inside})"
    yield rf"[^\w{MARKS}]+".join(map(re.escape, words))
    if not _UNSPACED_CHAR.match(words[-1][-1]):
        yield rf"(?!{inside})"
