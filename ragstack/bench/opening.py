"""From options to what is measured: the config's parts in this process, or a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from ragstack.assembly import text_reranker
from ragstack.bench.local import LocalEmbedder, LocalEndpoint, LocalQueries, LocalReranker, ReadsPairs
from ragstack.bench.plan import BenchKind, Load
from ragstack.bench.target import Endpoint
from ragstack.bench.texts import TextMaker
from ragstack.bench.wire import (
    EMBED_APIS,
    QUERY_APIS,
    RERANK_APIS,
    BenchApi,
    EncodingFormat,
    base_url,
    require_api,
    spoken,
)
from ragstack.bench.work import AddedTokens, AnyWork, Question, RerankWork, TextWork, WorkMaker
from ragstack.config.embedders import RemoteEmbedderConfig
from ragstack.config.http_urls import require_http_url
from ragstack.config.rerankers import RemoteRerankerConfig
from ragstack.embedding import remote_apis as embed_apis
from ragstack.embedding.base import Embedder
from ragstack.embedding.remote_tokens import remote_tokenizer
from ragstack.embedding.tokenizer import TextTokenizer, json_tokenizer
from ragstack.errors import InputError, MissingExtraError
from ragstack.pipeline import Pipeline
from ragstack.reranking import remote_apis as rerank_apis
from ragstack.types import Tokenizer

if TYPE_CHECKING:
    from ragstack.bench.remote import RemoteApi


PIPELINE_NAME = "ragstack"
"""What our own server answers to, and what is sent to others that ask for no name."""


@dataclass(frozen=True)
class ServerOptions:
    """A server and how it is asked. ``timeout_s`` bounds each request."""

    url: str
    api: BenchApi
    model: str | None = None
    api_key: SecretStr | None = None
    timeout_s: float = 60.0
    encoding_format: EncodingFormat = "float"
    dimensions: int | None = None


@dataclass(frozen=True)
class TextOptions:
    """Where texts come from: a ``tokenizer`` (None: the model's own, or the config's), ``questions``, a ``seed``.

    ``added_tokens`` are those that the model adds to each text; None: the special tokens of the tokenizer, and of a
    model in this process its prompt.
    """

    seed: int = 0
    tokenizer: str | None = None
    added_tokens: int | None = None
    questions: Sequence[str] = ()


@dataclass(frozen=True)
class QueryOptions:
    """What is asked of an index: ``top_n`` passages (None: as configured), and an answer."""

    top_n: int | None = None
    with_answer: bool = True


def open_local(
    kind: BenchKind, pipeline: Pipeline, loads: Sequence[Load], texts: TextOptions, queries: QueryOptions
) -> LocalEndpoint:
    """What the config names, in this process; the caller closes the pipeline.

    Raises InputError for loads that can never be done, and what opening the parts raises.
    """
    threads = max(load.concurrency for load in loads)
    if kind == "query":
        asked = WorkMaker(None, AddedTokens(), "", questions=texts.questions)
        endpoint = LocalEndpoint(kind, LocalQueries(pipeline, queries.top_n, queries.with_answer), asked, threads)
    elif kind == "rerank":
        endpoint = LocalEndpoint(kind, LocalReranker(pipeline), _reranker_maker(pipeline, texts), threads)
    else:
        endpoint = LocalEndpoint(kind, LocalEmbedder(pipeline.embedder), _embedder_maker(pipeline, texts), threads)
    _check(endpoint, loads, endpoint.maker)
    return endpoint


def open_remote(
    kind: BenchKind,
    server: ServerOptions,
    pipeline: Pipeline,
    loads: Sequence[Load],
    texts: TextOptions,
    queries: QueryOptions,
) -> Endpoint:
    """A server. The pipeline's embedder lends its tokenizer where none is named. Nothing is connected yet.

    Raises InputError for options that do not fit together, MissingExtraError without httpx.
    """
    try:
        from ragstack.bench.remote import RemoteEndpoint  # noqa: PLC0415 - an optional package
    except ImportError as error:
        if error.name != "httpx":
            raise
        raise MissingExtraError("a server", "client") from error
    remote = _remote_api(kind, server, queries)
    if kind == "query":
        maker = WorkMaker(None, AddedTokens(), "", questions=texts.questions)
    else:
        maker = _maker_of(*_named_tokenizer(pipeline, texts.tokenizer), texts)
    most = max(load.concurrency for load in loads)
    endpoint = RemoteEndpoint(remote, maker, server.model, server.api_key, server.timeout_s, most)
    _check(endpoint, loads, maker)
    return endpoint


def _check(endpoint: Endpoint, loads: Sequence[Load], maker: WorkMaker) -> None:
    endpoint.check(loads)
    for load in loads:
        maker.work(load, 0)  # which raises InputError where its texts cannot be made


def _embedder_maker(pipeline: Pipeline, texts: TextOptions) -> WorkMaker:
    embedder = pipeline.embedder
    tokenizer, name = (
        _own_tokenizer(embedder) if texts.tokenizer is None else _named_tokenizer(pipeline, texts.tokenizer)
    )
    if texts.added_tokens is not None or texts.tokenizer is not None:
        return _maker_of(tokenizer, name, texts)
    specials, info = _specials(tokenizer), embedder.info
    added = AddedTokens(specials + info.query_prompt_tokens, specials + info.passage_prompt_tokens)
    return WorkMaker(TextMaker(tokenizer, texts.seed), added, name, texts.seed)


def _reranker_maker(pipeline: Pipeline, texts: TextOptions) -> WorkMaker:
    reranker = None if text_reranker(pipeline.config).type == "none" else pipeline.text_reranker
    if texts.tokenizer is None and isinstance(reranker, ReadsPairs):
        tokenizer = TextTokenizer(reranker.tokenizer(), "")
        maker = TextMaker(tokenizer, texts.seed)
        query, passage = maker.text(2, 0), maker.text(2, 1)
        # A template may add far more than the tokenizer's special tokens.
        pair = reranker.pair_tokens(query, [passage])[0] - 4 if texts.added_tokens is None else texts.added_tokens
        return WorkMaker(maker, AddedTokens(pair=pair), reranker.name, texts.seed)
    return _maker_of(*_named_tokenizer(pipeline, texts.tokenizer), texts)


def _maker_of(tokenizer: Tokenizer, name: str, texts: TextOptions) -> WorkMaker:
    given = texts.added_tokens
    specials = _specials(tokenizer) if given is None else given
    pair = given if given is not None else tokenizer.pair_specials if isinstance(tokenizer, TextTokenizer) else 0
    return WorkMaker(TextMaker(tokenizer, texts.seed), AddedTokens(specials, specials, pair), name, texts.seed)


def _named_tokenizer(pipeline: Pipeline, name: str | None) -> tuple[Tokenizer, str]:
    """The tokenizer of a registered model, a folder, a ``tokenizer.json`` or tiktoken; None: the embedder's."""
    if name is None:
        return _own_tokenizer(pipeline.embedder)
    path = Path(name)
    if path.is_dir():
        path = path / "tokenizer.json"
    if path.is_file():
        return json_tokenizer(path), str(path)
    try:
        return remote_tokenizer(name).tokenizer, name
    except InputError as error:
        raise InputError(
            f"--tokenizer {name!r}: neither a file, nor the name of a model, nor an encoding of tiktoken.",
            hint="Name a tokenizer.json, a folder that has one, or a model of `ragstack models`.",
        ) from error


