"""Citations are checked against archive and sources before they are sent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from ragstack.citations.chain import Chain, Citation, SentenceLink
from ragstack.citations.verify import Evidence, Status, check_place, read_regular
from ragstack.retrieval.events import Answered, PassagesFound, QueryEvent, SentenceWritten


@dataclass(frozen=True)
class CheckedCitation:
    """A citation and what its check gave, as ``ragstack verify`` would say."""

    citation: Citation
    status: Status
    detail: str


@dataclass(frozen=True)
class CheckedSentence:
    """One more sentence, its new citations checked. ``delta`` is the text it adds."""

    sentence: SentenceLink
    citations: tuple[CheckedCitation, ...]
    delta: str


@dataclass(frozen=True)
class CheckedAnswer:
    """The end: the whole chain, and each citation of it with its check."""

    chain: Chain
    citations: tuple[CheckedCitation, ...]


CheckedEvent: TypeAlias = PassagesFound | CheckedSentence | CheckedAnswer


class CitationChecker:
    """Checks the citations of one query; each file is read once."""

    def __init__(self, evidence: Evidence) -> None:
        self._files: dict[Path, bytes | None] = {}
        self._evidence = replace(evidence, read=self._read)
        self._checked: dict[str, CheckedCitation] = {}

    def event(self, event: QueryEvent) -> CheckedEvent:
        """The event with its citations checked."""
        if isinstance(event, SentenceWritten):
            return CheckedSentence(event.sentence, tuple(map(self.check, event.citations)), event.delta)
        if isinstance(event, Answered):
            answer = event.chain.answer
            return CheckedAnswer(event.chain, tuple(map(self.check, answer.citations if answer else ())))
        return event

    def check(self, citation: Citation) -> CheckedCitation:
        """The citation with its status."""
        key = citation.model_dump_json()
        if key not in self._checked:
            self._checked[key] = CheckedCitation(citation, *check_place(citation.place, self._evidence))
        return self._checked[key]

    def _read(self, path: Path | None) -> bytes | None:
        if path is None:
            return None
        if path not in self._files:
            self._files[path] = read_regular(path)
        return self._files[path]
