"""Where a text may be cut without tearing what a reader sees as one character apart."""

from __future__ import annotations

import unicodedata

_ZWJ = "\u200d"
# Thai and Lao vowels that are letters by category and belong to the consonant before them.
_SPACING_VOWELS = "\u0e33\u0eb3"


def is_cluster_boundary(text: str, position: int) -> bool:
    """True when cutting before ``text[position]`` (in characters) tears no grapheme cluster apart.

    Covers combining and enclosing marks, variation selectors, zero-width joiners, emoji modifiers,
    flags, tags, Hangul syllables and CRLF: the rules of UAX #29 that matter for cutting, from
    :mod:`unicodedata` alone.
    """
    if position <= 0 or position >= len(text):
        return True
    before, after = text[position - 1], text[position]
    if after < "\u0300" and before != _ZWJ:
        return not (before == "\r" and after == "\n")
    if _extends(after) or (before == _ZWJ and unicodedata.category(after) in ("So", "Sk", "Sm")):
        return False
    if _is_regional(before) and _is_regional(after):
        run = position - 1
        while run > 0 and _is_regional(text[run - 1]):
            run -= 1
        return (position - run) % 2 == 0
    return not _same_hangul_syllable(before, after)


def _extends(character: str) -> bool:
    """Marks, joiners, emoji modifiers and tags: they belong to what is before them."""
    return (
        character == _ZWJ
        or character in _SPACING_VOWELS
        or unicodedata.category(character)[0] == "M"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\U000e0020" <= character <= "\U000e007f"
    )


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _same_hangul_syllable(before: str, after: str) -> bool:
    """Conjoining jamo: leading, vowel, trailing; a precomposed syllable counts as its last part."""
    if "\u1100" <= before <= "\u115f":
        return "\u1100" <= after <= "\u11a7" or "\uac00" <= after <= "\ud7a3"
    if "\u1160" <= before <= "\u11a7" or ("\uac00" <= before <= "\ud7a3" and (ord(before) - 0xAC00) % 28 == 0):
        return "\u1160" <= after <= "\u11ff"
    if "\u11a8" <= before <= "\u11ff" or "\uac00" <= before <= "\ud7a3":
        return "\u11a8" <= after <= "\u11ff"
    return False
