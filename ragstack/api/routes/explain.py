"""Explain a query: how its passages were found, and what became of one that was expected."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, StrictBool

from ragstack.api.answered import explained
from ragstack.api.errors import errors, request_id_of
from ragstack.api.limits import limited_filter, require_count
from ragstack.api.routes.query import QUERY_ERRORS, status_header
from ragstack.api.running import QueryRun
from ragstack.api.schemas import RetrieveBody, TurnBody
from ragstack.api.security import Caller, caller_with
from ragstack.api.state import AppState, State
from ragstack.citations.chain import Chain
from ragstack.errors import StoreUnavailableError
from ragstack.filters import Filter, all_of
from ragstack.generation.base import Turn
from ragstack.retrieval.engine import QueryRequest
from ragstack.retrieval.explain.explanation import Explanation
from ragstack.retrieval.explain.target import Expected, parse_expected

router = APIRouter(prefix="/v1", tags=["query"])
Asker = Annotated[Caller, Depends(caller_with("query"))]
_ATTEMPTS = 4


class ExplainBody(RetrieveBody):
    """A question whose answer is to be explained."""

    expected: str | None = Field(
        default=None,
        min_length=1,
        description="What should have been found: a source id, `ID:LINE`, `ID:FIRST-LAST`, `ID@START-END` (bytes of the"
        " canonical text), a chunk id, or a text in quotes. With the scope admin, paths of the server's machine too."
        " Null: the passages that were found, and near misses.",
        examples=["corpus/records.md:12"],
    )
    answer: StrictBool = Field(default=True, description="Make an answer too; it says which passages are cited.")
    history: list[TurnBody] = Field(default_factory=list, description="The turns before the question, oldest first.")


@router.post("/explain", response_model=Explanation, responses=errors(*QUERY_ERRORS))
async def explain(body: ExplainBody, request: Request, state: State, caller: Asker) -> Response:
    """Answer a question, and say how: where an expected passage was lost, and what would have changed that.

    What the filter of the API key hides is as if it did not exist. Files and folders of the server's machine are told
    of to callers with the scope admin alone.
    """
    limits = state.config.limits
    require_count("turns of history", body.history, limits.max_history_turns)
    expected = None if body.expected is None else parse_expected(body.expected)
    wanted = limited_filter(body.parsed_filter(), limits)
    turns = [Turn(turn.role, turn.content) for turn in body.history]
    for _ in range(_ATTEMPTS):
        query = QueryRequest(body.query, all_of(caller.filter, wanted), body.top_n, body.answer, turns)
        answer = await QueryRun(state, request, caller, query).answer()
        explanation = await anyio.to_thread.run_sync(
            _explain, state, caller, answer.chain, expected, wanted, request_id_of(request), limiter=state.queries
        )
        if explanation is not None:
            return JSONResponse(explanation.to_json(), headers=status_header(answer.citations))
    raise StoreUnavailableError(
        "the index was changed each time before the query could be explained.",
        hint="Ask again when indexing has ended.",
    )


def _explain(
    state: AppState, caller: Caller, chain: Chain, expected: Expected | None, wanted: Filter | None, request_id: str
) -> Explanation | None:
    owns_machine = caller.filter is None and caller.may("admin")
    # Who does not run the server is not told what its config keeps from every query.
    hidden = None if owns_machine else all_of(caller.filter, state.pipeline.config.retrieval.parsed_filter())
    explanation = state.pipeline.explain_chain(chain, expected, wanted, hidden, with_files=owns_machine)
    if explanation is not None:
        explained(state, caller, explanation, request_id)
    return explanation
