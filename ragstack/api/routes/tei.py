"""The routes of Hugging Face's text-embeddings-inference (TEI) for an embedding model and a re-ranker.

Where this server differs from TEI is told in docs/model-server.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from pydantic_core import to_json

from ragstack.api.dialects import TeiErrorBody, TeiRoute
from ragstack.api.errors import ErrorBody
from ragstack.api.model_errors import ModelRequestError
from ragstack.api.model_server import EmbeddedTexts, ModelServer
from ragstack.api.model_texts import TextInput, Truncate, texts_of
from ragstack.api.security import QueryCaller
from ragstack.api.state import State
from ragstack.api.tei_schemas import (
    DecodeRequest,
    EmbedAllRequest,
    EmbedRequest,
    Info,
    Rank,
    RerankRequest,
    SimilarityRequest,
    TextsRequest,
    Token,
    TokenizeRequest,
)
from ragstack.embedding.base import InputType, Output, VocabularyTokenizer
from ragstack.errors import EmbeddingError
from ragstack.types import Float32Array
from ragstack.version import __version__

_FAULTS: dict[int | str, dict[str, Any]] = {
    400: {"model": TeiErrorBody, "description": "There is no text."},
    401: {"model": ErrorBody, "description": "No API key, or one that is not known."},
    403: {"model": TeiErrorBody, "description": "The key has not the scope `query`."},
    408: {"model": ErrorBody, "description": "The body paused for too long."},
    413: {"model": TeiErrorBody | ErrorBody, "description": "Too many texts, a text or a body that is too long."},
    422: {"model": TeiErrorBody, "description": "The body does not fit the schema, or a text cannot be tokenised."},
    424: {"model": TeiErrorBody, "description": "The model failed, or is not of the kind that the route needs."},
    429: {"model": TeiErrorBody | ErrorBody, "description": "Model is overloaded, or the key sends too much."},
    500: {"model": TeiErrorBody, "description": "The server failed."},
    503: {"model": TeiErrorBody, "description": "The model is not loaded, or the server shuts down."},
}
_TASKS: dict[str, InputType] = {
    "retrieval.query": "query",
    "retrieval.passage": "passage",
    "query": "query",
    "passage": "passage",
    "document": "passage",
}
"""Values of ``task`` and ``prompt_name`` by the input type that they stand for."""

router = APIRouter(tags=["text-embeddings-inference"], route_class=TeiRoute)
_Result = TypeVar("_Result")
Task = Annotated[str | None, Query(description="`retrieval.query` or `retrieval.passage`, for models that tell them.")]


@router.post("/embed", response_model=list[list[float]], responses=_FAULTS)
@router.post("/", response_model=list[list[float]], responses=_FAULTS)
async def embed(body: EmbedRequest, state: State, caller: QueryCaller, task: Task = None) -> Response:
    """Vectors of texts, each of length 1. TEI serves an embedding model's route at ``/``, too."""
    if not body.normalize:
        raise ModelRequestError("unsupported", "`normalize`: this server gives vectors of length 1 alone")
    started = time.perf_counter()
    embedded = await _embed(state.models, body, task, ("dense",))
    dense = _shortened(embedded.dense, body.dimensions)
    content = await state.models.encoded(dense, lambda: to_json(dense.tolist()))
    return _answer(content, body.inputs, embedded, started)


@router.post("/embed_all", response_model=list[list[list[float]]], responses=_FAULTS)
async def embed_all(body: EmbedAllRequest, state: State, caller: QueryCaller, task: Task = None) -> Response:
    """The vector of each token of each text, special tokens left out, each of length 1."""
    started = time.perf_counter()
    embedded = await _embed(state.models, body, task, ("dense", "tokens"))
    vectors = [found.vectors for found in embedded.tokens or ()]
    everything = np.concatenate(vectors)
    content = await state.models.encoded(everything, lambda: to_json([found.tolist() for found in vectors]))
    return _answer(content, body.inputs, embedded, started)


@router.post("/embed_sparse", response_model=None, responses=_FAULTS)
@router.post("/predict", response_model=None, responses=_FAULTS)
async def not_served(request: Request, caller: QueryCaller) -> Response:
    """Answered 424, as TEI answers for a model that is neither SPLADE nor a classifier."""
    kind = "splade embedding" if request.url.path == "/embed_sparse" else "classifier"
    raise ModelRequestError("unsupported", f"model is not a {kind} model")


@router.post("/rerank", response_model=list[Rank], response_model_exclude_none=True, responses=_FAULTS)
async def rerank(body: RerankRequest, state: State, caller: QueryCaller) -> list[Rank]:
    """Texts by how well they answer the query, best first, with the pipeline's reranker."""
    ranked = await state.models.rank(
        body.query,
        body.texts,
        param="texts",
        truncate=_truncate(body.truncate, body.truncation_direction),
        with_corpus=caller.filter is None,
    )
    return [
        Rank(
            index=found.index,
            score=found.score if body.raw_scores else 1 / (1 + math.exp(-found.score)),
            text=body.texts[found.index] if body.return_text else None,
        )
        for found in ranked
    ]


@router.post("/similarity", responses=_FAULTS)
async def similarity(body: SimilarityRequest, state: State, caller: QueryCaller) -> list[float]:
    """The cosine of the source sentence and each of the others."""
    texts = [body.inputs.source_sentence, *body.inputs.sentences]
    if len(texts) == 1:
        raise ModelRequestError("empty", "`inputs.sentences` cannot be empty")
    dense = (await state.models.embed(texts, param="inputs")).dense
    cosines: list[float] = (dense[1:] @ dense[0]).tolist()
    return cosines


