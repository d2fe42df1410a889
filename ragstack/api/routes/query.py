"""Ask the corpus: answers with their chain, whole or as they are made; passages without an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from ragstack.api.checking import CheckedAnswer, CheckedCitation, CheckedEvent, CheckedSentence
from ragstack.api.errors import ErrorBody, error_detail, errors
from ragstack.api.limits import limited_filter, require_count
from ragstack.api.running import QueryRun
from ragstack.api.schemas import (
    CheckedCitationBody,
    DoneEvent,
    PassagesEvent,
    QueryBody,
    RetrieveBody,
    SentenceEvent,
)
from ragstack.api.security import Caller, caller_with
from ragstack.api.sse import EVENT_SCHEMA, KEEP_ALIVE, KEEP_ALIVE_S, EventStream, sse_event
from ragstack.api.state import State
from ragstack.citations.chain import Chain
from ragstack.config.server_security import LimitsConfig
from ragstack.errors import RagstackError
from ragstack.filters import all_of
from ragstack.retrieval.engine import QueryRequest

router = APIRouter(prefix="/v1", tags=["query"])
Asker = Annotated[Caller, Depends(caller_with("query"))]

STATUS_HEADER = "x-citation-status"
QUERY_ERRORS = (400, 401, 403, 413, 422, 429, 500, 502, 503, 504)
_SSE_EXAMPLE = (
    'event: passages\ndata: {"chain": {"format": "ragstack.chain/1", ...}}\n\n'
    'event: sentence\ndata: {"sentence": {...}, "citations": [{"citation": {...}, "status": "verified",'
    ' "detail": "source and archive agree"}], "delta": "Records are kept for ten years. [1]"}\n\n'
    'event: done\ndata: {"chain": {"format": "ragstack.chain/1", ...}}\n\n'
)
_STATUS_DOC = {
    STATUS_HEADER: {
        "description": "How many citations of the answer have which status, as in `verified=3, source_changed=1`; "
        "each was checked against archive and source before it was sent.",
        "schema": {"type": "string"},
    }
}


@router.post(
    "/query",
    response_model=Chain,
    responses={
        200: {
            "description": "The chain; with `stream` the events `passages`, `sentence`…, `done`, or `error`.",
            "headers": _STATUS_DOC,
            "content": {"text/event-stream": {"schema": EVENT_SCHEMA, "example": _SSE_EXAMPLE}},
        },
        **errors(*QUERY_ERRORS),
    },
)
async def query(body: QueryBody, request: Request, state: State, caller: Asker) -> Response:
    """Answer a question from the corpus, with citations.

    The answer is `answer` of the chain. A fault of the language model is in `answer.error`; the passages stand.
    An empty `answer.text` means that nothing in the corpus answers the question.
    """
    run = QueryRun(state, request, caller, _request(body, caller, state.config.limits, with_answer=True))
    return await (_streamed(run, request) if body.stream else _whole(run))


@router.post("/retrieve", response_model=Chain, responses=errors(*QUERY_ERRORS))
async def retrieve(body: RetrieveBody, request: Request, state: State, caller: Asker) -> Response:
    """The passages for a question, best first: the chain without an answer."""
    wanted = _request(body, caller, state.config.limits, with_answer=False)
    return await _whole(QueryRun(state, request, caller, wanted))


def _request(body: RetrieveBody, caller: Caller, limits: LimitsConfig, *, with_answer: bool) -> QueryRequest:
    history = body.turns() if isinstance(body, QueryBody) else []
    require_count("turns of history", history, limits.max_history_turns)
    wanted = limited_filter(body.parsed_filter(), limits)
    return QueryRequest(body.query, all_of(caller.filter, wanted), body.top_n, with_answer, history)


async def _whole(run: QueryRun) -> Response:
    answer = await run.answer()
    return JSONResponse(answer.chain.to_json(), headers=status_header(answer.citations))


async def _streamed(run: QueryRun, request: Request) -> Response:
    return EventStream(_events(run, await run.first(), request), run.leave)


async def _events(run: QueryRun, first: CheckedEvent, request: Request) -> AsyncGenerator[bytes, None]:
    try:
        event: CheckedEvent | None = first
        while not isinstance(event, CheckedAnswer):
            yield KEEP_ALIVE if event is None else sse_event(*_told(event))
            event = await run.next_within(KEEP_ALIVE_S)
        yield sse_event(*_told(event))
    except RagstackError as error:
        yield sse_event(ErrorBody(error=error_detail(request, error)).model_dump(), "error")


def _told(event: CheckedEvent) -> tuple[dict[str, Any], str]:
    if isinstance(event, CheckedSentence):
        citations = [CheckedCitationBody.of(checked) for checked in event.citations]
        told = SentenceEvent(sentence=event.sentence, citations=citations, delta=event.delta)
        return told.model_dump(mode="json"), "sentence"
    if isinstance(event, CheckedAnswer):
        return DoneEvent(chain=event.chain).model_dump(mode="json"), "done"
    return PassagesEvent(chain=event.chain).model_dump(mode="json"), "passages"


def status_header(citations: tuple[CheckedCitation, ...]) -> dict[str, str]:
    """The header that says what the check of an answer's citations gave; none for an answer without."""
    counts = Counter(checked.status for checked in citations)
    return {STATUS_HEADER: ", ".join(f"{status}={count}" for status, count in counts.items())} if counts else {}
