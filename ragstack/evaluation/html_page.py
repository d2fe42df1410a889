"""The frame of reports as HTML files: one page that needs no network and no script, tables, notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources


def page(title: str, body: Iterable[str]) -> str:
    """The whole document; empty parts of ``body`` are left out."""
    style = (resources.files("ragstack.evaluation") / "page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main></body></html>\n"
    )


def notes(lines: Iterable[str]) -> str:
    """Paragraphs that stand out, each once."""
    return "".join(f'<p class="note">{escape(note)}</p>' for note in dict.fromkeys(lines))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table; a column's name starting with ``>`` aligns it to the right, as in ``cli/output.py``."""
    kinds = [' class="n"' if column.startswith(">") else "" for column in columns]
    head = "".join(
        f'<th scope="col"{kind}>{escape(column.removeprefix(">"))}</th>'
        for column, kind in zip(columns, kinds, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption or columns[0])}">'
        f"<table>{told}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
