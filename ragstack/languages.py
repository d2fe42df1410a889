"""Which language a text is written in: small, deterministic, offline.

The script is counted first. Most scripts other than Latin, Cyrillic, Arabic and Devanagari are those of one language;
among the languages of these four, function words decide, and letters that few of them write
(:mod:`ragstack.function_words`). Text without sentences (source code, tables, identifiers) has few function
words and is left unnamed: an unknown language is better than a wrong one. Accuracy and cost are measured in
``docs/languages.md``.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping

from ragstack.function_words import LETTERS, WORDS

NAMES: Mapping[str, str] = {
    "af": "Afrikaans", "am": "Amharic", "ar": "Arabic", "az": "Azerbaijani", "be": "Belarusian", "bg": "Bulgarian",
    "bn": "Bengali", "ca": "Catalan", "ckb": "Central Kurdish", "cs": "Czech", "cy": "Welsh", "da": "Danish",
    "de": "German", "el": "Greek", "en": "English", "eo": "Esperanto", "es": "Spanish", "et": "Estonian",
    "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fr": "French", "ga": "Irish", "gl": "Galician",
    "gu": "Gujarati", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "hy": "Armenian",
    "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ka": "Georgian", "kk": "Kazakh",
    "km": "Khmer", "kn": "Kannada", "ko": "Korean", "lo": "Lao", "lt": "Lithuanian", "lv": "Latvian",
    "mk": "Macedonian", "ml": "Malayalam", "mn": "Mongolian", "mr": "Marathi", "my": "Burmese", "ne": "Nepali",
    "nl": "Dutch", "no": "Norwegian", "or": "Odia", "pa": "Punjabi", "pl": "Polish", "ps": "Pashto",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "si": "Sinhala", "sk": "Slovak", "sl": "Slovenian",
    "sq": "Albanian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai",
    "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
"""The languages that are told apart, by code, with their English names. ``hr`` stands for Bosnian and Serbian in
Latin letters too, ``id`` for Malay, ``no`` for both forms of Norwegian."""

_SAMPLES, _SAMPLE_CHARS = 3, 700
_MIN_SCORE, _MIN_SHARE, _MIN_LEAD = 1.2, 0.055, 1.03
_DISTINCT = ((60, 3), (12, 2), (0, 1))
"""From so many words on, so many different function words are needed: identifiers and names hit one by accident."""
_LETTER_WEIGHT = 0.25
_ONE_LETTER_WEIGHT = 0.4  # variables, list items and initials are words of one letter too
_SCRIPT_SHARE = 0.25

_WORD = re.compile(r"'n\b|[\u0900-\u097f]+|[^\W\d_]+")  # vowel signs of Devanagari are no letters to \w
_RUN = re.compile(
    r"(?P<cyrillic>[\u0400-\u052f]+)|(?P<arabic>[\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff]+)"
    r"|(?P<devanagari>[\u0900-\u097f]+)|(?P<kana>[\u3041-\u30ff\u31f0-\u31ff]+)"
    r"|(?P<han>[\u3400-\u4dbf\u4e00-\u9fff]+)|(?P<ko>[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]+)"
    r"|(?P<el>[\u0370-\u03ff\u1f00-\u1fff]+)|(?P<he>[\u0590-\u05ff]+)|(?P<th>[\u0e00-\u0e7f]+)|(?P<lo>[\u0e80-\u0eff]+)"
    r"|(?P<hy>[\u0530-\u058f]+)|(?P<ka>[\u10a0-\u10ff]+)|(?P<bn>[\u0980-\u09ff]+)|(?P<pa>[\u0a00-\u0a7f]+)"
    r"|(?P<gu>[\u0a80-\u0aff]+)|(?P<or>[\u0b00-\u0b7f]+)|(?P<ta>[\u0b80-\u0bff]+)|(?P<te>[\u0c00-\u0c7f]+)"
    r"|(?P<kn>[\u0c80-\u0cff]+)|(?P<ml>[\u0d00-\u0d7f]+)|(?P<si>[\u0d80-\u0dff]+)|(?P<my>[\u1000-\u109f]+)"
    r"|(?P<am>[\u1200-\u139f]+)|(?P<km>[\u1780-\u17ff]+)|(?P<latin>[A-Za-z\u00aa-\u024f\u1e00-\u1eff]+)"
)
_CJK = ("kana", "han", "ko")
_CJK_LETTERS = 2  # a character of these scripts stands for about as much as this many letters


def _inverted(profiles: Mapping[str, str], *, split: bool) -> dict[str, tuple[tuple[str, float], ...]]:
    """For each word or letter its languages, each with the weight 1 / (how many there are)."""
    languages: dict[str, list[str]] = defaultdict(list)
    for language, entries in profiles.items():
        for entry in set(entries.split() if split else entries):
            languages[entry].append(language)
    return {entry: tuple((name, 1 / len(names)) for name in names) for entry, names in languages.items()}


_BY_WORD = _inverted(WORDS, split=True)
_BY_LETTER = _inverted(LETTERS, split=False)
_SCRIPT_OF = {
    language: next(m.lastgroup for m in [_RUN.search(words)] if m is not None) for language, words in WORDS.items()
}


def detect_language(text: str) -> str | None:
    """The language most of ``text`` is written in, as its ISO 639-1 code (a key of :data:`NAMES`), or None.

    Of a long text three samples are looked at: its beginning, its middle and its end. None means that nothing can be
    said: too few words, no sentences, or a language without a profile. A pure function of the text.
    """
    sample = _sample(text)
    script = _script(sample)
    if script is None or script in NAMES:
        return script
    return _by_words(sample.lower(), script)


def _sample(text: str) -> str:
    if len(text) <= _SAMPLES * _SAMPLE_CHARS:
        return text
    step = (len(text) - _SAMPLE_CHARS) // (_SAMPLES - 1)
    return "\n".join(text[i * step : i * step + _SAMPLE_CHARS] for i in range(_SAMPLES))


def _script(sample: str) -> str | None:
    """The script of the text, or the language where the script has one; None for a text without letters."""
    letters: Counter[str] = Counter()
    if sample.isascii():
        return "latin"
    for run in _RUN.finditer(sample):
        script = run.lastgroup or ""
        letters[script] += (run.end() - run.start()) * (_CJK_LETTERS if script in _CJK else 1)
    total = sum(letters.values())
    if not total:
        return None
    # Names, code and loan words are Latin in texts of every script, so Latin needs the clear majority.
    other, count = max(((s, n) for s, n in letters.items() if s != "latin"), key=lambda x: x[1], default=("latin", 0))
    if count < _SCRIPT_SHARE * total:
        return "latin"
    if other in ("kana", "han"):
        # Japanese mixes both; Chinese has no kana.
        return "ja" if letters["kana"] * 10 > letters["han"] else "zh"
    return other


def _by_words(sample: str, script: str) -> str | None:
    words = Counter(_WORD.findall(sample))
    total = sum(words.values())
    scores: dict[str, float] = defaultdict(float)
    hits: dict[str, int] = defaultdict(int)
    distinct: dict[str, int] = defaultdict(int)
    for word in words.keys() & _BY_WORD.keys():
        count = words[word]
        # Ten times "Los" (Angeles) is a name; ten different words of Spanish are Spanish.
        evidence = math.sqrt(count) * (1.0 if len(word) > 1 else _ONE_LETTER_WEIGHT)
        for language, weight in _BY_WORD[word]:
            scores[language] += (0.5 + 0.5 * weight) * evidence
            hits[language] += count
            distinct[language] += len(word) > 1
    if not sample.isascii():
        for letter in set(sample) & _BY_LETTER.keys():
            for language, weight in _BY_LETTER[letter]:
                scores[language] += _LETTER_WEIGHT * weight * math.sqrt(sample.count(letter))
    ranked = sorted(((s, name) for name, s in scores.items() if _SCRIPT_OF[name] == script), reverse=True)
    if not ranked:
        return None
    best, language = ranked[0]
    second = ranked[1][0] if len(ranked) > 1 else 0.0
    needed = next(count for words_from, count in _DISTINCT if total >= words_from)
    sure = best >= _MIN_SCORE and hits[language] >= _MIN_SHARE * total and best >= _MIN_LEAD * second
    return language if sure and distinct[language] >= needed else None
