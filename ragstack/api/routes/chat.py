"""Any client of OpenAI's chat completions talks to the corpus; citations ride along."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from ragstack.api.chat_schemas import AnswerMessage, ChatBody, ChatCompletion, Choice, IndexedCitation, Usage
from ragstack.api.checking import CheckedAnswer, CheckedCitation, CheckedEvent, CheckedSentence
from ragstack.api.errors import ErrorBody, error_detail, errors, status_of
from ragstack.api.limits import limited_filter, require_count
from ragstack.api.openai_errors import OpenAIRoute, openai_detail
from ragstack.api.routes.query import QUERY_ERRORS, status_header
from ragstack.api.running import QueryRun
from ragstack.api.security import Caller, caller_with
from ragstack.api.served_models import PIPELINE_MODEL, unknown_model
from ragstack.api.sse import EVENT_SCHEMA, KEEP_ALIVE, KEEP_ALIVE_S, EventStream, sse_event
from ragstack.api.state import AppState, State
from ragstack.citations.chain import AnswerLink, Chain
from ragstack.errors import GenerationError, RagstackError
from ragstack.filters import all_of, parse_filter
from ragstack.retrieval.engine import QueryRequest

router = APIRouter(prefix="/v1/chat", tags=["chat"], route_class=OpenAIRoute)
Asker = Annotated[Caller, Depends(caller_with("query"))]

NOTHING_ANSWERS = "Nothing in the corpus answers this."
_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class _Completion:
    """What the parts of one answer have in common."""

    id: str
    created: int
    prompt: str

    def chunk(self, choices: Sequence[dict[str, Any]], **more: Any) -> bytes:
        """One event of a stream."""
        return sse_event(
            {
                "id": self.id,
                "object": "chat.completion.chunk",
                "created": self.created,
                "model": PIPELINE_MODEL,
                "choices": list(choices),
                **more,
            }
        )


@router.post(
    "/completions",
    response_model=ChatCompletion,
    responses={
        200: {
            "description": "The completion; with `stream`, chunks as server-sent events and `[DONE]`.",
            "content": {"text/event-stream": {"schema": EVENT_SCHEMA}},
        },
        **errors(*(status for status in QUERY_ERRORS if status != 422), 404),
    },
)
async def chat_completions(body: ChatBody, request: Request, state: State, caller: Asker) -> Response:
    """Answer the last message from the corpus.

    The content has markers `[n]`; `message.citations` says what they stand for, each checked before it was sent. In a
    stream, `delta.citations` brings those of its sentence, and the last chunk with a choice all of them with
    `chain_digest`. When nothing in the corpus answers, the content says so and there are no citations.
    """
    if body.model != PIPELINE_MODEL:
        raise unknown_model(body.model, [PIPELINE_MODEL])
    history, question = body.conversation()
    parsed = None if body.filter is None else parse_filter(body.filter)
    require_count("turns of history", history, state.config.limits.max_history_turns)
    parsed = limited_filter(parsed, state.config.limits)
    query = QueryRequest(question, all_of(caller.filter, parsed), body.top_n, True, history)
    completion = _Completion(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), question)
    run = QueryRun(state, request, caller, query)
    if body.stream:
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        return await _streamed(run, request, state, completion, include_usage=include_usage)
    return await _whole(run, state, completion)


async def _whole(run: QueryRun, state: AppState, completion: _Completion) -> Response:
    found = await run.answer()
    answer = _answer_of(found.chain)
    message = AnswerMessage(
        content=answer.text or NOTHING_ANSWERS,
        citations=_indexed(found.citations, 0),
        chain_digest=found.chain.digest,
    )
    whole = ChatCompletion(
        id=completion.id,
        created=completion.created,
        model=PIPELINE_MODEL,
        choices=[Choice(message=message, finish_reason="length" if answer.truncated else "stop")],
        usage=await _usage(state, completion.prompt, answer),
    )
    return JSONResponse(whole.model_dump(mode="json"), headers=status_header(found.citations))


async def _streamed(
    run: QueryRun, request: Request, state: AppState, completion: _Completion, *, include_usage: bool
) -> Response:
    first = await run.first()
    return EventStream(_chunks(run, first, request, state, completion, include_usage=include_usage), run.leave)


async def _chunks(
    run: QueryRun,
    first: CheckedEvent,
    request: Request,
    state: AppState,
    completion: _Completion,
    *,
    include_usage: bool,
) -> AsyncGenerator[bytes, None]:
    # Where usage is asked for, every chunk has the field and only the last one a value, as OpenAI does it.
    usage: dict[str, Any] = {"usage": None} if include_usage else {}
    try:
        yield completion.chunk([_delta({"role": "assistant", "content": ""})], **usage)
        event: CheckedEvent | None = first
        told = 0
        while not isinstance(event, CheckedAnswer):
            if isinstance(event, CheckedSentence):
                delta: dict[str, Any] = {"content": event.delta}
                if event.citations:
                    delta["citations"] = [c.model_dump(mode="json") for c in _indexed(event.citations, told)]
                    told += len(event.citations)
                yield completion.chunk([_delta(delta)], **usage)
            elif event is None:
                yield KEEP_ALIVE
            event = await run.next_within(KEEP_ALIVE_S)
        answer = _answer_of(event.chain)
        if not answer.text:
            yield completion.chunk([_delta({"content": NOTHING_ANSWERS})], **usage)
        extra = {
            "citations": [c.model_dump(mode="json") for c in _indexed(event.citations, 0)],
            "chain_digest": event.chain.digest,
        }
        yield completion.chunk([_delta({}, "length" if answer.truncated else "stop")], **usage, **extra)
        if include_usage:
            counted = await _usage(state, completion.prompt, answer)
            yield completion.chunk([], usage=counted.model_dump())
        yield _DONE
    except RagstackError as error:
        yield sse_event(ErrorBody(error=openai_detail(error_detail(request, error), status_of(error))).model_dump())


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _indexed(citations: Sequence[CheckedCitation], start: int) -> list[IndexedCitation]:
    return [
        IndexedCitation(index=number, citation=checked.citation, status=checked.status, detail=checked.detail)
        for number, checked in enumerate(citations, start)
    ]


def _answer_of(chain: Chain) -> AnswerLink:
    """The answer. Raises GenerationError where it broke off: clients of this route know no half answers."""
    assert chain.answer is not None, "the query asked for an answer"
    if chain.answer.error is not None:
        raise GenerationError(chain.answer.error.message, hint=chain.answer.error.hint)
    return chain.answer


async def _usage(state: AppState, prompt: str, answer: AnswerLink) -> Usage:
    if answer.prompt_tokens is not None and answer.completion_tokens is not None:
        return Usage.of(answer.prompt_tokens, answer.completion_tokens)
    texts = [prompt, answer.text or NOTHING_ANSWERS]
    counts = await anyio.to_thread.run_sync(state.pipeline.embedder.tokenizer.count, texts, limiter=state.threads)
    return Usage.of(int(counts[0]), int(counts[1]))
