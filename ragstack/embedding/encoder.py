"""Embedding on this machine: prompts, tokens, batches, pooling, over any backend (:mod:`ragstack.inference`).

Many texts run as batches of a token budget, as many at a time as suit the devices; a single batch, such as one query,
runs by itself.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, get_args

import numpy as np

from ragstack.embedding.base import Embeddings, InputType, ModelInfo, Output, PendingEmbeddings
from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.embedding.model_files import resolve_model
from ragstack.embedding.model_options import with_options
from ragstack.embedding.pending import WINDOW_TOKENS, Batches, BatchResult, PendingTexts, Steps, Window
from ragstack.embedding.pooling import pool, unit_rows
from ragstack.embedding.probe import encoder_probe
from ragstack.embedding.tokenizer import TextTokenizer
from ragstack.errors import EmbeddingError, InputError, TextError
from ragstack.inference.backend import Backend, Int64Array, TokenBatch, chosen_output
from ragstack.inference.batch_counts import BatchTokens
from ragstack.inference.batching import plan_batches
from ragstack.inference.budgets import default_batch_tokens
from ragstack.inference.engine import BatchJob, Engine
from ragstack.inference.role import EMBEDDER
from ragstack.inference.selection import select_placement
from ragstack.types import Float32Array, Int32Array, TokenVectors, canonical_json, sha256_hex

_OUTPUTS = ("last_hidden_state", "token_embeddings")
_BUDGETS_PER_WINDOW = 8
_FORMAT = 1


class EncoderEmbedder:
    """An :class:`ragstack.embedding.base.Embedder` that runs an encoder on this machine.

    ``model`` is a registered name, a folder, or a Hugging Face id pinned by ``revision``
    (:func:`ragstack.embedding.model_files.resolve_model`). ``max_batch_tokens`` is the budget of a batch, padding
    counted (None: the profile's, :func:`ragstack.inference.budgets.default_batch_tokens`). ``profile`` and ``device``
    say how and where it runs (:func:`ragstack.inference.selection.select_placement`), ``threads`` how many cores are
    used (None: all that the process may use). ``dimensions``, ``query_prompt``, ``passage_prompt`` and ``instruction``
    change what the model's card says (:func:`ragstack.embedding.model_options.with_options`). ``bm25`` makes the
    ``sparse`` output: a passage's vector, or how often each term occurs in a query, to which the query path adds the
    corpus statistics.

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
        placement = select_placement(
            self._model,
            EMBEDDER,
            profile=profile,
            device=device,
            threads=threads,
            probe=partial(encoder_probe, self._model),
        )
        self._budget = max_batch_tokens or default_batch_tokens(placement.profile)
        self._engine = Engine(self._model.card.name, self._model, placement, EMBEDDER)
        self._lock = threading.Lock()
        self._ahead: ThreadPoolExecutor | None = None
        self._closed = False
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
    def batch_tokens(self) -> BatchTokens:
        """The tokens of all batches so far, with and without padding."""
        return self._engine.batch_tokens

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

    @property
    def packs(self) -> bool:
        """Whether a batch costs its tokens only: the model runs texts without padding."""
        return self._engine.packs

    def embed(self, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output] = ("dense",)) -> Embeddings:
        """Vectors of ``texts``, in their order; see :class:`ragstack.embedding.base.Embedder`.

        Byte spans of ``tokens`` are offsets in the text given; tokens of a model's prompt are left out.
        """
        return self._begin(texts, input_type, outputs, on_all_cores=True).result()

    def submit(
        self, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output] = ("dense",)
    ) -> PendingEmbeddings:
        """Begin with ``texts``; see :class:`ragstack.embedding.base.PipelinedEmbedder`."""
        return self._begin(texts, input_type, outputs, on_all_cores=False)

    def preload(self) -> None:
        """Load what :meth:`submit` runs on; see :class:`ragstack.embedding.base.PipelinedEmbedder`."""
        self._engine.preload()

    def close(self) -> None:
        """Release threads and weights. Idempotent; embedding afterwards raises EmbeddingError."""
        with self._lock:
            self._closed = True
            ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.shutdown(wait=True, cancel_futures=True)
        self._engine.close()

    def _begin(
        self, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output], *, on_all_cores: bool
    ) -> PendingTexts:
        """``on_all_cores``: a single batch is run at once, by itself, and not beside those of other requests."""
        _check_request(texts, input_type, outputs)
        wanted = frozenset(outputs)
        steps = Steps(
            partial(self._tokenize, input_type=input_type, with_spans="tokens" in wanted),
            partial(self._begin_window, wanted=wanted, texts=len(texts) if on_all_cores else 0),
            self._tokenizing_thread,
        )
        encode_sparse = self.bm25.encode_passage if input_type == "passage" else self.bm25.encode_query_terms
        return PendingTexts(
            texts,
            steps,
            window_tokens=max(WINDOW_TOKENS, _BUDGETS_PER_WINDOW * self._budget * len(self._engine.placement.devices)),
            dim=self._model.dim if "dense" in wanted else None,
            with_tokens="tokens" in wanted,
            encode_sparse=encode_sparse if "sparse" in wanted else None,
        )

    def _tokenizing_thread(self) -> Executor:
        with self._lock:
            if self._closed:
                raise EmbeddingError(f"the embedding model {self._model.card.name} was closed.", hint="Make a new one.")
            self._ahead = self._ahead or ThreadPoolExecutor(1, thread_name_prefix="ragstack-tokenize")
            return self._ahead

    def _begin_window(self, window: Window, wanted: frozenset[Output], texts: int) -> Batches:
        """Run the batches of a window; the only one of all ``texts`` at once."""
        counts = [len(ids) for ids in window.ids]
        batches = plan_batches(counts, self._budget, packed=self._engine.packs)
        run = partial(self._run_batch, window=window, wanted=wanted)

        def text_error(row: int, fault: str, hint: str) -> TextError:
            return TextError(window.start + row, fault, hint=hint)

        jobs = [BatchJob(batch, [counts[row] for row in batch.tolist()], run, text_error) for batch in batches]
        if len(jobs) == 1 and len(window.ids) == texts:
            done: Future[list[BatchResult]] = Future()
            done.set_result(self._engine.call_batch(jobs[0]))
            return deque([done])
        return deque(self._engine.submit_batch(job) for job in jobs)

    def _tokenize(self, start: int, texts: Sequence[str], input_type: InputType, *, with_spans: bool) -> Window:
        """The window of ``texts``, whose first one is the text ``start`` of its request."""
        card, tokenizer = self._model.card, self._model.tokenizer
        prompt = card.query_prompt if input_type == "query" else card.passage_prompt
        prompted = [prompt + text if isinstance(text, str) else text for text in texts] if prompt else list(texts)
        spans: list[Int32Array] | None = None
        try:
            if with_spans:
                both = tokenizer.ids_and_spans(prompted)
                ids, spans = [i for i, _ in both], [s - len(prompt.encode("utf-8")) for _, s in both]
            else:
                ids = tokenizer.input_ids(prompted)
        except TextError as error:
            raise TextError(start + error.text_index, error.fault, hint=error.hint) from error
        for index, found in enumerate(ids):
            if not found:
                raise TextError(
                    start + index, f"it has no tokens, and {card.name} adds none to it.", hint="Leave empty texts out."
                )
            if len(found) > card.max_tokens + tokenizer.specials:
                raise TextError(
                    start + index,
                    f"{len(found) - tokenizer.specials} tokens; {card.name} reads at most {card.max_tokens}"
                    + (", its prompt included." if prompt else "."),
                    hint="Cut the text, or lower chunker.max_tokens.",
                )
        return Window(start, [np.array(found, dtype=np.int32) for found in ids], spans)

    def _run_batch(self, backend: Backend, batch: Int32Array, window: Window, wanted: frozenset[Output]) -> BatchResult:
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
        return BatchResult(indices, dense, tokens)

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


def _check_request(texts: Sequence[str], input_type: InputType, outputs: Sequence[Output]) -> None:
    if isinstance(texts, str):
        raise InputError("embed takes a sequence of texts, got one string.", hint="Put it in a list.")
    if input_type not in get_args(InputType):
        raise InputError(f"input_type: expected query or passage, got {input_type!r}.")
    unknown = [output for output in outputs if output not in get_args(Output)]
    if unknown or not outputs:
        raise InputError(f"outputs: expected some of {', '.join(get_args(Output))}; got {list(outputs)!r}.")