@router.post("/tokenize", responses=_FAULTS)
async def tokenize(body: TokenizeRequest, state: State, caller: QueryCaller) -> list[list[Token]]:
    """The tokens of texts, as the embedding model reads them."""
    models = state.models
    models.check_size(body.inputs, "inputs")

    def pieces() -> list[list[Token]]:
        tokenizer = _vocabulary(models)
        return [
            [
                Token(id=t.token_id, text=t.text, special=t.special, start=t.byte_start, stop=t.byte_end)
                for t in tokenizer.pieces(text, with_specials=body.add_special_tokens)
            ]
            for text in texts_of(models.embedder, body.inputs, "inputs")
        ]

    return await models.in_thread(lambda: _tokenized(pieces))


@router.post("/decode", responses=_FAULTS)
async def decode(body: DecodeRequest, state: State, caller: QueryCaller) -> list[str]:
    """The texts of token ids."""
    models = state.models
    models.check_size(body.ids, "ids")
    if not body.ids:
        raise ModelRequestError("empty", "`ids` cannot be empty")
    several: list[list[int]] = [body.ids] if isinstance(body.ids[0], int) else body.ids

    def texts() -> list[str]:
        tokenizer = _vocabulary(models)
        return [tokenizer.decode(ids, skip_specials=body.skip_special_tokens) for ids in several]

    return await models.in_thread(lambda: _tokenized(texts))


@router.get("/info", responses=_FAULTS)
async def info(state: State, caller: QueryCaller) -> Info:
    """What is served, and its limits."""
    models, settings = state.models, state.models.settings
    embedder = await models.in_thread(lambda: models.embedder)
    tokenizer = embedder.tokenizer
    return Info(
        model_id=embedder.info.name,
        model_sha=getattr(state.pipeline.config.embedder, "revision", None),
        model_dtype="float32",
        model_type={"embedding": {"pooling": embedder.info.pooling}},
        max_concurrent_requests=settings.max_concurrent_requests,
        max_input_length=embedder.info.max_tokens
        + (tokenizer.specials if isinstance(tokenizer, VocabularyTokenizer) else 0),
        max_batch_tokens=models.worker.max_batch_tokens,
        max_batch_requests=None,
        max_client_batch_size=models.max_texts,
        auto_truncate=False,
        tokenization_workers=models.tokenization_workers,
        version=__version__,
        sha=None,
        docker_label=None,
    )


@router.get("/health", response_class=Response, responses={503: _FAULTS[503]})
@router.get("/ping", response_class=Response, include_in_schema=False)
async def health(state: State) -> Response:
    """200 with no body once the model is loaded."""
    if state.models.worker.state != "ready":
        raise ModelRequestError("unavailable", "unhealthy")
    return Response()


async def _embed(
    models: ModelServer, body: TextsRequest, task: str | None, outputs: tuple[Output, ...]
) -> EmbeddedTexts:
    return await models.embed(
        body.inputs,
        param="inputs",
        input_type=_input_type(task, body.prompt_name),
        truncate=_truncate(body.truncate, body.truncation_direction),
        outputs=outputs,
    )


def _input_type(task: str | None, prompt_name: str | None) -> InputType | None:
    found: set[InputType] = set()
    for name, value in (("task", task), ("prompt_name", prompt_name)):
        if value is not None:
            if value not in _TASKS:
                raise ModelRequestError("malformed", f"`{name}`: {value[:100]!r} is none of {', '.join(_TASKS)}")
            found.add(_TASKS[value])
    if len(found) > 1:
        raise ModelRequestError("malformed", "`task` and `prompt_name` contradict each other")
    return next(iter(found), None)


def _truncate(truncate: bool | None, direction: Literal["left", "right"]) -> Truncate:
    if not truncate:
        return "NONE"
    return "END" if direction == "right" else "START"


def _shortened(dense: Float32Array, dimensions: int | None) -> Float32Array:
    if dimensions is None or dimensions == dense.shape[1]:
        return dense
    if dimensions > dense.shape[1]:
        raise ModelRequestError("malformed", f"`dimensions` must be at most {dense.shape[1]}. Given: {dimensions}")
    first = dense[:, :dimensions]
    lengths = np.linalg.norm(first, axis=1, keepdims=True)
    return np.asarray(first / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def _vocabulary(models: ModelServer) -> VocabularyTokenizer:
    tokenizer = models.embedder.tokenizer
    if not isinstance(tokenizer, VocabularyTokenizer):
        raise ModelRequestError("unreadable", f"the tokens of {models.embedder.info.name} have no ids")
    return tokenizer


def _tokenized(call: Callable[[], _Result]) -> _Result:
    try:
        return call()
    except EmbeddingError as error:
        raise ModelRequestError("unreadable", error.message) from error


def _answer(content: bytes, inputs: TextInput, embedded: EmbeddedTexts, started: float) -> Response:
    """The response with TEI's headers; times are milliseconds."""
    return Response(
        content,
        media_type="application/json",
        headers={
            "x-compute-characters": str(_characters(inputs)),
            "x-compute-tokens": str(sum(embedded.token_counts)),
            "x-total-time": _milliseconds(time.perf_counter() - started),
            "x-tokenization-time": _milliseconds(embedded.tokenize_s),
            "x-queue-time": _milliseconds(embedded.queue_s),
            "x-inference-time": _milliseconds(embedded.embed_s),
        },
    )


def _characters(inputs: TextInput) -> int:
    texts: Sequence[object] = [inputs] if isinstance(inputs, str) else inputs
    return sum(len(text) for text in texts if isinstance(text, str))


def _milliseconds(seconds: float) -> str:
    return str(round(1000 * seconds))
