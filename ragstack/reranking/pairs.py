"""A query and its passages as the token sequences that a cross-encoder reads. Long passages become windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from ragstack.cancellation import Cancellation
from ragstack.errors import InputError
from ragstack.reranking.base import RerankCandidate, RerankScore, name_of


@dataclass(frozen=True, slots=True)
class Pair:
    """One sequence: the query and a window of the candidate at ``index``, which messages call ``name``."""

    index: int
    ids: list[int]
    type_ids: list[int]
    name: str


class PendingLogits(Protocol):
    """Pairs that were handed to a model and are being worked on."""

    def result(self) -> NDArray[np.float64]:
        """Wait for the logits ``(n,)``, in the order of the pairs; not finite where the model gave that.

        Raises RerankingError where the model fails, InterruptedRunError when cancelled. To be called once.
        """


@runtime_checkable
class PairReranker(Protocol):
    """A reranker that scores each pair of a query and a window of a passage by itself.

    So pairs of several queries may run in one batch: :meth:`encode` each query with its candidates, :meth:`submit` any
    of the pairs together, and make a ranking of each query's logits by :meth:`ranked`.
    """

    @property
    def max_batch_tokens(self) -> int:
        """The budget by which pairs are cut into batches, padding counted."""

    @property
    def device(self) -> str:
        """Where the model runs; several devices with commas between."""

    def preload(self) -> None:
        """Load tokenizer and weights. Raises RerankingError."""

    def encode(self, query: str, candidates: Sequence[RerankCandidate]) -> Sequence[Pair]:
        """All pairs, in the order of the candidates. Raises as :meth:`SequenceEncoder.pairs`."""

    def submit(self, pairs: Sequence[Pair], cancellation: Cancellation) -> PendingLogits:
        """Begin to score pairs of any queries, in batches of the token budget."""

    def ranked(
        self, candidates: Sequence[RerankCandidate], pairs: Sequence[Pair], logits: NDArray[np.float64]
    ) -> list[RerankScore]:
        """The ranking of the candidates that ``pairs`` are of, best first, each by its best window.

        Raises RerankingError, naming the candidate, for a logit that is not finite.
        """


class SequenceEncoder(Protocol):
    """Makes the sequences that a model reads of a query and its passages."""

    def pairs(self, query: str, candidates: Sequence[RerankCandidate]) -> list[Pair]:
        """All sequences, in the order of the candidates; at least one for each, none longer than the model reads.

        Raises InputError for a query that is too long, for a passage that is, unless it may be read in windows, and
        for a text that no UTF-8 can hold.
        """


class PairEncoder:
    """Puts queries and passages together the way the model's own tokenizer does.

    A query may take half of ``max_tokens``. With ``windows`` a passage that does not fit beside it is read in windows
    that share a quarter with their neighbours; without, it is an error. ``name`` is the model in messages.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, name: str, *, windows: bool) -> None:
        self._tokenizer = tokenizer
        self._room = max_tokens - tokenizer.num_special_tokens_to_add(True)
        self._name = name
        self._windows = windows

    def pairs(self, query: str, candidates: Sequence[RerankCandidate]) -> list[Pair]:
        """See :class:`SequenceEncoder`."""
        asked = encoded(self._tokenizer, "the query", [query])[0]
        if len(asked) * 2 > self._room:
            raise query_too_long(len(asked), self._name, self._room)
        room = self._room - len(asked)
        passages = encoded(self._tokenizer, "a passage", [candidate.chunk.embedded_text for candidate in candidates])
        found: list[Pair] = []
        for index, (candidate, passage) in enumerate(zip(candidates, passages, strict=True)):
            if len(passage) > room and not self._windows:
                raise passage_too_long(name_of(candidate.chunk), len(passage), self._name, room)
            passage.truncate(room, stride=room // 4)
            for window in (passage, *passage.overflowing):
                pair = self._tokenizer.post_process(asked, window)
                found.append(Pair(index, pair.ids, pair.type_ids, name_of(candidate.chunk)))
        return found


def encoded(tokenizer: Tokenizer, what: str, texts: Sequence[str], *, specials: bool = False) -> list[Encoding]:
    """The tokens of texts, with the tokenizer's own ``specials`` where asked.

    Raises InputError, which calls a text ``what``, for one that no UTF-8 can hold.
    """
    try:
        found: list[Encoding] = tokenizer.encode_batch(texts, add_special_tokens=specials)
    except (TypeError, UnicodeEncodeError) as error:
        raise InputError(
            f"{what} holds a lone surrogate, which no UTF-8 text can hold.", hint="Replace the character."
        ) from error
    return found


def query_too_long(tokens: int, name: str, room: int) -> InputError:
    """The error for a query of ``tokens`` tokens, where ``room`` is for query and passage."""
    return InputError(
        f"the query has {tokens} tokens; the reranker {name} reads {room} of query and passage"
        f" together, at most {room // 2} of them the query's.",
        hint="Ask a shorter question.",
    )


def passage_too_long(passage: str, tokens: int, name: str, room: int) -> InputError:
    """The error for a passage of ``tokens`` tokens, where a query leaves ``room``."""
    return InputError(
        f"{passage} has {tokens} tokens; beside this query the reranker {name} reads {room}.",
        hint="Set reranker.long_passages to windows, or lower chunker.max_tokens and index again.",
    )
