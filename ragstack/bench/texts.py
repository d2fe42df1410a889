"""Texts of exactly n tokens by a given tokenizer, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from ragstack.errors import InputError

_BEGINNING, _FEW = 3, 10
_STEMS = 16
"""How many long rows of words are drawn; behind other beginnings they make any number of texts."""


class CountsTokens(Protocol):
    """What is needed of a tokenizer: the tokens of texts, special ones left out."""

    def count(self, texts: Sequence[str]) -> list[int]: ...


class TextMaker:
    """Makes texts of common words that are one token each, wherever in a text they stand.

    A text is told by its length and a number: other numbers give other texts, which differ from their first words on,
    so that no cache of a server can answer for the model. Raises InputError for a tokenizer with too few such words.
    """

    def __init__(self, tokenizer: CountsTokens, seed: int) -> None:
        self._tokenizer = tokenizer
        self._seed = seed
        self._words = _whole_words(tokenizer)
        random.Random(f"{seed} words").shuffle(self._words)
        self._stems: dict[int, list[str]] = {}

    def text(self, tokens: int, number: int) -> str:
        """The text ``number`` (from 0) of so many tokens, at least 1.

        Raises InputError for a tokenizer to which texts have other tokens than their words.
        """
        # Of few words several rows may begin with the same ones.
        which, rest = (number % _STEMS, number // _STEMS) if tokens > _FEW else (0, number)
        beginning = []
        for _ in range(min(tokens, _BEGINNING)):
            rest, word = divmod(rest, len(self._words))
            beginning.append(self._words[word])
        return " ".join(beginning + self._stem(which, tokens - len(beginning)))

    def _stem(self, which: int, tokens: int) -> list[str]:
        """So many words; fewer are the beginning of more."""
        found = self._stems.get(which, [])
        if len(found) < tokens:
            size = max(tokens, 2 * len(found))
            found = random.Random(f"{self._seed} {which}").choices(self._words, k=size)
            counted = self._tokenizer.count([" ".join(found)])[0]
            if counted != size:
                raise _unusable(f"it makes {counted} tokens of {size} words that are one token each")
            self._stems[which] = found
        return found[:tokens]


def _whole_words(tokenizer: CountsTokens) -> list[str]:
    """Those of our words that are one token alone, at the beginning of a text and after another word."""
    words = list(dict.fromkeys(_WORDS.split()))
    counts = tokenizer.count([repeated for word in words for repeated in (word, f"{word} {word} {word}")])
    found = [word for word, one, three in zip(words, counts[::2], counts[1::2], strict=True) if (one, three) == (1, 3)]
    if len(found) < 2:
        raise _unusable("hardly any common word or letter is a single token to it")
    return found


def _unusable(reason: str) -> InputError:
    return InputError(
        f"no texts of a given number of tokens can be made with this tokenizer: {reason}.",
        hint="Name another with --tokenizer; the server's own count is shown beside it.",
    )


_WORDS = """\
the of and to in is that for it as was with be by on not he his but at are this have from or had an they which
one you were all her she there would their we him been has when who will more no if out so said what up its about
into than them can only other new some time could these two may then do first any my now such like our over man me
even most made after also did many before must through back years where much your way well down should because each
just those people how too little state good very make world still own see men work long get here between both life
being under never day same another know while last might us great old year off come since against go came right
used take three small large number part house water place without again found during home place away something
fact though less public put think almost hand enough far took head yet government system better set told nothing
night end why called eyes find going look asked later knew point next city business case group toward give days
young let room side social few given present several order second possible rather per face among form important
often things looked early white big power school feel turned known field open money problem church best needed
line level table report body matter study market word family air light book letter story force paper music river
mountain horse garden winter summer morning window door street engine machine island king queen army war peace law
court science history language number green red blue black north south east west
a b c d e f g h i j k l m n o p q r s t u v w x y z"""
