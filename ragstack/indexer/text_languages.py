"""The language that each document of a source is analysed in for the sparse leg."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.languages import detect_language
from ragstack.types import Document

_SOURCE_CHARS = 20_000  # of many short records together


def text_languages(documents: Sequence[Document]) -> list[str]:
    """The ISO 639-1 code of each document of one source; empty where nothing can be said.

    A record too short to tell (a row, a heading) is taken to be in the language of its source.
    """
    own = [detect_language(document.text) or "" for document in documents]
    if len(documents) < 2 or all(own):
        return own
    beginning: list[str] = []
    chars = 0
    for document in documents:
        if chars >= _SOURCE_CHARS:
            break
        beginning.append(document.text)
        chars += len(document.text)
    whole = detect_language("\n".join(beginning)) or ""
    return [language or whole for language in own]
