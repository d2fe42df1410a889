"""A query and its passages as one text each, made after a template: what decoders that rerank were trained to read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer

from ragstack.errors import InputError
from ragstack.reranking.base import RerankCandidate, name_of
from ragstack.reranking.pairs import Pair, encoded, passage_too_long, query_too_long

_PLACEHOLDER = re.compile(r"\{(query|passage)\}")
_LEAST_ROOM = 16
"""Tokens that must remain for query and passage beside the template: half of it holds any character of a passage."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """``text`` holds ``{query}`` and ``{passage}`` once each; other braces stand for themselves.

    Special tokens are those that the text spells out (``<|im_start|>``); where it spells out none, the tokenizer adds
    its own. What a query or a passage spells like a special token is text. Raises ValueError for another ``text``.
    """

    text: str

    def __post_init__(self) -> None:
        if sorted(_PLACEHOLDER.findall(self.text)) != ["passage", "query"]:
            raise ValueError(f"expected {{query}} and {{passage}}, once each; got {self.text!r}")

    def filled(self, query: str, passage: str) -> str:
        """The text for one pair."""
        return _PLACEHOLDER.sub(lambda found: query if found[1] == "query" else passage, self.text)


@dataclass(frozen=True, slots=True)
class _Frame:
    """What stands around the passage for one query: token ids, and the text that is tokenised together with it."""

    before: list[int]
    left: str
    right: str
    after: list[int]


class PromptEncoder:
    """Makes the sequences of a template, for a tokenizer that this encoder may change.

    Every sequence holds the template and the query whole. A query may take half of what ``max_tokens`` leave beside
    the template. With ``windows`` a passage that does not fit is read in windows that share a quarter with their
    neighbours; without, it is an error. ``name`` is the model in messages.

    Raises InputError for ``max_tokens`` that the template alone takes.
    """

    def __init__(
        self, tokenizer: Tokenizer, template: PromptTemplate, max_tokens: int, name: str, *, windows: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._name = name
        self._windows = windows
        # A passage must not be able to end its own turn in a chat, and begin the answer.
        tokenizer.encode_special_tokens = True
        self._pieces = _split(template.text, tokenizer)
        self._adds_specials = len(self._pieces) == 1
        self._fixed = self._count(self._frame(""), "")
        self._room = max_tokens - self._fixed
        if self._room < _LEAST_ROOM:
            raise InputError(
                f"reranker.max_tokens: of the {max_tokens} tokens that {name} reads, its prompt takes {self._fixed}.",
                hint=f"Set it to {self._fixed + _LEAST_ROOM} or more, or shorten the instruction.",
            )

    def pairs(self, query: str, candidates: Sequence[RerankCandidate]) -> list[Pair]:
        """See :class:`ragstack.reranking.pairs.SequenceEncoder`."""
        encoded(self._tokenizer, "the query", [query])
        frame = self._frame(query)
        asked = self._count(frame, "") - self._fixed
        if asked * 2 > self._room:
            raise query_too_long(asked, self._name, self._room)
        passages = [candidate.chunk.embedded_text for candidate in candidates]
        found: list[Pair] = []
        for index, (passage, whole) in enumerate(zip(passages, self._encoded(frame, passages), strict=True)):
            if len(frame.before) + len(whole) + len(frame.after) <= self._max_tokens:
                found.append(_pair(index, candidates[index], frame, whole))
                continue
            spans = _spans(whole, len(frame.left), len(passage))
            windows = self._cut(frame, passage, spans) if self._windows else None
            if windows is None:
                raise passage_too_long(name_of(candidates[index].chunk), len(spans), self._name, self._room - asked)
            found += [_pair(index, candidates[index], frame, window) for window in windows]
        return found

    def _cut(self, frame: _Frame, passage: str, spans: Sequence[tuple[int, int]]) -> list[Encoding] | None:
        """The windows of a passage whose tokens cover ``spans`` of its characters; None where one token is too much.

        Each is a text of its own, read as it would be if it were the whole passage.
        """
        room = self._max_tokens - self._count(frame, "")
        found: list[Encoding] = []
        start = 0
        while True:
            end = min(start + room, len(spans))
            window = self._window(frame, passage, spans, start, end)
            # The first word of a window may be split another way than in the midst of the passage.
            while (excess := len(frame.before) + len(window) + len(frame.after) - self._max_tokens) > 0:
                if end == start + 1:
                    return None
                end = max(end - excess, start + 1)
                window = self._window(frame, passage, spans, start, end)
            found.append(window)
            if end == len(spans):
                return found
            start = max(end - room // 4, start + 1)

    def _window(self, frame: _Frame, passage: str, spans: Sequence[tuple[int, int]], start: int, end: int) -> Encoding:
        return self._encoded(frame, [passage[spans[start][0] : spans[end - 1][1]]])[0]

    def _count(self, frame: _Frame, passage: str) -> int:
        return len(frame.before) + len(self._encoded(frame, [passage])[0]) + len(frame.after)

    def _encoded(self, frame: _Frame, passages: Sequence[str]) -> list[Encoding]:
        texts = [frame.left + passage + frame.right for passage in passages]
        return encoded(self._tokenizer, "a passage", texts, specials=self._adds_specials)

    def _frame(self, query: str) -> _Frame:
        before: list[int] = []
        after: list[int] = []
        left = right = ""
        into = before
        for piece in self._pieces:
            if isinstance(piece, int):
                into.append(piece)
            elif "{passage}" in piece:
                left, right = (_with_query(part, query) for part in piece.split("{passage}"))
                into = after
            else:
                into += self._tokenizer.encode(_with_query(piece, query), add_special_tokens=False).ids
        return _Frame(before, left, right, after)


def _with_query(text: str, query: str) -> str:
    return query.join(text.split("{query}"))


def _pair(index: int, candidate: RerankCandidate, frame: _Frame, window: Encoding) -> Pair:
    ids = [*frame.before, *window.ids, *frame.after]
    return Pair(index, ids, [0] * len(ids), name_of(candidate.chunk))


def _spans(whole: Encoding, start: int, length: int) -> list[tuple[int, int]]:
    """Of each token that touches the passage, which of its characters it covers."""
    touching = [
        (max(a - start, 0), min(b - start, length)) for a, b in whole.offsets if b > start and a < start + length
    ]
    return [(a, b) for a, b in touching if b > a]


def _split(template: str, tokenizer: Tokenizer) -> list[str | int]:
    """The template as ids of the special tokens that it spells out, and the texts between them."""
    specials = {
        added.content: token_id for token_id, added in tokenizer.get_added_tokens_decoder().items() if added.special
    }
    if not specials:
        return [template]
    # The longest first: one may begin another.
    pattern = "|".join(re.escape(name) for name in sorted(specials, key=len, reverse=True))
    return [specials.get(part, part) for part in re.split(f"({pattern})", template) if part]
