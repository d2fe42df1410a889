"""An answer without a language model: the sentences of the passages that answer best, word for word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragstack.generation.base import (
    AnswerEnd,
    AnswerSentence,
    AnswerStream,
    ContextPassage,
    Question,
    Quote,
    Turn,
    WeightedTokens,
)
from ragstack.generation.units import UnitKind, quotable_units
from ragstack.types import Float32Array, embedded_prefix

# Fitted on one half of the questions of XQuAD-en and of three long documents; docs/ranking.md has the other halves.
# A sentence is scored by how well its tokens cover the question's, and by what stands around it: a sentence that says
# "it" answers by what the one before it says.
_AROUND_WEIGHT = 0.6
_PASSAGE_WEIGHT = 0.1
# A title says what follows; a table or a block of code has so many words that some match any question.
_PENALTIES: dict[UnitKind, float] = {"sentence": 0.0, "title": 0.2, "table": 0.2, "code": 0.1}
# Sentences whose score is this far below the best one add noise rather than an answer, unless they cover parts of the
# question that those chosen do not.
_MARGIN = 0.12
_GAIN_WEIGHT = 1.0
# A sentence that leans on the one before it brings it along when the two together cover this much more.
_LEAN_GAIN = 0.03
_SAME_WORDS = 0.8
_LEANS = re.compile(
    r"[\"'“„«(\[]*(?:he|she|it|they|this|that|these|those|such|his|her|hers|its|their|theirs|both|the (?:former|latter)"
    r"|er|sie|es|dies\w{0,2}|jene\w?|ihr\w{0,2}|sein\w{0,2}|beide|él|ella|ellos|ellas|esto|esta|este|estos|estas|eso"
    r"|su|sus|ambos|il|elle|ils|elles|cela|cette|ce|ces|son|sa|ses|leur|leurs)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class _Sentence:
    """One unit of a passage. ``matches`` ``(q,)``: the best match of each of the question's tokens in it."""

    passage: ContextPassage
    number: int
    byte_start: int
    byte_end: int
    text: str
    kind: UnitKind
    matches: Float32Array
    coverage: float
    score: float

    @property
    def words(self) -> frozenset[str]:
        return frozenset(_WORD.findall(self.text.casefold()))

    def follows(self, other: _Sentence) -> bool:
        return self.passage is other.passage and self.number == other.number + 1


class ExtractiveGenerator:
    """Chooses up to ``max_sentences`` sentences; each is a quote with the marker of its passage.

    Tables and code are shown as they stand. ``support`` of a sentence is the idf-weighted share of the question's
    tokens that its own tokens match (MaxSim), clipped to [0, 1].
    """

    name = "extractive"

    def __init__(self, *, max_sentences: int = 5) -> None:
        self._max_sentences = max_sentences

    def stream(self, question: Question, passages: Sequence[ContextPassage]) -> AnswerStream:
        """The best sentences, in order of their passages and of their place in them."""
        sentences = [each for passage in passages for each in _scored(question.tokens, passage)]
        chosen = _chosen(sentences, question.tokens.idf, self._max_sentences)
        chosen.sort(key=lambda s: (s.passage.marker, s.byte_start))
        previous: _Sentence | None = None
        for each in chosen:
            is_block = each.kind in ("table", "code")
            lead = "" if previous is None else "\n\n" if is_block or previous.kind in ("table", "code") else " "
            quote = Quote(each.passage.marker, each.byte_start, each.byte_end)
            support = float(np.clip(each.coverage, 0.0, 1.0))
            text = each.text if is_block else " ".join(each.text.split())
            yield AnswerSentence(text, (quote,), support, verbatim=True, lead=lead)
            previous = each
        yield AnswerEnd()

    def condense(self, history: Sequence[Turn], text: str) -> str:
        """The question as it is: nothing here can word it anew."""
        return text

    def close(self) -> None:
        """Nothing is held."""


def _scored(question: WeightedTokens, passage: ContextPassage) -> list[_Sentence]:
    """The passage's units with their scores; byte ranges count the document's canonical text."""
    chunk = passage.chunk
    data = chunk.text.encode("utf-8")
    prefix = len(embedded_prefix(chunk.heading_path).encode("utf-8"))
    starts = passage.tokens.byte_spans[:, 0] - prefix
    similarity = question.vectors.vectors @ passage.tokens.vectors.T
    units = quotable_units(chunk.text)
    matches = [_matches(similarity, (starts >= unit.byte_start) & (starts < unit.byte_end)) for unit in units]
    found = []
    for number, unit in enumerate(units):
        coverage = _mean(matches[number], question.idf)
        around = np.max(matches[max(0, number - 1) : number + 2], axis=0)
        score = coverage + _AROUND_WEIGHT * _mean(around, question.idf) + _PASSAGE_WEIGHT * passage.score
        score -= _PENALTIES[unit.kind]
        text = data[unit.byte_start : unit.byte_end].decode("utf-8")
        start, end = chunk.byte_start + unit.byte_start, chunk.byte_start + unit.byte_end
        found.append(_Sentence(passage, number, start, end, text, unit.kind, matches[number], coverage, score))
    return found


def _chosen(sentences: Sequence[_Sentence], idf: Float32Array, most: int) -> list[_Sentence]:
    """The best sentence, then those that are close to it or add to what is covered, none that repeats another."""
    left = sorted(sentences, key=lambda s: (-s.score, s.passage.marker, s.byte_start))
    chosen: list[_Sentence] = []
    while left and len(chosen) < most:
        covered = np.max([each.matches for each in chosen], axis=0) if chosen else None
        best, best_worth = left[0], -np.inf
        for each in left:
            gain = 0.0 if covered is None else _mean(np.maximum(covered, each.matches) - covered, idf)
            worth = each.score + _GAIN_WEIGHT * gain
            if worth > best_worth:
                best, best_worth = each, worth
        if chosen and best_worth < chosen[0].score - _MARGIN:
            break
        left.remove(best)
        if any(_repeats(best, other) for other in chosen):
            continue
        chosen.append(best)
        before = next((each for each in left if best.follows(each)), None)
        if before is not None and len(chosen) < most and _leans_on(best, before, idf):
            left.remove(before)
            chosen.append(before)
    return chosen


def _leans_on(sentence: _Sentence, before: _Sentence, idf: Float32Array) -> bool:
    """Whether a sentence is understood by the one before it alone, and that one tells more of what was asked."""
    if sentence.kind != "sentence" or before.kind != "sentence" or not _LEANS.match(sentence.text):
        return False
    return _mean(np.maximum(sentence.matches, before.matches), idf) >= sentence.coverage + _LEAN_GAIN


def _repeats(sentence: _Sentence, other: _Sentence) -> bool:
    mine, others = sentence.words, other.words
    return not (mine or others) or len(mine & others) >= _SAME_WORDS * len(mine | others)


def _matches(similarity: Float32Array, inside: np.ndarray) -> Float32Array:
    """For each of the question's tokens its best match among some of a passage's; 0 without any."""
    if not inside.any():
        return np.zeros(len(similarity), dtype=np.float32)
    best: Float32Array = similarity[:, inside].max(axis=1)
    return best


def _mean(matches: Float32Array, idf: Float32Array) -> float:
    total = float(idf.sum())
    return float(matches @ idf) / total if total > 0 else 0.0
