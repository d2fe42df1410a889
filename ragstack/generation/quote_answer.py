"""Reads an answer in JSON while it arrives: claims, each with the words that it says it copied from passages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ragstack.errors import GenerationError
from ragstack.generation.answer import Ending
from ragstack.generation.base import AnswerSentence, Quote
from ragstack.generation.deltas import DeltaCleaner
from ragstack.generation.evidence import Evidence
from ragstack.generation.markers import Letter, MarkerForm, MarkerScanner

CLAIMS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "claims": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "quotes": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"passage": {"type": "integer"}, "quote": {"type": "string"}},
                            "required": ["passage", "quote"],
                            "additionalProperties": False,
                        },
                    },
                },
                "required": ["text", "quotes"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["claims"],
    "additionalProperties": False,
}
"""What ``response_format: json_schema`` asks for."""

_MAX_PREAMBLE = 2000
_MAX_CLAIM = 100_000
_MAX_DEPTH = 16
_MAX_QUOTES = 32
_LIST_ITEM = re.compile(r"(?:[-*+•]|\d{1,3}[.)])\s")
_HINT = "Set generator.structured_output to what this server can do, or generator.mode: markers."


class QuoteAnswer:
    """An :class:`ragstack.generation.answer.AnswerReader` of JSON; each claim is a sentence as soon as it is whole.

    A quote that is not found in its passage is dropped and counted, and so is one whose number names no passage; the
    claim stays. A claim without text is left out.
    """

    def __init__(self, form: MarkerForm, evidence: Evidence) -> None:
        self.dropped_markers = 0
        self.dropped_quotes = 0
        self.is_over = False
        self._form = form
        self._evidence = evidence
        self._cleaner = DeltaCleaner()
        self._claims = _ClaimScanner()
        self._is_first = True

    def feed(self, delta: str) -> Iterator[AnswerSentence]:
        """Take one more piece of the answer."""
        for claim in self._claims.feed(self._cleaner.feed(delta)):
            yield from self._sentence(claim)
        self.is_over = self._claims.is_over

    def finish(self, ending: Ending) -> Iterator[AnswerSentence]:
        """The answer has ended; when it is whole the JSON must have ended too."""
        if ending == "whole":
            yield from self.feed(self._cleaner.finish())
            self._claims.finish()

    def _sentence(self, claim: Any) -> Iterator[AnswerSentence]:
        text = self._plain_text(claim.get("text"))
        asked = claim.get("quotes")
        quotes = self._quotes(asked if isinstance(asked, list) else [])
        if not text:
            return
        support = self._evidence.support(self._evidence.tokens(text), quotes) if quotes else 0.0
        is_verbatim = any(self._evidence.is_verbatim(text, quote) for quote in quotes)
        lead = "" if self._is_first else "\n" if _LIST_ITEM.match(text) else " "
        self._is_first = False
        yield AnswerSentence(text, quotes, support, is_verbatim, lead)

    def _quotes(self, asked: list[Any]) -> tuple[Quote, ...]:
        found: list[Quote] = []
        for each in asked[:_MAX_QUOTES]:
            number, words = (each.get("passage"), each.get("quote")) if isinstance(each, dict) else (None, None)
            if not isinstance(number, int) or isinstance(number, bool) or number not in self._evidence.passages:
                self.dropped_markers += 1
                continue
            places = self._evidence.passages[number].find(words) if isinstance(words, str) else []
            self.dropped_quotes += not places
            found += places
        self.dropped_quotes += len(asked[_MAX_QUOTES:])
        return tuple(dict.fromkeys(found))

    def _plain_text(self, text: Any) -> str:
        """A claim's text without markers in it, by the rules of the other mode."""
        if not isinstance(text, str):
            return ""
        cleaner, scanner = DeltaCleaner(), MarkerScanner(self._form)
        items = [*scanner.feed(cleaner.feed(text)), *scanner.feed(cleaner.finish()), *scanner.finish()]
        return "".join(item.character for item in items if isinstance(item, Letter)).strip()


class _ClaimScanner:
    """Finds the objects in the array ``claims`` of a JSON object, character by character.

    Text around the object (a Markdown fence, a word before it) is passed over. Raises GenerationError for what is no
    such JSON, is nested deeper than an answer is, or has a claim of more than 100,000 characters.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._open = ""  # the brackets that are open
        self._in_string = self._is_escaped = False
        self._string: list[str] = []  # of the outer object: its keys
        self._key = ""
        self._claim: list[str] | None = None
        self._has_claims = False
        self._passed = 0

    def feed(self, text: str) -> Iterator[dict[str, Any]]:
        for character in text:
            if self.is_over:
                return
            if not self._open and character != "{":
                self._passed += 1
                if self._passed > _MAX_PREAMBLE:
                    raise _no_claims("it begins with text that is no JSON")
                continue
            if self._claim is not None:
                self._claim.append(character)
                if len(self._claim) > _MAX_CLAIM:
                    raise _no_claims(f"one claim has more than {_MAX_CLAIM} characters")
            if self._in_string:
                self._string_character(character)
            elif character == '"':
                self._in_string, self._string = True, []
            elif character in "{[":
                self._opens(character)
            elif character in "}]":
                yield from self._closes(character)
            elif character == ":" and self._open == "{":
                self._key = "".join(self._string)

    def finish(self) -> None:
        if not self.is_over:
            raise _no_claims("its JSON has no end" if self._open else "there is no JSON in it")

    def _string_character(self, character: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        elif character == '"':
            self._in_string = False
            return
        if self._open == "{" and len(self._string) < 100:
            self._string.append(character)

    def _opens(self, character: str) -> None:
        if len(self._open) >= _MAX_DEPTH:
            raise _no_claims(f"it is nested more than {_MAX_DEPTH} levels deep")
        if self._key == "claims":
            self._has_claims = self._has_claims or (self._open, character) == ("{", "[")
            if (self._open, character) == ("{[", "{"):
                self._claim = ["{"]
        self._open += character

    def _closes(self, character: str) -> Iterator[dict[str, Any]]:
        if self._open[-1] + character not in ("{}", "[]"):
            raise _no_claims("its brackets do not match")
        self._open = self._open[:-1]
        if self._open == "{[" and self._claim is not None:
            text, self._claim = "".join(self._claim), None
            try:
                yield json.loads(text, strict=False)
            except ValueError as error:
                raise _no_claims("one claim is no JSON") from error
        if not self._open:
            self.is_over = True
            if not self._has_claims:
                raise _no_claims("its JSON has no array 'claims'")


def _no_claims(reason: str) -> GenerationError:
    return GenerationError(f"the model did not answer with claims and quotes: {reason}.", hint=_HINT)
