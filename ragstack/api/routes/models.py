"""What requests may name as their model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from ragstack.api.errors import errors
from ragstack.api.openai_errors import OpenAIRoute
from ragstack.api.schemas import ModelBody, ModelsBody
from ragstack.api.security import Caller, caller_with
from ragstack.api.served_models import served_models, unknown_model
from ragstack.api.state import State

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=OpenAIRoute)
Asker = Annotated[Caller, Depends(caller_with("query"))]


@router.get("", responses=errors(401, 403, 429, 500))
def models(state: State, caller: Asker) -> ModelsBody:
    """The pipeline, its embedder and its reranker, as OpenAI lists models."""
    return ModelsBody(data=served_models(state))


@router.get("/{model:path}", responses=errors(401, 403, 404, 429, 500))
def model(model: str, state: State, caller: Asker) -> ModelBody:
    """One of the models."""
    known = served_models(state)
    for served in known:
        if served.id == model:
            return served
    raise unknown_model(model, [served.id for served in known])
