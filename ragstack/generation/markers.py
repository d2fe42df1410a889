"""Finds a model's markers in its answer, character by character.

A model cites passage 2 by writing ``[qzvk:2]``. The tag ``qzvk`` is drawn for each request among those that occur
nowhere in passages, question or conversation (:func:`draw_tag`). Documents were written before the tag was drawn and
can't hold it, neither by accident nor by intent: whatever carries the tag was written by the model itself. A ``[12]``
that the model copied out of a passage carries none, so it stays text; as a reader would take it for a citation of
passage 12, it is written ``(12)``, save in code. With an empty tag (``marker_form: plain``) ``[2]`` itself is the
marker, and the passages in the prompt have no ``[12]`` that could be copied (see :mod:`ragstack.generation.prompt`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ragstack.generation.markdown_code import CodeTracker, Place

# No vowels and no digits: a tag is no word, and its end is never taken for a number.
_LETTERS = "bcdfghjkmnpqrstvwxz"
_TAG_LENGTH = 4
_NONE = "none"
_MAX_DIGITS = 6
_SPACE = " \\t\u00a0\u202f\u2009"
_SEPARATORS = ",;，、；–—"
_NUMBERS = re.compile(r"(\d+)(?:\s*[-–—]\s*(\d+))?")
_NO_SPACE_BEFORE = ".,;:!?…)]}»”’\r\n"

_NUMBER = (r"\[", rf"[{_SPACE}]{{0,2}}", r"\d", rf"[\d{_SPACE}{_SEPARATORS}-]{{0,48}}", r"\]")


def _prefixes(atoms: Sequence[str]) -> str:
    """A pattern of everything that may still become a match of ``atoms``, one after the other."""
    pattern = ""
    for atom in reversed(atoms):
        pattern = f"(?:{atom}{pattern})?"
    return pattern


_NUMBER_BEGUN = re.compile(_prefixes(_NUMBER))


def draw_tag(texts: Iterable[str], draw: Callable[[str], str] = secrets.choice) -> str:
    """Letters that occur in none of ``texts``, in any case. ``draw`` chooses one letter of those given."""
    everything = "\n".join(texts).casefold()
    length = _TAG_LENGTH
    while True:
        for _ in range(8):
            tag = "".join(draw(_LETTERS) for _ in range(length))
            if tag not in everything:
                return tag
        length += 1  # a text that holds every tag of one length can't hold every longer one


@dataclass(frozen=True, slots=True)
class MarkerForm:
    """How markers are written. ``tag`` is empty for plain ones."""

    tag: str

    def marker(self, *numbers: int) -> str:
        """Markers as the model is asked to write them: ``[qzvk:1][qzvk:3]``."""
        prefix = f"{self.tag}:" if self.tag else ""
        return "".join(f"[{prefix}{number}]" for number in numbers)

    @property
    def no_answer(self) -> str:
        """What the model is asked to write when the passages do not answer."""
        return f"[{self.tag}:{_NONE}]" if self.tag else f"[{_NONE}]"


@dataclass(frozen=True, slots=True)
class Mark:
    """One marker: the numbers it names, how many parts of it name none, and whether it says "no answer"."""

    numbers: tuple[int, ...] = ()
    invalid: int = 0
    no_answer: bool = False


@dataclass(frozen=True, slots=True)
class Letter:
    """One character of the answer's text; ``in_fence`` inside a fenced code block, ``in_code`` in code at all."""

    character: str
    in_fence: bool = False
    in_code: bool = False


Item: TypeAlias = "Letter | Mark"


