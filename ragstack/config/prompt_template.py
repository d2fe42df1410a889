"""Templates of prompts: ``{name}`` stands for a value, ``{{`` and ``}}`` for the braces themselves."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_PART = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")


def placeholders(template: str) -> list[str]:
    """The names that stand in a template, in order. Braces around anything but a name are text."""
    return [part[1] for part in _PART.finditer(template) if part[1] is not None]


def check_template(template: str, known: Collection[str], required: Collection[str]) -> str:
    """The template itself. Raises ValueError for a placeholder that is not known, or one that is missing."""
    found = placeholders(template)
    listing = ", ".join(f"{{{name}}}" for name in known)
    for name in found:
        if name not in known:
            raise ValueError(
                f"the placeholder {{{name}}} is not known here; known: {listing}. Braces themselves are {{{{ and }}}}"
            )
    missing = [f"{{{name}}}" for name in required if name not in found]
    if missing:
        raise ValueError(f"the placeholder {' and '.join(missing)} is missing; known: {listing}")
    return template


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its values put in, in one pass: braces inside a value stay as they are."""

    def value(part: re.Match[str]) -> str:
        return values[part[1]] if part[1] is not None else part[0][0]

    return _PART.sub(value, template)
