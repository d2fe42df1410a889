"""An answer as Python code reads it, and as a notebook shows it."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

from ragstack.citations.chain import AnswerError, Chain, Citation, PassageLink

# Colours are see-through or those of the page, so that they are read on light and dark ones alike.
_STYLE = (
    "<style>.ragstack-result{max-width:48em;line-height:1.45;overflow-wrap:anywhere}.ragstack-result blockquote{"
    "margin:.4em 0;padding:.2em .8em;border-left:3px solid #8888;white-space:pre-wrap}.ragstack-result mark{"
    "background:#f5b80059;color:inherit;border-radius:2px}.ragstack-result .place{font-size:.85em;opacity:.8}"
    ".ragstack-result .error{padding:.2em .8em;border-left:3px solid #e5484d;background:#e5484d1f}</style>"
)


@dataclass(frozen=True, repr=False)
class QueryResult:
    """One answered question. ``chain`` is everything; the properties are what is read most."""

    chain: Chain

    @property
    def text(self) -> str:
        """The answer with its markers; empty when the corpus does not answer or no answer was asked for."""
        return "" if self.chain.answer is None else self.chain.answer.text

    @property
    def citations(self) -> tuple[Citation, ...]:
        """What the answer rests on, in the order of its markers."""
        return () if self.chain.answer is None else self.chain.answer.citations

    @property
    def passages(self) -> tuple[PassageLink, ...]:
        """The reranked passages, best first."""
        return self.chain.passages

    @property
    def error(self) -> AnswerError | None:
        """Why the language model's answer broke off, or None."""
        return None if self.chain.answer is None else self.chain.answer.error

    def to_json(self) -> dict[str, Any]:
        """The chain in JSON types, as ``ragstack query --json`` prints it."""
        return self.chain.to_json()

    def _repr_html_(self) -> str:
        """The answer and its sources with the quoted bytes marked, for notebooks."""
        parts = [_STYLE, '<div class="ragstack-result">', f"<p>{self._shown_text()}</p>"]
        if self.error is not None:
            told = html.escape(f"{self.error.message} {self.error.hint}".rstrip(), quote=False)
            what = "The answer broke off." if self.text else "There is no answer."
            parts.append(f'<p class="error"><b>{what}</b> {told}</p>')
        by_rank: dict[int, list[Citation]] = {}
        for citation in self.citations:
            by_rank.setdefault(citation.passage_rank, []).append(citation)
        cited = [passage for passage in self.passages if passage.rank in by_rank] or self.passages
        for passage in sorted(cited, key=lambda p: by_rank[p.rank][0].marker if p.rank in by_rank else p.rank):
            quotes = by_rank.get(passage.rank, [])
            label = f"[{quotes[0].marker}]" if quotes else f"{passage.rank}."
            place = quotes[0].place if quotes else passage.place
            where = html.escape(f"{place.source_id}:{place.line_start}", quote=False)
            spans = [quote.place for quote in quotes] or [place]
            ranges = ", ".join(f"{span.byte_start}–{span.byte_end}" for span in spans)
            of_version = f"bytes {ranges} of version {place.source_version[:12]}"
            parts.append(f'<div><b>{label}</b> <span class="place">{where} · {of_version}</span>')
            parts.append(f"<blockquote>{_marked(passage, quotes)}</blockquote></div>")
        return "".join([*parts, "</div>"])

    def __repr__(self) -> str:
        kept = f"{len(self.citations)} citations, {len(self.passages)} passages"
        return f"<QueryResult {self.text!r}, {kept}>"

    def _shown_text(self) -> str:
        if self.text:
            return html.escape(self.text, quote=False).replace("\n", "<br>")
        if self.error is not None:
            return ""
        if self.chain.answer is not None:
            return "<i>Nothing in the corpus answers this.</i>"
        return "" if self.passages else "<i>Nothing in the corpus fits this.</i>"


def _marked(passage: PassageLink, quotes: list[Citation]) -> str:
    """The passage's text, escaped, with the quoted byte ranges inside ``<mark>``."""
    data = passage.place.text.encode("utf-8")
    shown, position = [], 0
    for place in sorted((quote.place for quote in quotes), key=lambda p: (p.byte_start, p.byte_end)):
        start = max(place.byte_start - passage.place.byte_start, position)
        end = max(place.byte_end - passage.place.byte_start, start)
        shown += [html.escape(data[position:start].decode(), quote=False)]
        shown += [f"<mark>{html.escape(data[start:end].decode(), quote=False)}</mark>"] if end > start else []
        position = end
    return "".join([*shown, html.escape(data[position:].decode(), quote=False)])
