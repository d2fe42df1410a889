"""Reranking by a cross-encoder: a model that reads query and passage together (Nogueira and Cho 2019)."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from functools import cached_property, partial
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ragstack.cancellation import Cancellation
from ragstack.errors import InputError, RerankingError
from ragstack.inference.backend import Backend, TokenBatch, chosen_output
from ragstack.inference.batch_counts import BatchTokens
from ragstack.inference.batching import plan_batches
from ragstack.inference.budgets import default_batch_tokens
from ragstack.inference.engine import BatchJob, Engine, Placement
from ragstack.inference.selection import select_placement
from ragstack.reranking.base import RerankCandidate, RerankQuery, RerankScore
from ragstack.reranking.cross_encoder_files import CrossEncoderFiles, find_cross_encoder
from ragstack.reranking.pairs import Pair, SequenceEncoder
from ragstack.reranking.probe import pair_probe
from ragstack.types import Chunk, Float32Array, Int32Array

LongPassages: TypeAlias = Literal["windows", "error"]

_OUTPUTS = ("logits", "scores")


class CrossEncoderReranker:
    """A :class:`ragstack.reranking.base.Reranker` that runs a model over each pair of query and passage.

    ``score`` is the model's logit, ``relevance`` its logistic function; of a model with several labels, the logit of
    the relevant one against all others. A passage is read as it was embedded, its heading path first; one that is
    longer than the model reads beside the query counts by its best window.

    The result depends neither on the order of the candidates nor on ``max_batch_tokens``. The weights are loaded,
    and their hash checked, when they are first needed; rerankers of the same weights in one process share them.
    Safe to call from several threads.

    ``model``, ``revision``, ``max_tokens``, ``label``, ``prompt_template``: see
    :func:`ragstack.reranking.cross_encoder_files.find_cross_encoder`. Raises what that raises, and RerankingError,
    naming the chunk, for a score that is not finite.
    """

    # A logit of -3. Not measured: no cross-encoder could be had where this was written (docs/ranking.md).
    min_relevance = 0.05
    kind = "cross_encoder"

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        max_tokens: int | None = None,
        long_passages: LongPassages = "windows",
        label: str | None = None,
        prompt_template: str | None = None,
        max_batch_tokens: int | None = None,
        threads: int | None = None,
        profile: str | None = None,
        device: str | Sequence[str] | None = None,
    ) -> None:
        check_settings(max_batch_tokens, threads)
        files = find_cross_encoder(model, revision, max_tokens=max_tokens, label=label, prompt_template=prompt_template)
        self._open(files, long_passages, max_batch_tokens, threads, profile, device)

    def _open(
        self,
        files: CrossEncoderFiles,
        long_passages: LongPassages,
        max_batch_tokens: int | None,
        threads: int | None,
        profile: str | None,
        device: str | Sequence[str] | None,
    ) -> None:
        self._files = files
        self.name = f"{self.kind}:{files.name}"
        self._windows = long_passages == "windows"
        probe = partial(pair_probe, files)
        self._placement = select_placement(
            files, files.role, profile=profile, device=device, threads=threads, probe=probe
        )
        self._budget = max_batch_tokens or default_batch_tokens(self._placement.profile, "reranking")
        self._lock = threading.Lock()
        self._closed = False

    def rerank(self, query: RerankQuery, candidates: Sequence[RerankCandidate]) -> list[RerankScore]:
        """See :class:`ragstack.reranking.base.Reranker`. Raises InterruptedRunError when ``query`` is cancelled."""
        if not candidates:
            return []
        # In a fixed order the batches, and with them the rounding, are the same for every order of the candidates.
        ordered = sorted(candidates, key=lambda candidate: candidate.chunk.chunk_id)
        pairs = self.encode(query.text, ordered)
        return self.ranked(ordered, pairs, self.submit(pairs, query.cancellation).result())

    @property
    def max_batch_tokens(self) -> int:
        """See :class:`ragstack.reranking.pairs.PairReranker`."""
        return self._budget

    @property
    def device(self) -> str:
        """See :class:`ragstack.reranking.pairs.PairReranker`."""
        return ",".join(self._placement.devices)

    @property
    def profile(self) -> str:
        """The name of the profile that runs the model."""
        return self._placement.profile.name

    def encode(self, query: str, candidates: Sequence[RerankCandidate]) -> list[Pair]:
        """See :class:`ragstack.reranking.pairs.PairReranker`."""
        with self._lock:
            encoder, _ = self._prepared()
        return encoder.pairs(query, candidates)

    def submit(self, pairs: Sequence[Pair], cancellation: Cancellation) -> PendingBatches:
        """See :class:`ragstack.reranking.pairs.PairReranker`."""
        with self._lock:
            _, engine = self._prepared()
        counts = [len(pair.ids) for pair in pairs]
        pending = PendingBatches(len(pairs), self._was_closed)

        def run(backend: Backend, rows: Int32Array) -> tuple[Int32Array, NDArray[np.float64]]:
            cancellation.check()
            if self._closed:
                raise self._was_closed()
            return rows, self._logits(backend, [pairs[row] for row in rows.tolist()])

        def pair_error(row: int, fault: str, hint: str) -> RerankingError:
            return RerankingError(f"{pairs[row].name}: {fault}", hint=hint)

        try:
            for batch in self._planned(counts, packed=engine.packs):
                job = BatchJob(batch, [counts[row] for row in batch.tolist()], run, pair_error)
                pending.add(engine.submit_batch(job))
        except BaseException:
            pending.cancel()
            raise
        return pending

    def ranked(
        self, candidates: Sequence[RerankCandidate], pairs: Sequence[Pair], logits: NDArray[np.float64]
    ) -> list[RerankScore]:
        """See :class:`ragstack.reranking.pairs.PairReranker`."""
        best = np.full(len(candidates), -np.inf)
        for pair, logit in zip(pairs, logits.tolist(), strict=True):
            if not np.isfinite(logit):
                raise RerankingError(
                    f"{self.name} gave {logit} for {pair.name}.",
                    hint="The weights are damaged, or the model cannot read this text.",
                )
            best[pair.index] = max(best[pair.index], logit)
        relevance = 1 / (1 + np.exp(-np.clip(best, -500, 500)))
        scores = [
            RerankScore(candidate.chunk.chunk_id, float(logit), float(share), {self.kind: float(logit)})
            for candidate, logit, share in zip(candidates, best, relevance, strict=True)
        ]
        return sorted(scores, key=lambda score: (-score.score, score.chunk_id))

    @property
    def batch_tokens(self) -> BatchTokens:
        """The tokens of all batches so far, with and without padding, of all rerankers with these weights."""
        with self._lock:
            _, engine = self._prepared()
        return engine.batch_tokens

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer. Raises RerankingError."""
        return self._files.tokenizer()

    def pair_tokens(self, query: str, passages: Sequence[str]) -> list[int]:
        """How many tokens the model reads for each passage, query, special tokens and all windows included.

        Raises what :meth:`rerank` raises of texts that cannot be read.
        """
        chunks = [Chunk(f"{index:08d}", "", "", 0, 0, passage, 0) for index, passage in enumerate(passages)]
        counts = [0] * len(passages)
        for pair in self.encode(query, [RerankCandidate(chunk, None, None) for chunk in chunks]):
            counts[pair.index] += len(pair.ids)
        return counts

    def preload(self) -> None:
        """Load tokenizer and weights. Raises RerankingError."""
        with self._lock:
            _, engine = self._prepared()
        engine.preload()

    def close(self) -> None:
        """Release threads and weights. Idempotent; reranking afterwards raises RerankingError."""
        with self._lock:
            self._closed = True
            # Others may run the same weights; the last of them to go takes the engine along.
            self.__dict__.pop("_engine", None)

    @cached_property
    def _encoder(self) -> SequenceEncoder:
        return self._files.encoder(windows=self._windows)

    @cached_property
    def _engine(self) -> Engine:
        return _shared_engine(self._files, self._placement)

    def _prepared(self) -> tuple[SequenceEncoder, Engine]:
        """What is loaded once, by a holder of the lock."""
        if self._closed:
            raise self._was_closed()
        return self._encoder, self._engine

    def _planned(self, counts: Sequence[int], *, packed: bool) -> list[Int32Array]:
        """Which pairs run together."""
        on_onnx = self._placement.profile.backend != "torch"
        if on_onnx and self._files.scales_with_its_batch:
            return [np.array([row], dtype=np.int32) for row in range(len(counts))]
        if on_onnx and self._files.pad_id is None:
            return plan_batches(counts, self._budget, max_padding=0.0)
        return plan_batches(counts, self._budget, packed=packed)

    def _was_closed(self) -> RerankingError:
        return RerankingError(f"{self.name} was closed.", hint="Make a new one.")

    def _logits(self, backend: Backend, pairs: Sequence[Pair]) -> NDArray[np.float64]:
        counts = np.array([len(pair.ids) for pair in pairs], dtype=np.int64)
        shape = (len(pairs), int(counts.max()))
        ids, type_ids = np.full(shape, self._files.pad_id or 0, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, pair in enumerate(pairs):
            ids[row, : counts[row]] = pair.ids
            type_ids[row, : counts[row]] = pair.type_ids
        logits = backend.run(TokenBatch(ids, counts, type_ids), chosen_output(backend, _OUTPUTS))
        return self._relevant(backend.to_host(logits), len(pairs))

    def _relevant(self, output: Float32Array, pairs: int) -> NDArray[np.float64]:
        """The logit of each row's relevant label, ``(n,) float64``."""
        found = output.astype(np.float64)
        relevant = self._files.relevant
        if relevant is None and found.shape in ((pairs,), (pairs, 1)):
            return found.reshape(pairs)
        if relevant is not None and found.ndim == 2 and found.shape[0] == pairs and relevant < found.shape[1]:
            others = np.delete(found, relevant, axis=1)
            most = others.max(axis=1)
            against: NDArray[np.float64] = most + np.log(np.exp(others - most[:, None]).sum(axis=1))
            return found[:, relevant] - against
        labels = "one label" if relevant is None else f"label {relevant} among several"
        raise RerankingError(
            f"{self.name} gives an output of shape {output.shape} for {pairs} pairs; its config.json says {labels}.",
            hint="Export the model for sequence classification (optimum-cli export onnx --task text-classification).",
        )


_Part: TypeAlias = tuple[Int32Array, NDArray[np.float64]]
"""Rows of the pairs that were given, and their logits."""


class PendingBatches:
    """A :class:`ragstack.reranking.pairs.PendingLogits`: batches that were given to the engine."""

    def __init__(self, pairs: int, was_closed: Callable[[], RerankingError]) -> None:
        self._pairs, self._was_closed = pairs, was_closed
        self._futures: list[Future[list[_Part]]] = []

    def add(self, future: Future[list[_Part]]) -> None:
        """One more batch."""
        self._futures.append(future)

    def result(self) -> NDArray[np.float64]:
        """See :class:`ragstack.reranking.pairs.PendingLogits`."""
        logits = np.full(self._pairs, np.nan)
        try:
            for future in self._futures:
                for rows, found in future.result():
                    logits[rows] = found
        except CancelledError as error:
            raise self._was_closed() from error
        finally:
            self.cancel()
        return logits

    def cancel(self) -> None:
        """Drop the batches that have not begun."""
        for future in self._futures:
            future.cancel()


def check_settings(max_batch_tokens: int | None, threads: int | None) -> None:
    """Raises InputError for a number below 1."""
    for name, value in (("max_batch_tokens", max_batch_tokens), ("threads", threads)):
        if value is not None and value < 1:
            raise InputError(f"reranker.{name}: must be at least 1, got {value}.")


_EngineKey: TypeAlias = tuple[str, str, tuple[int, ...], Placement]

_engines: weakref.WeakValueDictionary[_EngineKey, Engine] = weakref.WeakValueDictionary()
_loading = threading.Lock()


def _shared_engine(files: CrossEncoderFiles, placement: Placement) -> Engine:
    """One engine for all rerankers with these weights: a query engine and a model server have one each."""
    key = str(files.weights.root), files.sha256, files.label_tokens, placement
    with _loading:
        engine = _engines.get(key)
        if engine is None:
            _engines[key] = engine = Engine(files.name, files, placement, files.role)
        return engine
