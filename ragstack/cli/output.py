"""What every command prints with: errors, JSON, tables. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ragstack.errors import ConfigError, RagstackError

if TYPE_CHECKING:
    from rich.console import Console


def make_streams_tolerant() -> None:
    """Let stdout and stderr print any text: what the terminal's encoding lacks is shown as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def replace_missing_streams() -> None:
    """Give a process that was started with stdout or stderr closed somewhere to print to: nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open until the process ends


def drop_stdout() -> None:
    """After a broken pipe: send what is still buffered nowhere, so that the interpreter's exit is quiet."""
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        # stdout is no file (a test's buffer): nothing will be flushed to the broken pipe.
        return


def wants_debug() -> bool:
    """True when RAGSTACK_DEBUG asks for tracebacks."""
    return os.environ.get("RAGSTACK_DEBUG", "") not in ("", "0")


def uses_color(stream: TextIO) -> bool:
    """True for a terminal that takes colours, unless NO_COLOR is set."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 file", "2,000 files"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """``text`` with control characters shown as escapes, so that a file's name or content can't drive the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode("ascii") for c in text)


def print_json(value: Any) -> None:
    """Print one JSON document to stdout, indented. Strings that are not valid Unicode stay valid JSON escapes."""
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    # A lone surrogate (from an undecodable file name) would be written as itself; its escape is the same string.
    text = json.dumps(value, indent=2, ensure_ascii=not is_unicode, allow_nan=False)
    print(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def error_json(error: RagstackError) -> dict[str, Any]:
    """``{"error": {"type", "message", "hint"}}``, for a ConfigError with its ``problems``."""
    body: dict[str, Any] = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
    if isinstance(error, ConfigError):
        body["problems"] = [
            {
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "key": problem.key_path,
                "message": problem.message,
            }
            for problem in error.problems
        ]
    return {"error": body}


def print_error(error: RagstackError, *, as_json: bool = False) -> int:
    """Print message and hint (stderr), or the error as JSON (stdout); returns the exit status."""
    if wants_debug():
        traceback.print_exception(error)
    if as_json:
        print_json(error_json(error))
        return error.exit_status
    bold_red, cyan, reset = ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") if uses_color(sys.stderr) else ("", "", "")
    lines = [f"{bold_red}error:{reset} {printable(error.message)}"]
    if isinstance(error, ConfigError) and len(error.problems) > 1:
        lines = [f"{bold_red}error:{reset} the config has {len(error.problems)} mistakes"]
        lines += [f"  {printable(str(problem))}" for problem in error.problems]
    if error.hint:
        lines.append(f"{cyan}hint:{reset} {printable(error.hint)}")
    print("\n".join(lines), file=sys.stderr)
    return error.exit_status


def print_internal_error(error: Exception, *, as_json: bool = False) -> int:
    """One line for an exception that nobody foresaw; returns 1."""
    detail = printable(f"{type(error).__name__}: {error}".split("\n", 1)[0])
    hint = "This is a mistake in ragstack. Run again with RAGSTACK_DEBUG=1 for the traceback, and report it."
    if as_json:
        print_json({"error": {"type": "InternalError", "message": detail, "hint": hint}})
    else:
        print(f"internal error: {detail}. {hint}", file=sys.stderr)
    return 1


def console(*, stderr: bool = False) -> Console:
    """A rich console on stdout or stderr; markup and emoji codes in text are printed as they are."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to stdout; a column's name starting with ``>`` aligns it to the right.

    On a terminal long cells are folded to its width; otherwise each row is one line.
    """
    body = [[printable(cell) for cell in row] for row in rows]
    names = [name.removeprefix(">") for name in columns]
    if sys.stdout.isatty():
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, column in zip(names, columns, strict=True):
            table.add_column(name, justify="right" if column.startswith(">") else "left", overflow="fold")
        for row in body:
            table.add_row(*(Text(cell) for cell in row))
        console().print(table)
        return
    widths = [max(len(row[i]) for row in [names, *body]) for i in range(len(names))]
    for row in [names, *body]:
        cells = [
            cell.rjust(width) if column.startswith(">") else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        print("  ".join(cells).rstrip())
