"""The names under which requests may ask for the pipeline and its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragstack.api.errors import ApiError
from ragstack.api.schemas import ModelBody
from ragstack.assembly import text_reranker
from ragstack.config.models import PipelineConfig

if TYPE_CHECKING:
    from ragstack.api.state import AppState  # which holds the model server, which asks here for a name

PIPELINE_MODEL = "ragstack"


def served_models(state: AppState) -> list[ModelBody]:
    """The pipeline itself, its embedder, its reranker."""
    config = state.pipeline.config
    created = int(state.started_at)
    models = [
        ModelBody(id=PIPELINE_MODEL, created=created, role="pipeline"),
        ModelBody(id=getattr(config.embedder, "model", config.embedder.type), created=created, role="embedder"),
    ]
    if config.reranker.type != "none":
        models.append(ModelBody(id=reranker_names(config)[0], created=created, role="reranker"))
    return models


def reranker_names(config: PipelineConfig) -> tuple[str, ...]:
    """The names of the reranker of texts: its model's, where it has one, and its type; the cascade's that it ends."""
    block = text_reranker(config)
    names = (getattr(block, "model", None), getattr(block, "type", None), config.reranker.type)
    return tuple(dict.fromkeys(name for name in names if name))


def unknown_model(name: str, known: list[str]) -> ApiError:
    """The error for a model that is not served here; OpenAI's code and status."""
    return ApiError(
        404,
        "NotFound",
        f"The model `{name}` does not exist.",
        hint=f"Served here: {', '.join(known)}.",
        param="model",
        code="model_not_found",
    )
