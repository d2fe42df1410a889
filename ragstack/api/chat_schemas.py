"""OpenAI's chat completions, as far as a corpus can be talked to with them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from ragstack.api.errors import ApiError
from ragstack.api.schemas import CheckedCitationBody, FilterJson, JsonInteger
from ragstack.generation.base import Turn

# What a client may send by habit and what would change nothing that is promised here.
IGNORED = (
    "audio", "frequency_penalty", "logit_bias", "max_completion_tokens", "max_tokens", "metadata",
    "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "reasoning_effort",
    "safety_identifier", "seed", "service_tier", "stop", "store", "temperature", "top_p", "user", "verbosity",
)  # fmt: skip


class TextPart(BaseModel):
    """A part of a message's content; only text can be read here."""

    type: str
    text: str | None = None


class Message(BaseModel):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    def text(self, place: str) -> str:
        """The content as text. Raises ApiError for a part that is no text."""
        if isinstance(self.content, list):
            for number, part in enumerate(self.content):
                if part.type not in ("text", "input_text") or part.text is None:
                    raise unsupported(f"{place}.content.{number}", f"content of type {part.type!r} cannot be read")
            return "\n".join(part.text or "" for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    """What else a stream tells."""

    include_usage: StrictBool | None = False


class ChatBody(BaseModel):
    """A chat completion request. The last message, the user's, is the question; those before it are history.

    System and developer messages are not used: how answers are made is the config's business, and what a
    document says must not be overruled by them. `filter` and `top_n` are those of `/v1/query`.
    """

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "example": {
                "model": "ragstack",
                "messages": [{"role": "user", "content": "How long are records kept?"}],
            }
        },
    )

    model: str = Field(description="`ragstack`: this server's pipeline.")
    messages: list[Message] = Field(min_length=1)
    stream: StrictBool | None = False
    stream_options: StreamOptions | None = None
    n: JsonInteger | None = Field(default=1, description="Only 1.")
    filter: FilterJson | None = None
    top_n: JsonInteger | None = Field(default=None, ge=1)
    # Named so that a request for them is refused, not passed over: the answer would not be what was asked for.
    tools: list[Any] | None = Field(default=None, description="Not supported.")
    functions: list[Any] | None = Field(default=None, description="Not supported.")
    tool_choice: Any = Field(default=None, description="Only `none` and `auto`.")
    function_call: Any = Field(default=None, description="Only `none` and `auto`.")
    response_format: dict[str, Any] | None = Field(default=None, description='Only `{"type": "text"}`.')
    modalities: list[str] | None = Field(default=None, description="Only `text`.")
    logprobs: StrictBool | None = Field(default=None, description="Not supported.")
    top_logprobs: JsonInteger | None = Field(default=None, description="Not supported.")
    web_search_options: dict[str, Any] | None = Field(default=None, description="Not supported.")

    def conversation(self) -> tuple[list[Turn], str]:
        """The history, oldest first, and the question. Raises ApiError for what cannot be served."""
        self._refuse_unsupported()
        last = len(self.messages) - 1
        turns = []
        for number, message in enumerate(self.messages):
            place = f"messages.{number}"
            if number == last and message.role != "user":
                raise _mistake(f"{place}.role", "the last message must be the user's: it is the question")
            text = message.text(place)
            if number == last and not text.strip():
                raise _mistake(f"{place}.content", "the question is empty")
            if text.strip() and number < last and message.role not in ("system", "developer"):
                turns.append(Turn("user" if message.role == "user" else "assistant", text))
        return turns, self.messages[last].text(f"messages.{last}")

    def _refuse_unsupported(self) -> None:
        if self.n not in (None, 1):
            raise unsupported("n", "only one answer is made: n must be 1")
        for name in ("tools", "functions", "web_search_options", "logprobs", "top_logprobs"):
            if getattr(self, name):
                raise unsupported(name, f"{name} is not supported")
        for name in ("tool_choice", "function_call"):
            if getattr(self, name) not in (None, "none", "auto"):
                raise unsupported(name, f"{name} is not supported")
        if self.response_format is not None and self.response_format.get("type") != "text":
            raise unsupported("response_format", "answers are plain text with markers")
        if self.modalities is not None and self.modalities != ["text"]:
            raise unsupported("modalities", "answers are text")


def unsupported(param: str, message: str) -> ApiError:
    """The error for a parameter whose effect cannot be given."""
    return ApiError(400, "InvalidRequest", f"{param}: {message}.", param=param, code="unsupported_parameter")


def _mistake(param: str, message: str) -> ApiError:
    return ApiError(400, "InvalidRequest", f"{param}: {message}.", param=param, code="invalid_value")


class IndexedCitation(CheckedCitationBody):
    """A checked citation. ``index`` is its place in the answer's list; clients put streamed lists together by it."""

    index: int


class AnswerMessage(BaseModel):
    """The answer. ``citations`` and ``chain_digest`` are additions: what the markers `[n]` of the content stand for."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    citations: list[IndexedCitation]
    chain_digest: str


class Choice(BaseModel):
    """The one choice. ``length``: the model stopped at its limit."""

    index: Literal[0] = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class Usage(BaseModel):
    """Tokens as the language model's server counts them; without a language model, as the embedder does."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, prompt_tokens: int, completion_tokens: int) -> Usage:
        """With the sum."""
        return cls(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            total_tokens=prompt_tokens + completion_tokens,
        )


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
