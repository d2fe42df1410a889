"""Where code is in Markdown that arrives character by character."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A character and where it stands: in a fenced block, in code at all (a block, or a span within a line)."""

    character: str
    in_fence: bool
    in_code: bool


@dataclass
class CodeTracker:
    """Follows fenced blocks (``` and ~~~) and code spans. A span that its line does not close was no code."""

    _fence: str = ""  # the run that opened the block
    _span: int = 0  # length of the run of backticks that opened the span
    _run: str = ""
    _run_begins_line: bool = False
    _line_is_blank: bool = True

    def see(self, character: str) -> Place:
        """Take one more character."""
        if self._run and character != self._run[0]:
            self._end_run(character)
        if character in "`~":
            if not self._run:
                self._run_begins_line = self._line_is_blank
            self._run += character
        if character in "\r\n":
            self._line_is_blank, self._span = True, 0
        elif character not in " \t>":
            self._line_is_blank = False
        return Place(character, bool(self._fence), bool(self._fence or self._span))

    def _end_run(self, following: str) -> None:
        run, self._run = self._run, ""
        if self._fence:
            if self._run_begins_line and run.startswith(self._fence) and following.isspace():
                self._fence = ""
        elif self._run_begins_line and len(run) >= 3:
            self._fence = run
        elif run[0] == "`":
            self._span = 0 if self._span == len(run) else self._span or len(run)
