"""Embeddings as OpenAI and NIM serve them."""

from __future__ import annotations

import base64
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictInt, StrictStr
from pydantic_core import to_json

from ragstack.api.dialects import OpenAIModelRoute
from ragstack.api.errors import ErrorBody, errors
from ragstack.api.model_errors import ModelRequestError
from ragstack.api.model_server import EmbeddedTexts
from ragstack.api.model_texts import Truncate
from ragstack.api.security import QueryCaller
from ragstack.api.state import State
from ragstack.embedding.base import InputType
from ragstack.types import Float32Array

OPENAI_FAULTS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The request does not fit the schema, is empty, too large or too long."},
    404: {"model": ErrorBody, "description": "No such model is served here."},
    429: {"model": ErrorBody, "description": "Too much is under way; come back after `Retry-After` seconds."},
    500: {"model": ErrorBody, "description": "The model failed."},
    503: {"model": ErrorBody, "description": "The server starts or shuts down."},
    504: {"model": ErrorBody, "description": "The request was not done in time."},
    **errors(401, 403, 408, 413),
}

router = APIRouter(tags=["models"], route_class=OpenAIModelRoute)

_EXAMPLES: list[JsonValue] = [
    {"input": "hello world", "model": "all-MiniLM-L6-v2"},
    {"input": ["The pump runs at 40 bar."], "model": "all-MiniLM-L6-v2", "input_type": "passage", "truncate": "END"},
]


class EmbeddingsRequest(BaseModel):
    """OpenAI's fields, and those that NIM adds."""

    model_config = ConfigDict(json_schema_extra={"examples": _EXAMPLES})

    input: StrictStr | list[StrictStr] | list[StrictInt] | list[list[StrictInt]] = Field(
        description="A text, texts, the token ids of one text, or those of several: ids of the model's tokenizer."
    )
    model: str | None = Field(default=None, description="The model's name; `-query` or `-passage` may follow (NIM).")
    input_type: InputType | None = Field(
        default=None, description="What the texts are, for models that tell queries from passages; null: passage."
    )
    truncate: Truncate = Field(default="NONE", description="What is cut off a text that is too long; NONE: an error.")
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="Numbers, or the little-endian float32 bytes of each vector in base64."
    )
    dimensions: StrictInt | None = Field(default=None, ge=1, description="Length of the vectors; the model's own only.")
    modality: Literal["text"] | list[Literal["text"]] | None = Field(default=None, description="NIM's; texts only.")
    embedding_type: Literal["float"] | None = Field(default=None, description="NIM's; floats only.")
    user: str | None = Field(default=None, description="Not used.")


class EmbeddingItem(BaseModel):
    """One vector: floats, or base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens of the texts, special tokens and prompts left out."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """OpenAI's list of embeddings, in the order of the input."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: Usage


@router.post("/v1/embeddings", response_model=EmbeddingsResponse, responses=OPENAI_FAULTS)
@router.post("/embeddings", include_in_schema=False)
async def embeddings(body: EmbeddingsRequest, request: Request, state: State, caller: QueryCaller) -> Response:
    """Vectors of texts, each of length 1, with the pipeline's embedding model."""
    embedded = await state.models.embed(
        body.input, param="input", model=body.model, input_type=body.input_type, truncate=body.truncate
    )
    dim = embedded.dense.shape[1]
    if body.dimensions not in (None, dim):
        raise ModelRequestError(
            "unsupported",
            f"This model does not support specifying dimensions: its vectors have {dim}.",
            param="dimensions",
        )
    content = await state.models.encoded(embedded.dense, lambda: _encoded(embedded, body.encoding_format))
    return Response(content, media_type="application/json")


def _encoded(embedded: EmbeddedTexts, encoding_format: Literal["float", "base64"]) -> bytes:
    vectors = _base64(embedded.dense) if encoding_format == "base64" else embedded.dense.tolist()
    tokens = sum(embedded.token_counts)
    return to_json(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
            ],
            "model": embedded.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _base64(vectors: Float32Array) -> list[str]:
    little_endian = np.ascontiguousarray(vectors, dtype="<f4")
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in little_endian]
