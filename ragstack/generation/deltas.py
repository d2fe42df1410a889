"""Cleans what a model writes, piece by piece: whole characters, no control characters, no thinking aloud."""

from __future__ import annotations

import unicodedata

_THINKING, _THOUGHT = "<think>", "</think>"
_KEPT_CONTROLS = "\n\r\t"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class DeltaCleaner:
    """Fed with deltas cut anywhere, returns clean text; what it returns in all does not depend on the cuts.

    A pair of surrogates cut in two (some servers escape each half in a delta of its own) is joined, a lone half is
    replaced. Control characters are left out: they mean nothing in an answer and something to a terminal. A model
    that reasons in its answer begins with ``<think>``; everything up to ``</think>`` is left out.
    """

    def __init__(self) -> None:
        self._high = ""
        self._start = ""  # the beginning of the answer, while it may still become <think>
        self._tail: str | None = None  # inside <think>: the last characters, which may begin </think>
        self._begun = False

    def feed(self, delta: str) -> str:
        """The text that is settled by one more delta."""
        return "".join(self._visible(character) for character in self._characters(delta))

    def finish(self) -> str:
        """What was still held when the answer ended."""
        held = self._visible(REPLACEMENT) if self._high else ""
        self._high = ""
        start, self._start = self._start, ""
        return held + start

    def _characters(self, delta: str) -> list[str]:
        found: list[str] = []
        for character in delta:
            code = ord(character)
            if self._high:
                high, self._high = self._high, ""
                if 0xDC00 <= code <= 0xDFFF:
                    found.append((high + character).encode("utf-16", "surrogatepass").decode("utf-16"))
                    continue
                found.append(REPLACEMENT)
            if 0xD800 <= code <= 0xDBFF:
                self._high = character
            elif 0xDC00 <= code <= 0xDFFF:
                found.append(REPLACEMENT)
            elif character in _KEPT_CONTROLS or unicodedata.category(character) != "Cc":
                found.append(character)
        return found

    def _visible(self, character: str) -> str:
        if self._begun:
            return character
        if self._tail is not None:
            self._tail = (self._tail + character)[-len(_THOUGHT) :]
            if self._tail == _THOUGHT:
                self._tail, self._begun = None, True
            return ""
        if not self._start and character.isspace():
            return ""  # white space before an answer is no part of it
        self._start += character
        if self._start == _THINKING:
            self._start, self._tail = "", ""
            return ""
        if _THINKING.startswith(self._start):
            return ""
        self._begun = True
        start, self._start = self._start, ""
        return start
