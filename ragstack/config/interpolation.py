"""``${VAR}`` and ``${VAR:-default}`` in the values of a config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_REFERENCE = re.compile(r"\$(?P<escape>\$\{)|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Expanded:
    """``text`` with its variables put in; ``problems`` says what could not be."""

    text: str
    has_variables: bool
    problems: tuple[str, ...]


def expand(text: str, env: Mapping[str, str]) -> Expanded:
    """Put environment variables into one value.

    ``${VAR}`` must be set. ``${VAR:-default}`` takes the default when VAR is unset or empty, as a
    shell does; the default holds no ``}`` and is not expanded again. ``$${`` stands for ``${``. Any
    other ``$`` stands for itself.
    """
    problems: list[str] = []
    has_variables = False

    def replace(match: re.Match[str]) -> str:
        nonlocal has_variables
        if match["escape"]:
            return "${"
        has_variables = True
        name, separator, default = match["inside"].partition(":-")
        if not match["end"]:
            problems.append("'${' is never closed; write ${VAR}, or $${ for the two characters themselves")
        elif not _NAME.match(name):
            problems.append(f"'${{{name}}}' names no variable; write ${{VAR}} or ${{VAR:-default}}")
        elif separator:
            return env.get(name) or default
        elif name not in env:
            problems.append(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
        else:
            return env[name]
        return ""

    expanded = _REFERENCE.sub(replace, text)
    return Expanded(expanded, has_variables, tuple(problems))


def escape(text: str) -> str:
    """The text that :func:`expand` turns into ``text``, whatever the environment."""
    return text.replace("${", "$${")
