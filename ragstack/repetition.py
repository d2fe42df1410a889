"""When two texts say the same in the same words."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+")
_MONTH = (
    r"(?:jan(?:uar[yio])?|feb(?:ruar[yio])?|m(?:ar(?:ch|zo)?|är(?:z)?)|apr(?:il)?|abril|ma[yi]o?|jun[ie]?o?|jul[yi]?o?|"
    r"aug(?:ust)?|agosto|sep(?:t|tember|tiembre)?|o[ck]t(?:ober|ubre)?|nov(?:ember|iembre)?|de[cz](?:ember)?|diciembre)"
)
_DATE = re.compile(
    r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[./]\s?\d{1,2}[./]\s?\d{2,4}|\d{4}/\d{1,2}/\d{1,2}"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th|\.)?\s(?:of\s|de\s)?{_MONTH}\.?,?\s(?:de\s)?\d{{4}}"
    rf"|\b{_MONTH}\.?\s\d{{1,2}}(?:st|nd|rd|th)?,?\s\d{{4}}",
    re.IGNORECASE,
)
_TIME = re.compile(r"\bT?\d{1,2}:\d{2}(?::\d{2})?Z?\b")
# What may stand beside a date that tells of the copy, not of its contents: a deadline is none of these.
_WORDS_OF_THE_COPY = (
    "as at by copied copy created date dated document draft exported file from generated issued last modified of on"
    " page printed published retrieved revised revision saved status the this updated version was"
    " aktualisiert am datum des dokuments erstellt exportiert gedruckt geändert letzte letzten stand vom zuletzt"
    " actualizado actualización creado de del documento el fecha impreso modificado última"
    " créé date de du imprimé jour le mis mise modifié à"
)
_OF_THE_COPY = frozenset(_WORDS_OF_THE_COPY.split())


def repetition_key(text: str) -> str:
    """The same for two texts that repeat each other.

    Those are texts of the same words in the same order: case, punctuation and white space do not count, nor does a line
    that only dates the copy ("Last updated: 3 May 2024"). Any other word or number does: texts that differ in one may
    contradict each other, and both are worth showing.
    """
    lines = [line for line in text.splitlines() if not _is_date_line(line)]
    words = _WORD.findall(" ".join(lines).casefold())
    # Of signs alone, or a date alone: then every character counts.
    return " ".join(words) if words else " ".join(text.split())


def _is_date_line(line: str) -> bool:
    if len(line) > 120 or not any(character.isdigit() for character in line):
        return False
    rest, dates = _DATE.subn(" ", line)
    return dates > 0 and _OF_THE_COPY.issuperset(_WORD.findall(_TIME.sub(" ", rest).casefold()))