def _own_tokenizer(embedder: Embedder) -> tuple[Tokenizer, str]:
    return embedder.tokenizer, embedder.info.name


def _specials(tokenizer: Tokenizer) -> int:
    return tokenizer.specials if isinstance(tokenizer, TextTokenizer) else 0


def _remote_api(kind: BenchKind, server: ServerOptions, queries: QueryOptions) -> RemoteApi:
    try:
        require_http_url(server.url, "http://host:port or https://host, with a path where the API has one")
    except ValueError as error:
        raise InputError(f"--url: {error}.".replace("api_key", "the variable of --api-key-env")) from error
    if kind == "embed":
        return _embedding_api(server)
    return _reranking_api(server) if kind == "rerank" else _query_api(server, queries)


def _embedding_api(server: ServerOptions) -> RemoteApi:
    from ragstack.bench.remote import RemoteApi  # noqa: PLC0415 - an optional package

    require_api(server.api, EMBED_APIS, "embeddings", server.model)
    config = RemoteEmbedderConfig(
        type="remote",
        api=spoken(server.api),
        base_url=base_url(server.url, server.api),
        model=server.model or PIPELINE_NAME,
        encoding_format=server.encoding_format,
        dimensions=server.dimensions,
    )

    def body(work: AnyWork) -> Any:
        assert isinstance(work, TextWork)
        return embed_apis.request_body(config, work.texts, work.input_type)

    def check(reply: Any, work: AnyWork) -> dict[str, float]:
        assert isinstance(work, TextWork)
        embed_apis.read_vectors(config, reply, len(work.texts), server.dimensions)
        return {}

    return RemoteApi(server.api, embed_apis.request_url(config), body, check)


def _reranking_api(server: ServerOptions) -> RemoteApi:
    from ragstack.bench.remote import RemoteApi  # noqa: PLC0415 - an optional package

    require_api(server.api, RERANK_APIS, "reranking", server.model)
    url = base_url(server.url, server.api)
    config = RemoteRerankerConfig.model_validate(
        {"type": "remote", "api": spoken(server.api), "base_url": url, "model": server.model or PIPELINE_NAME}
    )

    def body(work: AnyWork) -> Any:
        assert isinstance(work, RerankWork)
        return rerank_apis.request_body(config, work.query, work.passages)

    def check(reply: Any, work: AnyWork) -> dict[str, float]:
        assert isinstance(work, RerankWork)
        scores = rerank_apis.read_scores(config, reply, len(work.passages))
        if not all(abs(score) < float("inf") for score in scores):  # false for NaN, too
            raise ValueError("a score that is no finite number")
        return {}

    return RemoteApi(server.api, url + rerank_apis.APIS[config.api].path, body, check)


def _query_api(server: ServerOptions, queries: QueryOptions) -> RemoteApi:
    from ragstack.bench.remote import RemoteApi  # noqa: PLC0415 - an optional package

    require_api(server.api, QUERY_APIS, "queries", None)
    url = base_url(server.url, server.api) + ("/query" if queries.with_answer else "/retrieve")

    def body(work: AnyWork) -> Any:
        assert isinstance(work, Question)
        return {"query": work.text, **({} if queries.top_n is None else {"top_n": queries.top_n})}

    def check(reply: Any, work: AnyWork) -> dict[str, float]:
        if not isinstance(reply, dict) or not isinstance(reply.get("passages"), list):
            raise ValueError("no citation chain")
        answer = reply.get("answer")
        if isinstance(answer, dict) and answer.get("error"):
            raise ValueError(f"no answer: {answer['error']}")
        stages = reply.get("timings_s")
        return {name: float(value) for name, value in stages.items()} if isinstance(stages, dict) else {}

    return RemoteApi(server.api, url, body, check)
