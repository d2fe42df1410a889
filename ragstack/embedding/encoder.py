"""Embedding on this machine: prompts, tokens, batches, pooling, over any backend (:mod:`ragstack.inference`).

Texts are tokenised in windows while earlier windows are being run. Many texts run as batches of a token budget, as many
at a time as suit the devices; a single batch, such as one query, runs by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, get_args

import numpy as np

from ragstack.embedding.base import Embeddings, InputType, ModelInfo, Output, PendingEmbeddings
from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.embedding.model_files import resolve_model
from ragstack.embedding.model_options import with_options
from ragstack.embedding.pooling import pool, unit_rows
from ragstack.embedding.probe import encoder_probe
from ragstack.embedding.tokenizer import TextTokenizer
from ragstack.errors import EmbeddingError, InputError
from ragstack.inference.backend import Backend, Int64Array, TokenBatch, chosen_output
from ragstack.inference.batching import plan_batches
from ragstack.inference.engine import Engine
from ragstack.inference.role import EMBEDDER
from ragstack.inference.selection import select_placement
from ragstack.types import Float32Array, Int32Array, SparseVector, TokenVectors, canonical_json, sha256_hex

DEFAULT_BATCH_TOKENS = 512
"""Token budget of a batch, padding counted: the fastest measured on CPUs (docs/models.md)."""

_OUTPUTS = ("last_hidden_state", "token_embeddings")
_WINDOW_TEXTS = 512
_WINDOWS_AHEAD = 2
_FORMAT = 1


@dataclass(frozen=True)
class _Window:
    """Consecutive texts that are tokenised and batched together. ``ids`` include special tokens."""

    start: int
    ids: list[list[int]]
    spans: list[Int32Array] | None


@dataclass(frozen=True)
class _BatchResult:
    indices: Int32Array
    dense: Float32Array | None
    tokens: list[TokenVectors] | None


class EncoderEmbedder:
    """An :class:`ragstack.embedding.base.Embedder` that runs an encoder on this machine.

    ``model`` is a registered name, a folder, or a Hugging Face id pinned by ``revision``
    (:func:`ragstack.embedding.model_files.resolve_model`). ``max_batch_tokens`` is the budget of a batch, padding
    counted (None: the measured default). ``profile`` and ``device`` say how and where it runs
    (:func:`ragstack.inference.selection.select_placement`), ``threads`` how many cores are used (None: all that the
    process may use). ``dimensions``, ``query_prompt``, ``passage_prompt`` and ``instruction`` change what the model's
    card says (:func:`ragstack.embedding.model_options.with_options`). ``bm25`` makes the ``sparse`` output: a passage's vector, or how often each term
    occurs in a query, to which the query path adds the corpus statistics.

    The weights are loaded, and their hash checked, when they are first needed. Raises InputError for
    settings that cannot be used and EmbeddingError for files that cannot.
    """

    def __init__(
        self,
        model: str = "all-MiniLM-L6-v2",
        revision: str | None = None,
        max_batch_tokens: int | None = None,
        threads: int | None = None,
        profile: str | None = None,
        device: str | Sequence[str] | None = None,
        dimensions: int | None = None,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        instruction: str | None = None,
        bm25: Bm25Encoder | None = None,
    ) -> None:
        for name, value in (("max_batch_tokens", max_batch_tokens), ("threads", threads)):
            if value is not None and value < 1:
                raise InputError(f"embedder.{name}: must be at least 1, got {value}.")
        self._model = with_options(
            resolve_model(model, revision),
            dimensions=dimensions,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            instruction=instruction,
        )
        self._budget = max_batch_tokens or DEFAULT_BATCH_TOKENS
        placement = select_placement(
            self._model,
            EMBEDDER,
            profile=profile,
            device=device,
            threads=threads,
            probe=partial(encoder_probe, self._model),
        )
        self._engine = Engine(self._model.card.name, self._model, placement, EMBEDDER)
        self.bm25 = bm25 or Bm25Encoder()

    @cached_property
    def info(self) -> ModelInfo:
        """What the pipeline must know of the model."""
        card = self._model.card
        identity: dict[str, Any] = {
            "format": _FORMAT,
            "weights": self._model.sha256,
            "tokenizer": self._model.tokenizer.sha256,
            "pooling": card.pooling,
            "prompts": [card.query_prompt, card.passage_prompt],
            "sparse": self.bm25.fingerprint,
        }
        # Runtimes agree in fp32; in less, the same text has another vector.
        precision = self._engine.placement.profile.precision
        if precision != "fp32":
            identity["precision"] = precision
        # Named only where they are: every other model keeps its fingerprint, and with it its indexes.
        if self._model.dense:
            identity["dense"] = [layer.sha256 for layer in self._model.dense]
        if self._model.dimensions is not None:
            identity["dimensions"] = self._model.dimensions
        return ModelInfo(
            name=card.name,
            dim=self._model.dim,
            max_tokens=card.max_tokens,
            token_dim=self._model.hidden_dim,
            languages=card.languages,
            licence=card.licence,
            fingerprint=sha256_hex(canonical_json(identity).encode("utf-8")),
            pooling=card.pooling,
            query_prompt_tokens=self.tokenizer.count([card.query_prompt])[0],
            passage_prompt_tokens=self.tokenizer.count([card.passage_prompt])[0],
        )

    @property
    def tokenizer(self) -> TextTokenizer:
        """The model's own tokenizer."""
        return self._model.tokenizer

    @property
    def device(self) -> str:
        """Where the model runs; several devices with commas between."""
        return ",".join(self._engine.placement.devices)

    @property
    def profile(self) -> str:
        """The name of the profile that runs the model."""
        return self._engine.placement.profile.name

    @property
    def max_batch_tokens(self) -> int:
        """The budget by which texts are cut into batches, padding counted."""
        return self._budget

    def embed(self, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output] = ("dense",)) -> Embeddings:
        """Vectors of ``texts``, in their order; see :class:`ragstack.embedding.base.Embedder`.

        Byte spans of ``tokens`` are offsets in the text given; tokens of a model's prompt are left out.
        """
        _check_request(texts, input_type, outputs)
        return _Pending(self, texts, input_type, frozenset(outputs), on_all_cores=True).result()

    def submit(
        self, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output] = ("dense",)
    ) -> PendingEmbeddings:
        """Begin with ``texts``; see :class:`ragstack.embedding.base.PipelinedEmbedder`."""
        _check_request(texts, input_type, outputs)
        return _Pending(self, texts, input_type, frozenset(outputs), on_all_cores=False)

    def preload(self) -> None:
        """Load what :meth:`submit` runs on; see :class:`ragstack.embedding.base.PipelinedEmbedder`."""
        self._engine.preload()

    def close(self) -> None:
        """Release threads and weights. Idempotent; embedding afterwards raises EmbeddingError."""
        self._engine.close()

    def _run_alone(self, window: _Window, batch: Int32Array, wanted: frozenset[Output]) -> _BatchResult:
        return self._engine.call(partial(self._run_batch, window=window, batch=batch, wanted=wanted))

    def _run_later(
        self, window: _Window, batches: Sequence[Int32Array], wanted: frozenset[Output]
    ) -> deque[Future[_BatchResult]]:
        run = partial(self._run_batch, window=window, wanted=wanted)
        return deque(self._engine.submit(partial(run, batch=batch)) for batch in batches)

    def _windows(self, texts: Sequence[str], input_type: InputType, *, with_spans: bool) -> Iterator[_Window]:
        card, tokenizer = self._model.card, self._model.tokenizer
        prompt = card.query_prompt if input_type == "query" else card.passage_prompt
        prompt_bytes = len(prompt.encode("utf-8"))
        limit = card.max_tokens + tokenizer.specials
        for start in range(0, len(texts), _WINDOW_TEXTS):
            part = (
                [prompt + text for text in texts[start : start + _WINDOW_TEXTS]]
                if prompt
                else list(texts[start : start + _WINDOW_TEXTS])
            )
            spans: list[Int32Array] | None = None
            if with_spans:
                both = tokenizer.ids_and_spans(part)
                ids, spans = [i for i, _ in both], [s - prompt_bytes for _, s in both]
            else:
                ids = tokenizer.input_ids(part)
            for index, found in enumerate(ids):
                if not found:
                    raise EmbeddingError(
                        f"text {start + index} has no tokens, and {card.name} adds none to it.",
                        hint="Leave empty texts out.",
                    )
                if len(found) > limit:
                    raise EmbeddingError(
                        f"text {start + index}: {len(found) - tokenizer.specials} tokens; {card.name} reads at most "
                        f"{card.max_tokens}" + (", its prompt included." if prompt else "."),
                        hint="Cut the text, or lower chunker.max_tokens.",
                    )
            yield _Window(start, ids, spans)

    def _run_batch(
        self, backend: Backend, window: _Window, batch: Int32Array, wanted: frozenset[Output]
    ) -> _BatchResult:
        rows = batch.tolist()
        counts = np.array([len(window.ids[row]) for row in rows], dtype=np.int64)
        ids = np.zeros((len(rows), int(counts.max())), dtype=np.int64)
        for position, row in enumerate(rows):
            ids[position, : counts[position]] = window.ids[row]
        hidden = backend.run(TokenBatch(ids, counts), chosen_output(backend, _OUTPUTS))
        card = self._model.card
        if hidden.ndim != 3:
            raise EmbeddingError(
                f"the model's output has shape {tuple(hidden.shape)}, expected (texts, tokens, dim).",
                hint="Export the model for feature extraction, so that it gives one vector per token.",
            )
        if hidden.shape[2] != self._model.hidden_dim:
            raise EmbeddingError(
                f"{card.name} gives {hidden.shape[2]} dimensions; its files say {self._model.hidden_dim}.",
                hint="config.json and the weights do not belong together; export the model again.",
            )
        indices: Int32Array = batch + np.int32(window.start)
        dense = None
        if "dense" in wanted:
            pooled = backend.to_host(pool(hidden, counts, card.pooling))
            dense = unit_rows(self._model.vectors(pooled), indices, "dense")
        tokens = None
        if window.spans is not None:
            hidden = backend.to_host(hidden)
            tokens = [
                self._token_vectors(hidden[position], ids[position], int(counts[position]), window.spans[row], index)
                for position, (row, index) in enumerate(zip(rows, indices.tolist(), strict=True))
            ]
        return _BatchResult(indices, dense, tokens)

    def _token_vectors(
        self,
        hidden: Float32Array,
        ids: Int64Array,
        count: int,
        spans: Int32Array,
        index: int,
    ) -> TokenVectors:
        content = self._model.tokenizer.content(count)
        # Tokens of the prompt end at or before the text's first byte.
        own = spans[:, 1] > 0
        vectors = hidden[content][own]
        return TokenVectors(
            vectors=unit_rows(vectors, np.full(len(vectors), index, dtype=np.int32), "token"),
            token_ids=ids[content][own].astype(np.int32),
            byte_spans=np.maximum(spans[own], 0),
        )


