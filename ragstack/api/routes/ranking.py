"""Rankings as NIM serves them."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictStr

from ragstack.api.dialects import OpenAIModelRoute
from ragstack.api.routes.embeddings import OPENAI_FAULTS
from ragstack.api.security import QueryCaller
from ragstack.api.state import State

router = APIRouter(tags=["models"], route_class=OpenAIModelRoute)

_EXAMPLE: dict[str, JsonValue] = {
    "model": "all-MiniLM-L6-v2",
    "query": {"text": "How often is the pump checked?"},
    "passages": [{"text": "The pump is checked every Monday."}, {"text": "The log is in room 12."}],
    "truncate": "END",
}


class RankedText(BaseModel):
    """A query or a passage."""

    text: StrictStr


class RankingRequest(BaseModel):
    """A query, and the passages to be ordered."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    model: str | None = Field(default=None, description="The embedding model's name, or the reranker's type.")
    query: RankedText
    passages: list[RankedText]
    truncate: Literal["NONE", "END"] = Field(
        default="NONE", description="What is cut off a text that is too long; NONE: an error."
    )


class RankingItem(BaseModel):
    """One passage by its position in the request; a larger ``logit`` answers the query better."""

    index: int
    logit: float


class RankingResponse(BaseModel):
    """All passages, best first."""

    rankings: list[RankingItem]


@router.post("/v1/ranking", responses=OPENAI_FAULTS)
async def ranking(body: RankingRequest, state: State, caller: QueryCaller) -> RankingResponse:
    """Passages by how well they answer the query, with the pipeline's reranker."""
    ranked = await state.models.rank(
        body.query.text,
        [passage.text for passage in body.passages],
        param="passages",
        model=body.model,
        truncate=body.truncate,
        with_corpus=caller.filter is None,
    )
    return RankingResponse(rankings=[RankingItem(index=found.index, logit=found.score) for found in ranked])
