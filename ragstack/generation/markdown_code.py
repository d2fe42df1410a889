"""Where code is in Markdown that arrives character by character."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Place:
    """A character and where it stands: in a fenced block, in code at all (a block, or a span within a line)."""

    character: str
    in_fence: bool
    in_code: bool


_MAX_SPAN = 400  # characters; a longer span is taken for text


@dataclass
class CodeTracker:
    """Follows fenced blocks (``` and ~~~) and code spans.

    Whether a backtick begins a code span shows only where one ends it: what follows it is held until then, or until
    the line ends, and then it was no code.
    """

    _fence: str = ""  # the run that opened the block
    _span: int = 0  # length of the run of backticks that may have opened a span
    _run: str = ""
    _run_begins_line: bool = False
    _line_is_blank: bool = True
    _held: list[str] = field(default_factory=list)

    def see(self, character: str) -> Iterator[Place]:
        """Take one more character; the places that are settled by it."""
        if self._run and character != self._run[0]:
            yield from self._end_run(character)
        if character in "`~":
            if not self._run:
                self._run_begins_line = self._line_is_blank
            self._run += character
        if character in "\r\n":
            self._line_is_blank = True
            yield from self._end_span(is_code=False)
        elif character not in " \t>":
            self._line_is_blank = False
        if self._span:
            self._held.append(character)
            if len(self._held) > _MAX_SPAN:
                yield from self._end_span(is_code=False)
        else:
            yield Place(character, bool(self._fence), bool(self._fence))

    def finish(self) -> Iterator[Place]:
        """What was still held when the text ended."""
        yield from self._end_span(is_code=self._run == "`" * self._span)

    def _end_run(self, following: str) -> Iterator[Place]:
        run, self._run = self._run, ""
        if self._fence:
            if self._run_begins_line and run.startswith(self._fence) and following.isspace():
                self._fence = ""
        elif self._run_begins_line and len(run) >= 3:
            yield from self._end_span(is_code=False)
            self._fence = run
        elif run[0] == "`" and self._span == len(run):
            yield from self._end_span(is_code=True)
        elif run[0] == "`" and not self._span:
            self._span = len(run)

    def _end_span(self, *, is_code: bool) -> Iterator[Place]:
        held, self._held, self._span = self._held, [], 0
        for character in held:
            yield Place(character, False, is_code)
