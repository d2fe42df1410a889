"""What an evaluation needs: documents, questions, and what answers them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

DatasetFormat: TypeAlias = Literal["beir", "squad", "questions"]


@dataclass(frozen=True, slots=True)
class DocumentSpan:
    """A half-open byte range of one document, counted in its UTF-8 text."""

    document_id: str
    byte_start: int
    byte_end: int


GoldPiece: TypeAlias = tuple[DocumentSpan, ...]
"""One thing that an answer must hold: any of these spans will do."""


@dataclass(frozen=True, slots=True)
class GoldQuote:
    """A quotation whose bytes are looked up once its document is indexed. ``where`` is the ``file:line`` it is from."""

    document_id: str
    text: str
    where: str


@dataclass(frozen=True)
class Question:
    """One question. ``relevant`` has a grade (1 or more) for each relevant document.

    Without any, the corpus does not answer it, and refusing is right. ``pieces`` are the gold spans, if the data set
    has them; ``quotes`` those that are known by their words alone. ``where`` is the ``file:line`` it is from, if known.
    """

    question_id: str
    text: str
    relevant: Mapping[str, int]
    pieces: tuple[GoldPiece, ...] = ()
    quotes: tuple[GoldQuote, ...] = ()
    where: str = ""

    @property
    def is_answerable(self) -> bool:
        """True when some document is relevant."""
        return bool(self.relevant)


@dataclass(frozen=True)
class Corpus:
    """The documents of a data set. ``documents`` yields (id, text) anew at each call; ``digest`` is over them all."""

    documents: Callable[[], Iterator[tuple[str, str]]]
    ids: frozenset[str]
    digest: str


@dataclass(frozen=True)
class Dataset:
    """Questions, and the corpus they are asked of (None: one that the user has in files).

    ``warnings`` say what of the files could not be used; each names file and line.
    """

    name: str
    path: str
    format: DatasetFormat
    questions: tuple[Question, ...]
    corpus: Corpus | None = None
    split: str = ""
    warnings: tuple[str, ...] = field(default=())

    def sample(self, limit: int | None, seed: int) -> Dataset:
        """At most ``limit`` questions, drawn at random by ``seed``, in their order; the documents stay."""
        if limit is None or limit >= len(self.questions):
            return self
        kept = sorted(random.Random(seed).sample(range(len(self.questions)), limit))
        return replace(self, questions=tuple(self.questions[i] for i in kept))


class Complaints:
    """Mistakes of one kind in a data set: all are counted, the first few are told with their places."""

    def __init__(self, what: str, shown: int = 3) -> None:
        self._what = what
        self._shown = shown
        self._places: list[str] = []
        self.count = 0

    def add(self, place: str) -> None:
        """Count one; ``place`` is ``file:line`` and what stands there."""
        self.count += 1
        if len(self._places) < self._shown:
            self._places.append(place)

    def told(self) -> list[str]:
        """One sentence, or nothing."""
        if not self.count:
            return []
        more = ", …" if self.count > len(self._places) else ""
        return [f"{self._what}: {self.count:,} ({', '.join(self._places)}{more})"]


def told(*complaints: Complaints) -> tuple[str, ...]:
    """The sentences of several."""
    return tuple(sentence for complaint in complaints for sentence in complaint.told())


def byte_offsets(text: str, positions: Sequence[int]) -> list[int]:
    """The UTF-8 byte offset of each character position (ascending or not), for text without lone surrogates."""
    if text.isascii():
        return list(positions)
    offsets: dict[int, int] = {}
    before = total = 0
    for position in sorted(set(positions)):
        total += len(text[before:position].encode("utf-8"))
        before = position
        offsets[position] = total
    return [offsets[position] for position in positions]


def clean_text(text: str) -> str:
    """The text as a UTF-8 file can hold it: a lone surrogate becomes U+FFFD, one character for one."""
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text) if not _is_unicode(text) else text


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
