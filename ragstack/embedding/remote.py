"""Embedding by a server: OpenAI, NIM, TEI, Cohere and the many that speak like one of them."""

from __future__ import annotations

import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from functools import cached_property
from typing import Any, TypeVar, get_args

from ragstack.config.embedders import MASKED_KEY, RemoteEmbedderConfig
from ragstack.embedding.base import Embeddings, InputType, ModelInfo, Output
from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.embedding.remote_apis import ServerFacts
from ragstack.embedding.remote_client import EmbedClient
from ragstack.embedding.remote_models import RemoteModel, known_remote_model
from ragstack.embedding.remote_tokens import remote_tokenizer
from ragstack.errors import CapabilityError, InputError, RagstackError, TextError
from ragstack.loop_thread import LoopThread
from ragstack.types import Float32Array, Tokenizer, canonical_json, sha256_hex

_FORMAT = 1
_MAX_TOKENS = 512
"""Tokens that a model reads of which nothing is known: all but a few read as many."""

_PROBE = "How long are the vectors?"
_T = TypeVar("_T")


class RemoteEmbedder:
    """An :class:`ragstack.embedding.base.PipelinedEmbedder` behind an HTTP API.

    All requests share one client in one loop thread. Vectors are brought to length 1, whatever the server does. There
    are no token vectors. ``bm25`` makes the ``sparse`` output here. Nothing is asked of the server before it is used.

    Raises InputError and EmbeddingError for a tokenizer that cannot be had; EmbeddingError when the server cannot be
    reached, refuses a request, serves another model, or gives vectors that cannot be used.
    """

    def __init__(self, config: RemoteEmbedderConfig, bm25: Bm25Encoder | None = None) -> None:
        self._config = config
        self.bm25 = bm25 or Bm25Encoder()
        self._counting = remote_tokenizer(config.tokenizer)
        self._known = known_remote_model(config.model)
        self._client = EmbedClient(config)
        self._loop = LoopThread("ragstack-embed")
        self._asking = threading.Lock()
        self._info: ModelInfo | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """What counts tokens here: see ``embedder.tokenizer``."""
        return self._counting.tokenizer

    @property
    def info(self) -> ModelInfo:
        """What the pipeline must know of the model. The first time, the server is asked for what it alone knows."""
        with self._asking:
            if self._info is None:
                facts = ServerFacts() if self._asks_nothing else self._run(self._client.facts())
                self._check_model(facts)
                self._info = self._info_of(facts, self._dim())
            return self._info

    def info_without_asking(self) -> ModelInfo | None:
        """As :attr:`info`, from what the config says and what is known of the model; None where only the server can say
        how long a text may be. ``dim`` is 0 where the config does not say it.
        """
        if self._config.max_tokens is None and self._known is None:
            return None
        return self._info_of(ServerFacts(), self._config.dimensions or 0)

    @property
    def max_tokens_under_way(self) -> int:
        """See :class:`ragstack.embedding.base.RequestingEmbedder`."""
        return self._config.max_batch_tokens * self._config.max_concurrent_requests

    def embed(self, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output] = ("dense",)) -> Embeddings:
        """Vectors of ``texts``, in their order; see :class:`ragstack.embedding.base.Embedder`."""
        return self.submit(texts, input_type, outputs).result()

    def submit(
        self, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output] = ("dense",)
    ) -> _PendingVectors:
        """Begin with ``texts``; see :class:`ragstack.embedding.base.PipelinedEmbedder`."""
        _check_request(texts, input_type, outputs)
        request: Future[Float32Array] | None = None
        if "dense" in outputs:
            info = self.info
            prompt = self._config.query_prompt if input_type == "query" else self._config.passage_prompt
            prompted = [prompt + text for text in texts] if prompt else list(texts)
            request = self._begin(self._client.vectors(prompted, self._counts(prompted, info), input_type))
        return _PendingVectors(self, texts, input_type, "sparse" in outputs, request)

    def preload(self) -> None:
        """Ask the server what it serves; see :class:`ragstack.embedding.base.PipelinedEmbedder`."""
        _ = self.info

    def close(self) -> None:
        """Break off what is under way and release connections. Idempotent; later calls raise EmbeddingError."""
        self._loop.close(self._client.close())

    @cached_property
    def _asks_nothing(self) -> bool:
        """True where nothing that the server could say of its model is missing."""
        return self._config.api != "tei" and self._config.revision is not None and self._config.max_tokens is not None

    def _dim(self) -> int:
        if self._client.dim is None:
            self._run(self._client.vectors([_PROBE], self.tokenizer.count([_PROBE]), "query"))
        if self._client.dim is None:
            raise ValueError("a text was embedded, and yet its vector has no length")
        return self._client.dim

    def _check_model(self, facts: ServerFacts) -> None:
        config = self._config
        if facts.model is not None and _last_part(facts.model) != _last_part(config.model):
            raise self._client.errors.error(
                f"serves {facts.model}", "Set embedder.model to what the server runs, or base_url to the right server."
            )
        # What /models says is no revision that somebody could pin.
        if config.api == "tei" and None not in (config.revision, facts.revision) and config.revision != facts.revision:
            raise self._client.errors.error(
                f"serves revision {facts.revision}, not {config.revision}",
                "Start the server with --revision, or change embedder.revision: everything is embedded anew then.",
            )

    def _info_of(self, facts: ServerFacts, dim: int) -> ModelInfo:
        config, known = self._config, self._known or RemoteModel(_MAX_TOKENS, licence="unknown")
        count = self.tokenizer.count
        identity = {
            "format": _FORMAT,
            "api": config.api,
            "model": config.model,
            "revision": config.revision or facts.revision,
            "dim": dim,
            "tokenizer": self._counting.fingerprint,  # which says where chunks end
            "prompts": [config.query_prompt, config.passage_prompt],
            "input_types": [config.query_input_type, config.passage_input_type],
            "prompt_names": [config.query_prompt_name, config.passage_prompt_name],
            "tasks": [config.query_task, config.passage_task],
            "extra_body": config.extra_body,
            "sparse": self.bm25.fingerprint,
        }
        return ModelInfo(
            name=config.model,
            dim=dim,
            max_tokens=self._counting.readable(config.max_tokens or facts.max_tokens or known.max_tokens),
            token_dim=0,
            languages=config.languages or known.languages,
            licence=known.licence,
            fingerprint=sha256_hex(canonical_json(identity).encode("utf-8")),
            query_prompt_tokens=count([config.query_prompt])[0],
            passage_prompt_tokens=count([config.passage_prompt])[0],
        )

    def _counts(self, texts: Sequence[str], info: ModelInfo) -> list[int]:
        """The tokens of texts that have their prompts. Raises TextError for one too long: servers may cut it."""
        for index, text in enumerate(texts):
            _check_text(index, text)
        counts = self.tokenizer.count(texts)
        longest = max(counts, default=0)
        if longest > info.max_tokens:
            about, advice = (
                ("", "") if self._counting.is_exact else ("about ", ", or name the model's embedder.tokenizer")
            )
            raise TextError(
                counts.index(longest),
                f"{about}{longest} tokens; {info.name} reads at most {info.max_tokens}.",
                hint=f"Cut the text, or lower chunker.max_tokens{advice}.",
            )
        return counts

    def _begin(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        key = self._config.api_key
        if key is not None and key.get_secret_value() == MASKED_KEY:
            work.close()
            raise self._client.errors.error(
                "needs a key that is not known: an index keeps none, and the config names another model and server",
                "Index again with the new model, or go back to the config of the old one.",
            )
        try:
            return self._loop.submit(work)
        except RuntimeError as error:
            raise self._was_closed() from error

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._wait(self._begin(work))

    def _wait(self, request: Future[_T]) -> _T:
        try:
            return request.result()
        except CancelledError as error:
            raise self._was_closed() from error
        finally:
            request.cancel()  # when waiting was interrupted

    def _was_closed(self) -> RagstackError:
        return self._client.errors.error("is asked no more", "The embedder was closed.")


class _PendingVectors:
    """Texts at the server; see :class:`ragstack.embedding.base.PendingEmbeddings`."""

    def __init__(
        self,
        embedder: RemoteEmbedder,
        texts: Sequence[str],
        input_type: InputType,
        with_sparse: bool,
        request: Future[Float32Array] | None,
    ) -> None:
        self._embedder, self._texts, self._request = embedder, texts, request
        self._encode = None
        if with_sparse:
            bm25 = embedder.bm25
            self._encode = bm25.encode_passage if input_type == "passage" else bm25.encode_query_terms

    def result(self) -> Embeddings:
        """Wait for the vectors. Raises EmbeddingError."""
        try:
            # While the server is at work.
            sparse = None if self._encode is None else tuple(self._encode(text) for text in self._texts)
            dense = None if self._request is None else self._embedder._wait(self._request)
        finally:
            self.cancel()
        return Embeddings(dense=dense, sparse=sparse)

    def cancel(self) -> None:
        """Break off the requests. Idempotent; nothing after :meth:`result`."""
        if self._request is not None:
            self._request.cancel()


def _last_part(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].casefold()


def _check_request(texts: Sequence[str], input_type: InputType, outputs: Sequence[Output]) -> None:
    if isinstance(texts, str):
        raise InputError("embed takes a sequence of texts, got one string.", hint="Put it in a list.")
    if input_type not in get_args(InputType):
        raise InputError(f"input_type: expected query or passage, got {input_type!r}.")
    if not outputs or not set(outputs) <= set(get_args(Output)):
        raise InputError(f"outputs: expected some of {', '.join(get_args(Output))}; got {list(outputs)!r}.")
    if "tokens" in outputs:
        raise CapabilityError(
            "an embedder of type remote gives no token vectors.",
            hint="Set reranker.type to none, remote or cross_encoder, or embedder.type to local.",
        )


def _check_text(index: int, text: str) -> None:
    if not isinstance(text, str):
        raise TextError(index, f"expected a string, got {type(text).__name__}.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TextError(
            index,
            f"character {error.start} is a lone surrogate, which no UTF-8 text can hold.",
            hint="Decode the source with its right encoding, or replace the character.",
        ) from error
