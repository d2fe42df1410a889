"""From a generator's sentences to the answer of the chain: markers numbered, quotes placed, as they arrive."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.citations.answer_text import with_markers
from ragstack.citations.chain import AnswerError, AnswerLink, Citation, SentenceLink, citation_id
from ragstack.generation.base import AnswerEnd, AnswerSentence, Quote
from ragstack.retrieval.chain_builder import OpenPassage
from ragstack.retrieval.events import SentenceWritten


class AnswerWriter:
    """Takes the sentences of one answer in order.

    Sources are numbered from 1 in the order in which the answer first rests on them.
    """

    def __init__(self, generator: str, passages: Sequence[OpenPassage]) -> None:
        self._generator = generator
        self._passages = passages
        self._numbers: dict[int, int] = {}
        self._citations: dict[str, Citation] = {}
        self._sentences: list[SentenceLink] = []
        self._parts: list[str] = []
        self._length_bytes = 0

    def add(self, sentence: AnswerSentence) -> SentenceWritten:
        """The sentence with its place in the answer, the citations that are new, and the text that it adds."""
        cited = [self._citation(quote) for quote in sentence.quotes]
        new = []
        for citation in cited:
            if citation.citation_id not in self._citations:
                self._citations[citation.citation_id] = citation
                new.append(citation)
        ids = tuple(dict.fromkeys(citation.citation_id for citation in cited))
        lead = sentence.lead if self._parts else ""
        start = self._length_bytes + len(lead.encode("utf-8"))
        link = SentenceLink(
            byte_start=start,
            byte_end=start + len(sentence.text.encode("utf-8")),
            text=sentence.text,
            citation_ids=ids,
            support=sentence.support,
            verbatim=sentence.verbatim,
        )
        delta = lead + with_markers(sentence.text, [self._citations[i].marker for i in ids])
        self._sentences.append(link)
        self._parts.append(delta)
        self._length_bytes += len(delta.encode("utf-8"))
        return SentenceWritten(link, tuple(new), delta)

    def finish(self, end: AnswerEnd) -> AnswerLink:
        """The whole answer."""
        return AnswerLink(
            generator=self._generator,
            text="".join(self._parts),
            sentences=tuple(self._sentences),
            citations=tuple(self._citations.values()),
            dropped_markers=end.dropped_markers,
            dropped_quotes=end.dropped_quotes,
            left_out=end.left_out,
            prompt_tokens=end.prompt_tokens,
            completion_tokens=end.completion_tokens,
            truncated=end.truncated,
            error=None if end.error is None else AnswerError(message=end.error.message, hint=end.error.hint),
        )

    def _citation(self, quote: Quote) -> Citation:
        number = self._numbers.setdefault(quote.marker, len(self._numbers) + 1)
        place = self._passages[quote.marker - 1].place(quote.byte_start, quote.byte_end)
        identity = citation_id(place.source_version, place.parser, place.record, place.byte_start, place.byte_end)
        return Citation(citation_id=identity, marker=number, passage_rank=quote.marker, place=place)
