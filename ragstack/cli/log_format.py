"""How log messages are written: lines for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any, Literal


class TextFormatter(logging.Formatter):
    """``LEVEL logger: message``, then the message's fields as ``name=value``; empty ones are left out."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it where there is one."""
        fields: dict[str, Any] = getattr(record, "fields", {})
        record.tail = "".join(
            f" {name}={value}" for name, value in fields.items() if name in ("caller", "request_id") and value != ""
        )
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """``timestamp`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, the fields, ``exception`` after a fault."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        at = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_formatter(format: Literal["text", "json"]) -> logging.Formatter:
    """The formatter that ``observability.log_format`` names."""
    return JsonFormatter() if format == "json" else TextFormatter("%(levelname)s %(name)s: %(message)s%(tail)s")
