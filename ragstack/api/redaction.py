"""API keys are taken out of whatever is written: logs, errors, the audit log.

A key has a form of its own (``rsk_<id>_<secret>``), so it is known wherever it stands: in a URL, in a header, in a
body that is quoted in an error. What is left names the key without giving it away.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Whatever follows the prefix is taken for a secret, also when it was cut short, quoted or percent-encoded.
_KEY = re.compile(r"(rsk(?:_|%5[Ff])[0-9A-Za-z]{0,32})(?:_|%5[Ff])[0-9A-Za-z_%-]+")


def redacted(text: str) -> str:
    """``text`` with every API key in it cut down to its id."""
    return _KEY.sub(r"\1_***", text) if "rsk" in text else text


def holds_key(text: str) -> bool:
    """True when something in ``text`` looks like an API key."""
    return "rsk" in text and _KEY.search(text) is not None


class RedactingFilter(logging.Filter):
    """Takes API keys out of log records, tracebacks included. For handlers: a logger's filter misses its children."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True; the record is changed where it holds a key."""
        # Arguments stay apart: uvicorn's formatter of the access log reads them one by one.
        if isinstance(record.args, tuple):
            record.args = tuple(_without_key(argument) for argument in record.args)
        elif record.args:
            record.args = {name: _without_key(value) for name, value in record.args.items()}
        if holds_key(record.getMessage()):
            record.msg, record.args = redacted(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            text = logging.Formatter().formatException(record.exc_info)
            if holds_key(text):
                record.exc_text, record.exc_info = redacted(text), None
        for name, value in record.__dict__.items():
            if isinstance(value, str) and holds_key(value):
                record.__dict__[name] = redacted(value)
        return True


def _without_key(argument: object) -> object:
    if isinstance(argument, (int, float)) or not holds_key(str(argument)):
        return argument
    return redacted(str(argument))


_GUARD = threading.Lock()
_BEFORE: list[Callable[..., logging.LogRecord]] = []
"""What made log records before the first server of this process began, once for each server that runs."""


@contextmanager
def keys_kept_out_of_logs() -> Iterator[None]:
    """A block in which no log record of this process is made with an API key in it, whichever logger makes it."""
    with _GUARD:
        if not _BEFORE:
            _BEFORE.append(logging.getLogRecordFactory())
            logging.setLogRecordFactory(_redacting)
        else:
            _BEFORE.append(_BEFORE[0])
    try:
        yield
    finally:
        with _GUARD:
            before = _BEFORE.pop()
            if not _BEFORE:
                logging.setLogRecordFactory(before)


def _redacting(*args: object, **options: object) -> logging.LogRecord:
    before: Callable[..., logging.LogRecord] = _BEFORE[0] if _BEFORE else logging.LogRecord
    record = before(*args, **options)
    RedactingFilter().filter(record)
    return record
