"""JSON lines whose every mistake is told with file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragstack.errors import InputError


def read_bytes(path: Path, what: str) -> bytes:
    """The bytes of a file. Raises InputError that says what the file is for."""
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or error
        raise InputError(f"{path} ({what}) cannot be read: {reason}.", hint="Check --dataset.") from error


def read_lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers from 1. Raises InputError for a file that is not UTF-8 text."""
    try:
        # Only \n ends a line: JSON strings may hold U+2028, at which str.splitlines would cut.
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: {error}.", hint="Save it as UTF-8.") from error
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or error
        raise InputError(f"{path} ({what}) cannot be read: {reason}.", hint="Check --dataset.") from error


def read_objects(path: Path, what: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file, one a line, with line numbers. Raises InputError that names the first bad line."""
    for number, line in read_lines(path, what):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not JSON: {error}.", hint="Each line is one JSON object.") from error
        if not isinstance(value, dict):
            raise InputError(
                f"{path}:{number}: expected a JSON object, got {type(value).__name__}.",
                hint="Each line is one JSON object.",
            )
        yield number, value


def text_of(value: dict[str, Any], key: str, where: str, default: str | None = None) -> str:
    """The string under ``key``; null is as good as nothing. Raises InputError where it is missing (without a default)
    or something else.
    """
    found = value.get(key)
    if found is None:
        found = default
    if not isinstance(found, str):
        got = "nothing" if found is None else f"{type(found).__name__} {found!r:.60}"
        raise InputError(f"{where}: {key}: expected a string, got {got}.", hint="Correct this line of the data set.")
    return found


def id_of(value: dict[str, Any], key: str, where: str) -> str:
    """The id under ``key``: a string that is not empty, or a whole number."""
    found = value.get(key)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    text = text_of(value, key, where)
    if not text:
        raise InputError(f"{where}: {key} is empty.", hint="Each needs an id of its own.")
    return text
