"""Reranking by a server: NIM, TEI, Cohere and the many that speak like one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import CancelledError

from ragstack.config.rerankers import RemoteRerankerConfig
from ragstack.errors import InputError, RagstackError
from ragstack.loop_thread import LoopThread
from ragstack.reranking.base import RerankCandidate, RerankQuery, RerankScore, name_of
from ragstack.reranking.remote_apis import APIS
from ragstack.reranking.remote_client import NamedText, RerankClient


class RemoteReranker:
    """A :class:`ragstack.reranking.base.Reranker` behind an HTTP API; all requests share one client in one loop thread.

    ``score`` is what the API gives. ``relevance`` is its logistic function where the API gives logits, else the score
    itself. Passages are sent as they were embedded, their heading path first. Nothing is asked of the server before
    it is used.

    Raises RerankingError when the server cannot be reached, refuses the request, or gives scores that cannot be used.
    Safe to call from several threads.
    """

    # Between what servers give to related and to unrelated passages; not measured (docs/ranking.md).
    min_relevance = 0.05

    def __init__(self, config: RemoteRerankerConfig) -> None:
        self.name = f"remote:{config.model or config.api}"
        self._gives_logits = (config.scores or APIS[config.api].scores) == "logits"
        self._client = RerankClient(config)
        self._loop = LoopThread("ragstack-rerank")

    def rerank(self, query: RerankQuery, candidates: Sequence[RerankCandidate]) -> list[RerankScore]:
        """See :class:`ragstack.reranking.base.Reranker`. Raises InterruptedRunError when ``query`` is cancelled."""
        if not candidates:
            return []
        # In a fixed order the requests, and with them the scores, are the same for every order of the candidates.
        ordered = sorted(candidates, key=lambda candidate: candidate.chunk.chunk_id)
        found = self._scores(query, [NamedText(name_of(each.chunk), each.chunk.embedded_text) for each in ordered])
        scores = [
            RerankScore(candidate.chunk.chunk_id, score, self._relevance(score, candidate), {"remote": score})
            for candidate, score in zip(ordered, found, strict=True)
        ]
        return sorted(scores, key=lambda score: (-score.score, score.chunk_id))

    def close(self) -> None:
        """Break off what is under way and release connections. Idempotent."""
        self._loop.close(self._client.close())

    def _scores(self, query: RerankQuery, texts: Sequence[NamedText]) -> list[float]:
        query.cancellation.check()
        for each in (NamedText("the query", query.text), *texts):
            _check_text(each)
        try:
            request = self._loop.submit(self._client.scores(query.text, texts))
        except RuntimeError as error:
            raise self._was_closed() from error
        with query.cancellation.calling(request.cancel):
            try:
                return request.result()
            except CancelledError as error:
                query.cancellation.check()
                raise self._was_closed() from error
            finally:
                request.cancel()  # when waiting was interrupted

    def _was_closed(self) -> RagstackError:
        return self._client.errors.error("is asked no more", "The reranker was closed.")

    def _relevance(self, score: float, candidate: RerankCandidate) -> float:
        name = name_of(candidate.chunk)
        if not math.isfinite(score):
            raise self._client.errors.error(f"gave no finite score for {name}", "The server's log may say why.")
        if self._gives_logits:
            return 1 / (1 + math.exp(-max(-500.0, min(500.0, score))))
        if not 0 <= score <= 1:
            raise self._client.errors.error(
                f"gave the score {score:g} for {name}; expected 0 to 1",
                "Set reranker.scores to logits if the server gives the model's raw scores.",
            )
        return score


def _check_text(given: NamedText) -> None:
    try:
        given.text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{given.name}: character {error.start} is a lone surrogate, which no UTF-8 text can hold.",
            hint="Replace the character.",
        ) from error