class _Pending:
    """Texts being embedded: a few windows of them are queued, the next follow as these are collected.

    A single batch is run at once ``on_all_cores``, or beside the batches of other requests.
    """

    def __init__(
        self,
        embedder: EncoderEmbedder,
        texts: Sequence[str],
        input_type: InputType,
        wanted: frozenset[Output],
        *,
        on_all_cores: bool,
    ) -> None:
        self._on_all_cores = on_all_cores
        self._embedder, self._texts, self._input_type, self._wanted = embedder, texts, input_type, wanted
        dim = embedder.info.dim
        self._dense = np.empty((len(texts), dim), dtype=np.float32) if "dense" in wanted else None
        self._tokens: dict[int, TokenVectors] = {}
        self._queued: deque[deque[Future[_BatchResult]]] = deque()
        self._windows: Iterator[_Window] = iter(())
        if wanted & {"dense", "tokens"}:
            self._windows = embedder._windows(texts, input_type, with_spans="tokens" in wanted)
        try:
            self._fill()
        except BaseException:
            self.cancel()
            raise

    def result(self) -> Embeddings:
        """See :class:`ragstack.embedding.base.PendingEmbeddings`."""
        try:
            sparse: tuple[SparseVector, ...] | None = None
            if "sparse" in self._wanted:
                bm25 = self._embedder.bm25
                encode = bm25.encode_passage if self._input_type == "passage" else bm25.encode_query_terms
                sparse = tuple(encode(text) for text in self._texts)
            while self._queued:
                # A batch leaves the queue after it succeeded, so that an error finds all others in it.
                while self._queued[0]:
                    self._collect(self._queued[0][0].result())
                    self._queued[0].popleft()
                self._queued.popleft()
                self._fill()
        except BaseException:
            self.cancel()
            raise
        with_tokens = "tokens" in self._wanted
        tokens = tuple(self._tokens[i] for i in range(len(self._texts))) if with_tokens else None
        return Embeddings(dense=self._dense, sparse=sparse, tokens=tokens)

    def cancel(self) -> None:
        """See :class:`ragstack.embedding.base.PendingEmbeddings`; a batch that runs ends in a fraction of a second."""
        for futures in self._queued:
            for future in futures:
                future.cancel()

    def _fill(self) -> None:
        while len(self._queued) < _WINDOWS_AHEAD:
            window = next(self._windows, None)
            if window is None:
                return
            counts = [len(ids) for ids in window.ids]
            batches = plan_batches(counts, self._embedder._budget, packed=self._embedder._engine.packs)
            if self._on_all_cores and len(batches) == 1 and len(self._texts) == len(window.ids):
                self._collect(self._embedder._run_alone(window, batches[0], self._wanted))
            else:
                self._queued.append(self._embedder._run_later(window, batches, self._wanted))

    def _collect(self, result: _BatchResult) -> None:
        if self._dense is not None and result.dense is not None:
            self._dense[result.indices] = result.dense
        if result.tokens is not None:
            self._tokens.update(zip(result.indices.tolist(), result.tokens, strict=True))


def _check_request(texts: Sequence[str], input_type: InputType, outputs: Sequence[Output]) -> None:
    if isinstance(texts, str):
        raise InputError("embed takes a sequence of texts, got one string.", hint="Put it in a list.")
    if input_type not in get_args(InputType):
        raise InputError(f"input_type: expected query or passage, got {input_type!r}.")
    unknown = [output for output in outputs if output not in get_args(Output)]
    if unknown or not outputs:
        raise InputError(f"outputs: expected some of {', '.join(get_args(Output))}; got {list(outputs)!r}.")
