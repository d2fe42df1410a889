"""The texts of each request, made when it is its turn: the same for the same load, seed and number."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ragstack.bench.load import Work
from ragstack.bench.plan import EmbedLoad, Load, QueryLoad, RerankLoad, TokenRange
from ragstack.bench.texts import TextMaker
from ragstack.embedding.base import InputType
from ragstack.errors import InputError


@dataclass(frozen=True, slots=True)
class TextWork:
    """Texts to be embedded."""

    texts: list[str]
    input_type: InputType
    counted: Work


@dataclass(frozen=True, slots=True)
class RerankWork:
    """Passages to be ranked."""

    query: str
    passages: list[str]
    counted: Work


@dataclass(frozen=True, slots=True)
class Question:
    """A question to be answered."""

    text: str
    counted: Work = field(default_factory=Work)


AnyWork: TypeAlias = TextWork | RerankWork | Question


@dataclass(frozen=True, slots=True)
class AddedTokens:
    """Tokens that the model reads beside those of the text itself: special ones, and those of its prompt.

    ``pair``: beside those of a query and a passage that are read together.
    """

    query: int = 0
    passage: int = 0
    pair: int = 0


@dataclass(frozen=True)
class WorkMaker:
    """Makes requests' texts. ``texts`` may be None where only ``questions`` are asked, and these empty elsewhere.

    ``tokenizer_name`` is told in the report.
    """

    texts: TextMaker | None
    added: AddedTokens
    tokenizer_name: str
    seed: int = 0
    questions: Sequence[str] = ()

    def work(self, load: Load, number: int) -> AnyWork:
        """What the request ``number`` of a load asks for.

        Raises InputError for texts of fewer tokens than the model adds to each.
        """
        if isinstance(load, QueryLoad):
            return Question(self.questions[number % len(self.questions)])
        if self.texts is None:
            raise ValueError("texts of a given length need a tokenizer")
        # The load's concurrency is left out: others ask for the same.
        rng = random.Random(f"{self.seed} {load.shape} {number}")
        if isinstance(load, EmbedLoad):
            return self._to_embed(self.texts, load, number, rng)
        return self._to_rerank(self.texts, load, number, rng)

    def _to_embed(self, maker: TextMaker, load: EmbedLoad, number: int, rng: random.Random) -> TextWork:
        added = self.added.query if load.input_type == "query" else self.added.passage
        lengths = [_length(load.tokens, added, rng) for _ in range(load.batch)]
        texts = [maker.text(length, number * load.batch + place) for place, length in enumerate(lengths)]
        return TextWork(texts, load.input_type, Work(texts=load.batch, tokens=sum(lengths) + added * load.batch))

    def _to_rerank(self, maker: TextMaker, load: RerankLoad, number: int, rng: random.Random) -> RerankWork:
        added = self.added.pair + load.query_tokens
        lengths = [_length(load.tokens, added, rng) for _ in range(load.passages)]
        passages = [maker.text(length, number * load.passages + place) for place, length in enumerate(lengths)]
        counted = Work(texts=load.passages, pairs=load.passages, tokens=sum(lengths) + added * load.passages)
        return RerankWork(maker.text(load.query_tokens, number), passages, counted)


def _length(tokens: TokenRange, added: int, rng: random.Random) -> int:
    """The tokens of one text's own. Raises InputError where none are left."""
    own = rng.randint(tokens.low, tokens.high) - added
    if own < 1:
        raise InputError(
            f"texts of {tokens} tokens: the model adds {added} to each, which leaves none for the text.",
            hint=f"Ask for more than {added} with --tokens.",
        )
    return own
