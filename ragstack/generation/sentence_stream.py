"""Cuts an answer into sentences while it is written, and gives each the markers that stand under it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ragstack.generation.markers import Item, Letter, Mark
from ragstack.sentences import character_spans

# So many characters after a sentence's successor has begun, nothing that is still to come can move the boundary:
# the rules of ragstack.sentences look past 8 quotation marks or 7 characters of a list marker.
_LOOK_AHEAD = 12
# What decides whether a sentence ends lies within so many characters before its end.
_LOOK_BACK = 100
# Text without any end of a sentence is cut here, so that one answer can't make us wait or count for ever.
_MAX_SENTENCE = 4000
_ENDED = re.compile(r"[.!?…。！？][\"'”’»)\]*_]*\Z")
_LINE_END = re.compile(r"[^\S\r\n]*(?:\r\n|\r|\n)")


@dataclass(frozen=True, slots=True)
class MarkedSentence:
    """A sentence, the white space before it and the markers under it, in order.

    A fenced code block is one sentence. It ends with its line break where one followed, so that what is written
    behind it does not end up on the fence's line.
    """

    lead: str
    text: str
    marks: tuple[Mark, ...]


class SentenceStream:
    """Fed with letters and marks, gives sentences that are settled.

    A sentence is settled when the next one has begun and been read for a few characters: a marker that follows the
    full stop has come by then. What is given depends on the items alone, since each is looked at by itself.

    A marker belongs to the sentence that it stands in or behind. One at the beginning of a line belongs to the
    sentence that follows it there; alone on its line it belongs to the sentence before.
    """

    def __init__(self) -> None:
        self._text = ""  # from the end of the last settled sentence
        self._marks: list[tuple[int, Mark]] = []  # each with how much of the text comes before it
        self._fences: list[list[int]] = []  # start and end of each fenced block; the end of an open one is -1
        self._bare_lines: list[int] = []  # where marks stood on a line of their own
        self._checks: list[int] = []  # lengths of the text at which boundaries are looked for
        self._quiet = 0  # no sentence ends before this place, save near it
        self._may_end = False  # a sentence may have ended; the next letter decides when that is looked at

    @property
    def begun(self) -> int:
        """How many sentences have begun that are not settled."""
        return len(self._spans())

    def feed(self, item: Item) -> Iterator[MarkedSentence]:
        """Take one item; the sentences that it settles."""
        if isinstance(item, Mark):
            self._marks.append((len(self._text), item))
            return
        yield from self._append(item)

    def finish(self, *, whole: bool = True) -> Iterator[MarkedSentence]:
        """The text has ended: everything that is left.

        Not ``whole``, it broke off: the last sentence is left out, unless it has its full stop and markers behind it.
        """
        spans = self._spans()
        count = len(spans)
        if spans and not whole:
            end = spans[-1][1]
            is_complete = _ENDED.search(self._text[:end]) and any(at >= end for at, _ in self._marks)
            count -= not is_complete
        yield from self._settle(count)

    def _append(self, letter: Letter) -> Iterator[MarkedSentence]:
        self._follow_fence(letter)
        character, before = letter.character, self._text[-1:]
        self._text += character
        size = len(self._text)
        if not letter.in_fence:
            self._look_for_end(character, before, size)
        if self._checks and size >= self._checks[0]:
            del self._checks[0]
            if self._fences or len(character_spans(self._text[self._quiet :], has_case=True)) > 1:
                yield from self._settle(sum(start <= size - _LOOK_AHEAD for start, _ in self._spans()[1:]))
            else:
                self._quiet = max(0, size - _LOOK_BACK)
        elif size >= _MAX_SENTENCE and not self._fences and (character.isspace() or size >= 2 * _MAX_SENTENCE):
            yield from self._settle(max(1, len(self._spans()) - 1))

    def _look_for_end(self, character: str, before: str, size: int) -> None:
        if not character.isspace():
            if self._may_end:
                self._checks.append(size - 1 + _LOOK_AHEAD)
                self._may_end = False
        elif character in "\r\n" or (before and not before.isalnum() and not before.isspace()):
            self._may_end = True
        if ord(character) > 0x2000 and not character.isalnum():  # an ideographic stop needs no space after it
            self._may_end = True

    def _follow_fence(self, letter: Letter) -> None:
        is_open = bool(self._fences) and self._fences[-1][1] < 0
        if letter.in_fence and not is_open:
            line = max(self._text.rfind("\n"), self._text.rfind("\r")) + 1
            indent = len(self._text[line:]) - len(self._text[line:].lstrip(" \t>"))
            self._fences.append([line + indent, -1])
            self._may_end = False
        elif is_open and not letter.in_fence:
            self._fences[-1][1] = len(self._text)
            self._may_end = True

    def _spans(self) -> list[tuple[int, int]]:
        """The sentences of the text in hand, fenced blocks whole."""
        spans: list[tuple[int, int]] = []
        position = 0
        for start, end in self._fences:
            end = len(self._text.rstrip()) if end < 0 else end  # noqa: PLW2901 - an open block reaches to here
            spans += _shifted(self._text[position:start], position)
            spans.append((start, end))
            position = end
        return spans + _shifted(self._text[position:], position)

    def _settle(self, count: int) -> Iterator[MarkedSentence]:
        spans = self._spans()
        done = 0
        fences = {start for start, _ in self._fences}
        for number in range(min(count, len(spans))):
            start, end = spans[number]
            following = spans[number + 1][0] if number + 1 < len(spans) else len(self._text)
            mine: list[tuple[int, Mark]] = []
            others: list[tuple[int, Mark]] = []
            for at, mark in self._marks:
                is_mine = at <= following and self._belongs_before(at, end, following)
                (mine if is_mine else others).append((at, mark))
            self._marks = others
            text = self._text[start:end]
            if start in fences and mine:
                text += "\n" if self._text[end : end + 1] in ("\r", "\n") else ""
            yield MarkedSentence(self._lead(done, start), text, tuple(mark for _, mark in mine))
            done = start + len(text)
        self._cut(done)

    def _lead(self, done: int, start: int) -> str:
        """The white space before a sentence, without the lines on which markers stood alone."""
        lead = self._text[done:start]
        for at in sorted({at - done for at in self._bare_lines if done < at <= start}, reverse=True):
            line_end = _LINE_END.match(lead, at)
            if line_end is not None:
                lead = lead[:at] + lead[line_end.end() :]
        return lead

    def _belongs_before(self, at: int, end: int, following: int) -> bool:
        """Whether a mark, placed no later than ``following``, belongs to the sentence that ends at ``end``."""
        gap = self._text[end:at] if at > end else ""
        if "\n" not in gap and "\r" not in gap:
            return True
        rest = self._text[at:following]
        if following < len(self._text) and "\n" not in rest and "\r" not in rest:
            return False
        self._bare_lines.append(at)
        return True

    def _cut(self, done: int) -> None:
        self._text, self._quiet = self._text[done:], 0
        self._marks = [(max(0, at - done), mark) for at, mark in self._marks]
        self._fences = [[start - done, end if end < 0 else end - done] for start, end in self._fences if start >= done]
        self._bare_lines = [at - done for at in self._bare_lines if at > done]
        self._checks = [at - done for at in self._checks if at > done]


def _shifted(text: str, by: int) -> list[tuple[int, int]]:
    return [(start + by, end + by) for start, end in character_spans(text, has_case=True)]
