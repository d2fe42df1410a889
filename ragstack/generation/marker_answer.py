"""Reads an answer with markers while it arrives: sentences, each with the parts of passages that bear it out."""

from __future__ import annotations

from collections.abc import Iterator

from ragstack.generation.answer import Ending
from ragstack.generation.base import AnswerSentence
from ragstack.generation.deltas import DeltaCleaner
from ragstack.generation.evidence import Evidence
from ragstack.generation.markers import Item, Mark, MarkerForm, MarkerScanner
from ragstack.generation.sentence_stream import MarkedSentence, SentenceStream


class MarkerAnswer:
    """An :class:`ragstack.generation.answer.AnswerReader` of text with markers.

    A marker that names no passage in context is dropped and counted. A sentence that says "no answer" is left out;
    when it is the first, the answer is empty and ``is_over``.
    """

    def __init__(self, form: MarkerForm, evidence: Evidence) -> None:
        self.dropped_markers = 0
        self.dropped_quotes = 0
        self.is_over = False
        self._evidence = evidence
        self._cleaner = DeltaCleaner()
        self._scanner = MarkerScanner(form)
        self._sentences = SentenceStream()
        self._is_first = True

    def feed(self, delta: str) -> Iterator[AnswerSentence]:
        """Take one more piece of the answer."""
        yield from self._read(self._scanner.feed(self._cleaner.feed(delta)))

    def finish(self, ending: Ending) -> Iterator[AnswerSentence]:
        """The answer has ended. After a fault, a sentence that may lack its end or its markers is left out."""
        if self.is_over:
            return
        whole = ending != "broken"
        if whole:
            yield from self._read(self._scanner.feed(self._cleaner.finish()))
            yield from self._read(self._scanner.finish())
        if not self.is_over:
            for sentence in self._sentences.finish(whole=whole):
                yield from self._resolved(sentence)

    def _read(self, items: Iterator[Item]) -> Iterator[AnswerSentence]:
        for item in items:
            if self.is_over:
                return
            for sentence in self._sentences.feed(item):
                yield from self._resolved(sentence)
            if isinstance(item, Mark) and item.no_answer and self._is_first and self._sentences.begun <= 1:
                self.is_over = True

    def _resolved(self, sentence: MarkedSentence) -> Iterator[AnswerSentence]:
        if any(mark.no_answer for mark in sentence.marks):
            return
        named = [number for mark in sentence.marks for number in mark.numbers]
        known = [number for number in named if number in self._evidence.passages]
        self.dropped_markers += len(named) - len(known) + sum(mark.invalid for mark in sentence.marks)
        lead = "" if self._is_first else sentence.lead
        self._is_first = False
        yield self._evidence.sentence(sentence.text, tuple(dict.fromkeys(known)), lead)
