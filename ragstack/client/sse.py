"""Server-sent events, read (WHATWG HTML, section 9.2.6). Pure; bytes may be cut anywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event; ``event`` is ``message`` where the server gave no name."""

    event: str
    data: str


@dataclass
class EventParser:
    """Takes bytes as they come and gives the events that they complete. What no empty line ended is no event."""

    _line: bytearray = field(default_factory=bytearray)
    _data: list[str] = field(default_factory=list)
    _event: str = ""
    _after_cr: bool = False
    _is_first: bool = True

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that ``chunk`` completes, in order."""
        if not chunk:
            return []
        start = 1 if self._after_cr and chunk.startswith(b"\n") else 0  # the second half of a line's end
        self._after_cr = chunk.endswith(b"\r")
        found = []
        for end in _LINE_END.finditer(chunk, start):
            self._line += chunk[start : end.start()]
            start = end.end()
            event = self._take(bytes(self._line))
            self._line.clear()
            if event is not None:
                found.append(event)
        self._line += chunk[start:]
        return found

    def _take(self, line: bytes) -> ServerEvent | None:
        text = line.decode("utf-8", "replace")
        if self._is_first:
            self._is_first = False
            text = text.removeprefix("\ufeff")
        if not text:
            event = ServerEvent(self._event or "message", "\n".join(self._data)) if self._data else None
            self._data, self._event = [], ""
            return event
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        return None
