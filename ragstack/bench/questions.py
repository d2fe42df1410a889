"""A user's own questions for ``bench query``: a text file of one a line, or JSON lines."""

from __future__ import annotations

import json
import random
from pathlib import Path

from ragstack.errors import InputError

_HINT = "One question a line; or, in a .jsonl file, objects with a question: the file of ragstack eval will do."


def read_bench_questions(path: Path, seed: int) -> list[str]:
    """The questions of a file, shuffled by ``seed``. Raises InputError that names the first line that is none."""
    try:
        # Only \n ends a line: JSON strings may hold U+2028, at which str.splitlines would cut.
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or error
        raise InputError(f"--questions {path}: {reason}.", hint=_HINT) from error
    except UnicodeDecodeError as error:
        raise InputError(f"--questions {path}: not UTF-8 text: {error}.", hint="Save it as UTF-8.") from error
    is_json = path.suffix == ".jsonl"
    found = [
        _question_of(line, f"{path}:{number}") if is_json else line.strip()
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not found:
        raise InputError(f"--questions {path}: the file holds no question.", hint=_HINT)
    random.Random(f"{seed} questions").shuffle(found)
    return found


def _question_of(line: str, where: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}.", hint=_HINT) from error
    question = value.get("question") if isinstance(value, dict) else None
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"{where}: expected an object with a question.", hint=_HINT)
    return question