class MarkerScanner:
    """Fed with text cut anywhere, gives letters and marks; what it gives in all does not depend on the cuts.

    White space before a marker goes with it, so that ``400 days [qzvk:1].`` reads ``400 days.``
    """

    def __init__(self, form: MarkerForm) -> None:
        self._patterns = _Patterns(form.tag)
        self._code = CodeTracker()
        self._held: list[Place] = []  # may become a marker
        self._previous = ""
        self._joiner = _Joiner()
        self._guard = _NumberGuard()

    def feed(self, text: str) -> Iterator[Item]:
        """The items that are settled by ``text``."""
        for character in text:
            yield from self._joined(self._code.see(character))

    def finish(self) -> Iterator[Item]:
        """What was still held when the text ended."""
        yield from self._joined(self._code.finish())
        while self._held:
            yield from self._tidied(self._give_up())
        for item in self._joiner.finish():
            yield from self._guard.take(item)
        yield from self._guard.finish()

    def _joined(self, places: Iterator[Place]) -> Iterator[Item]:
        for place in places:
            yield from self._tidied(self._take(place))

    def _tidied(self, items: Iterator[Item]) -> Iterator[Item]:
        for item in items:
            for joined in self._joiner.take(item):
                yield from self._guard.take(joined)

    def _take(self, place: Place) -> Iterator[Item]:
        patterns = self._patterns
        if not self._held and not patterns.may_begin(place, self._previous):
            yield self._letter(place)
            return
        text = "".join(each.character for each in self._held) + place.character
        if not patterns.viable.fullmatch(text):
            yield from self._give_up()
            yield from self._take(place)
            return
        self._held.append(place)
        if patterns.closed.fullmatch(text):
            yield from self._give_up()

    def _give_up(self) -> Iterator[Item]:
        """Nothing more belongs to what is held: it is a marker, or its first character is text."""
        held, self._held = self._held, []
        text = "".join(place.character for place in held)
        marker = self._patterns.marker.fullmatch(text)
        if marker is not None:
            # What follows the last number of a marker that was never closed is text again.
            end = len(text) if self._patterns.closed.fullmatch(text) else marker.start("body") + _used(marker["body"])
            self._previous = text[end - 1]
            yield _read_mark(marker["body"][: end - marker.start("body")])
            for place in held[end:]:
                yield from self._take(place)
            return
        if self._patterns.echo.fullmatch(text):
            return  # a weak model goes on as the prompt did, delimiters and all
        yield self._letter(held[0])
        for place in held[1:]:
            yield from self._take(place)

    def _letter(self, place: Place) -> Letter:
        self._previous = place.character
        return Letter(place.character, place.in_fence, place.in_code)


