"""What requests hold and what responses tell, for validation and OpenAPI."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from ragstack.api.checking import CheckedCitation
from ragstack.citations.chain import Chain, Citation, Place, SentenceLink
from ragstack.citations.verify import Status
from ragstack.filters import Filter, parse_filter
from ragstack.generation.base import Turn


def _is_text(value: Any) -> Any:
    """JSON may escape half a surrogate pair, which is no character and has no UTF-8 form."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("holds half a surrogate pair, which is no text") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except ValueError as error:
        raise ValueError("holds NaN or an infinity, which JSON has not") from error
    return value


def _is_number(value: Any) -> Any:
    if isinstance(value, (bool, str, bytes)):  # which pydantic would convert
        raise ValueError("expected a number")
    return value


JsonInteger: TypeAlias = Annotated[int, BeforeValidator(_is_number)]
"""An integer as JSON Schema has it: 3.0 is one; true and "3" are none."""
FilterJson: TypeAlias = Annotated[
    dict[str, Any],
    AfterValidator(_is_text),
    Field(
        description='Only chunks whose fields match: `{"field", "op", "value"}`, `{"and": [...]}`, `{"or": [...]}` or '
        '`{"not": {...}}`; `op` is one of eq, ne, in, nin, gt, gte, lt, lte, exists, contains.',
        examples=[{"field": "media_type", "op": "eq", "value": "text/markdown"}],
    ),
]


class Body(BaseModel):
    """Base of request bodies: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid")


class TurnBody(Body):
    """One turn of the conversation before the question."""

    role: Literal["user", "assistant"]
    content: str


class RetrieveBody(Body):
    """A question whose passages are wanted."""

    query: str = Field(min_length=1, description="The question.", examples=["How long are records kept?"])
    filter: FilterJson | None = None
    top_n: JsonInteger | None = Field(
        default=None, ge=1, description="Passages to keep, at most the config's rerank_k; null: the config's top_n."
    )

    def parsed_filter(self) -> Filter | None:
        """The filter as a tree. Raises FilterError."""
        return None if self.filter is None else parse_filter(self.filter)


class QueryBody(RetrieveBody):
    """A question to be answered."""

    history: list[TurnBody] = Field(default_factory=list, description="The turns before the question, oldest first.")
    stream: StrictBool = Field(default=False, description="Send server-sent events instead of one JSON document.")

    def turns(self) -> list[Turn]:
        """The history as the pipeline takes it."""
        return [Turn(turn.role, turn.content) for turn in self.history]


class CheckedCitationBody(BaseModel):
    """A citation and what its check against archive and source gave, just before it was sent."""

    citation: Citation
    status: Status
    detail: str

    @classmethod
    def of(cls, checked: CheckedCitation) -> CheckedCitationBody:
        """The JSON form."""
        return cls(citation=checked.citation, status=checked.status, detail=checked.detail)


class PassagesEvent(BaseModel):
    """`event: passages`: what was found; the chain has no answer yet."""

    chain: Chain


class SentenceEvent(BaseModel):
    """`event: sentence`: one more sentence is settled; `citations` are those not told before, `delta` the new text."""

    sentence: SentenceLink
    citations: list[CheckedCitationBody]
    delta: str


class DoneEvent(BaseModel):
    """`event: done`: the whole chain."""

    chain: Chain


class Context(BaseModel):
    """Text around a citation; the byte range, in the canonical text, is that of all three parts."""

    before: str
    text: str
    after: str
    byte_start: int = Field(ge=0)
    byte_end: int = Field(ge=0)


class CitationBody(BaseModel):
    """A citation, read again from archive and source.

    ``source_base64`` are the raw bytes of the place's source ranges, joined, read from the file; null where the file
    is not the version cited any more.
    """

    citation_id: str
    place: Place
    status: Status
    detail: str
    context: Context
    source_base64: str | None


class ModelBody(BaseModel):
    """A model that a request may name. ``role`` is what it does here."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Seconds since the epoch: when this server started.")
    owned_by: Literal["ragstack"] = "ragstack"
    role: Literal["pipeline", "embedder", "reranker"]


class ModelsBody(BaseModel):
    """The models of this server."""

    object: Literal["list"] = "list"
    data: list[ModelBody]


class ReadinessCheck(BaseModel):
    """One thing that answering needs. ``detail`` says what is wrong, or what was found."""

    name: str
    ok: bool
    detail: str


class ReadinessBody(BaseModel):
    """Ready when every check is ok."""

    status: Literal["ready", "not_ready"]
    checks: list[ReadinessCheck]
