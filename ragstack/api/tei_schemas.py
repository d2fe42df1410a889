"""Bodies of the routes of text-embeddings-inference, as its OpenAPI document has them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, StrictInt, StrictStr

Direction = Annotated[
    Literal["left", "right"], BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
]
Inputs = StrictStr | list[StrictStr] | list[StrictInt] | list[list[StrictInt]]


class TextsRequest(BaseModel):
    """Texts, and how they are read."""

    inputs: Inputs = Field(description="A text, texts, the token ids of one text, or those of several.")
    truncate: bool | None = Field(
        default=None, description="Cut texts that are too long; null: `auto_truncate`, false."
    )
    truncation_direction: Direction = Field(default="right", description="The end that is cut off.")
    prompt_name: str | None = Field(default=None, description="`query`, or `passage` (also `document`).")


class EmbedRequest(TextsRequest):
    """TEI's fields."""

    model_config = {"json_schema_extra": {"examples": [{"inputs": ["What is Deep Learning?"]}]}}

    normalize: bool = Field(default=True, description="Vectors of length 1; this server has no others.")
    dimensions: StrictInt | None = Field(
        default=None, ge=1, description="Keep the first numbers of each vector; of use with Matryoshka models only."
    )
    encoding_format: Literal["float"] | None = Field(default=None, description="Floats only.")


class EmbedAllRequest(TextsRequest):
    """TEI's fields."""


class RerankRequest(BaseModel):
    """TEI's fields."""

    model_config = {
        "json_schema_extra": {"examples": [{"query": "What is Deep Learning?", "texts": ["Deep Learning is ..."]}]}
    }

    query: StrictStr
    texts: list[StrictStr]
    truncate: bool | None = Field(default=None, description="Cut texts that are too long; null: false.")
    truncation_direction: Direction = Field(default="right", description="The end that is cut off.")
    raw_scores: bool = Field(default=False, description="The reranker's scores; else their logistic function, 0 to 1.")
    return_text: bool = Field(default=False, description="Give each text back beside its score.")


class Rank(BaseModel):
    """One text by its position in the request."""

    index: int
    score: float
    text: str | None = None


class SimilarityInputs(BaseModel):
    """A sentence, and those that it is compared with."""

    source_sentence: StrictStr
    sentences: list[StrictStr]


class SimilarityRequest(BaseModel):
    """TEI's fields."""

    inputs: SimilarityInputs


class TokenizeRequest(BaseModel):
    """TEI's fields."""

    inputs: StrictStr | list[StrictStr]
    add_special_tokens: bool = True


class Token(BaseModel):
    """One token; ``start`` and ``stop`` are byte offsets in the text, null for a special token."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class DecodeRequest(BaseModel):
    """TEI's fields."""

    ids: list[StrictInt] | list[list[StrictInt]]
    skip_special_tokens: bool = True


class Info(BaseModel):
    """TEI's description of what is served."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_type: dict[str, dict[str, str]]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None