class _Patterns:
    """What a marker looks like, for one tag. Models bend the form a little, which the tag makes safe to allow."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        echo = ["<", "/?", *"passage", " ", *tag, r"[ \d]{0,12}", ">"]
        if tag:
            opener, closer, gap = r"[\[(⟦【{<⟨［]", r"[\])⟧】}>⟩］]", rf"[{_SPACE}]{{0,2}}"
            inside = rf"[\d{_SPACE}{_SEPARATORS}:：#&{_NONE}{tag}-]{{0,48}}"
            forms: list[Sequence[str]] = [
                [opener, gap, *tag, inside, closer],
                [opener, opener, gap, *tag, inside, closer, closer],
                [*tag, ":", rf"\d{{1,{_MAX_DIGITS}}}"],
                echo,
            ]
            closed = [*forms[:2], echo]
            rest = rf"(?={inside}(?:{closer}{{2}})?\Z)"  # of two brackets, one that is closed is a marker by itself
            marker = rf"(?:{opener}{gap}{tag}(?={inside}{closer}?\Z)|{opener}{{2}}{gap}{tag}{rest}|{tag}(?=:\d+\Z))"
            marker += "(?P<body>.*)"
        else:
            none = [r"\[", rf"[{_SPACE}]{{0,2}}", *_NONE, rf"[{_SPACE}]{{0,2}}", r"\]"]
            forms = [_NUMBER, none, [r"[\[(]", *_NUMBER, r"[\])]"]]
            closed = forms
            marker = rf"(?=(?:{'|'.join(''.join(atoms) for atoms in forms)})\Z)(?P<body>.*)"
        # Without a tag to tell them apart, Python's "[None]" must not end an answer.
        flags = re.DOTALL | (re.IGNORECASE if tag else 0)
        self.viable = re.compile("|".join(map(_prefixes, forms)), flags)
        self.closed = re.compile("|".join("".join(atoms) for atoms in closed), flags)
        self.marker = re.compile(marker, flags)
        self.echo = re.compile("".join(echo) if tag else r"(?!)", flags)

    def may_begin(self, place: Place, previous: str) -> bool:
        """Whether a marker may begin here: not in the middle of a word, and a plain one not in code."""
        if not self._tag:
            return place.character in "[(" and not place.in_code
        begins = self.viable.fullmatch(place.character) is not None
        return begins and not (place.character.isalpha() and previous.isalnum())


def _used(body: str) -> int:
    """How much of the body of an unclosed marker belongs to it: up to its last number, or all where it has none."""
    numbers = list(_NUMBERS.finditer(body))
    return numbers[-1].end() if numbers else len(body)


def _read_mark(body: str) -> Mark:
    if _NONE in body.lower() and not _NUMBERS.search(body):
        return Mark(no_answer=True)
    numbers: list[int] = []
    invalid = 0
    for first, last in _NUMBERS.findall(body):
        if len(first) > _MAX_DIGITS or len(last) > _MAX_DIGITS:
            invalid += 1
            continue
        start, end = int(first), int(last or first)
        # "1-3" names three passages; a wide range is no list of passages.
        numbers += range(start, end + 1) if start <= end < start + 100 else [start, end]
    return Mark(tuple(numbers), invalid or int(not numbers))


class _NumberGuard:
    """Writes ``(12)`` for ``[12]`` where it is neither marker nor code: a reader takes it for a citation.

    It comes last, since what is taken out of a text may leave brackets around a number that had none.
    """

    def __init__(self) -> None:
        self._held: list[Item] = []

    def take(self, item: Item) -> Iterator[Item]:
        if not self._held:
            if isinstance(item, Letter) and item.character == "[" and not item.in_code:
                self._held.append(item)
            else:
                yield item
            return
        held = [*self._held, item]
        if not _NUMBER_BEGUN.fullmatch("".join(each.character for each in held if isinstance(each, Letter))):
            yield from self._give_up()
            yield from self.take(item)
            return
        self._held = held
        if isinstance(item, Letter) and item.character == "]":
            self._held = []
            yield Letter("(")
            yield from held[1:-1]
            yield Letter(")")

    def finish(self) -> Iterator[Item]:
        while self._held:
            yield from self._give_up()

    def _give_up(self) -> Iterator[Item]:
        first, *rest = self._held
        self._held = []
        yield first
        for item in rest:
            yield from self.take(item)


class _Joiner:
    """Joins the text around markers that were taken out: no double spaces, none before a full stop."""

    def __init__(self) -> None:
        self._spaces: list[Letter] = []  # before the next character, or swallowed by a marker
        self._comma: Letter | None = None  # between two markers it belongs to them
        self._after_mark = self._had_space = False
        self._last = "\n"

    def take(self, item: Item) -> Iterator[Item]:
        if isinstance(item, Mark):
            self._had_space = self._had_space or bool(self._spaces)
            self._spaces, self._comma, self._after_mark = [], None, True
            yield item
        elif item.character in " \t" and not item.in_fence:
            self._spaces.append(item)
        elif self._after_mark and self._comma is None and item.character in ",;":
            self._spaces, self._comma = [], item
        else:
            yield from self._before(item.character)
            yield item
            self._spaces, self._comma = [], None
            self._after_mark = self._had_space = False
            self._last = item.character

    def finish(self) -> Iterator[Item]:
        if self._comma is not None:
            yield self._comma

    def _before(self, following: str) -> Iterator[Letter]:
        if self._comma is not None:
            yield self._comma
        elif self._after_mark:
            if self._last in "\r\n" or following in _NO_SPACE_BEFORE:
                return
            if not self._spaces and following.isalnum() and (self._had_space or self._last in ".!?"):
                yield Letter(" ")
        yield from self._spaces
