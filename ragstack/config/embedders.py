"""The ``embedder`` block: the model that makes vectors, and the sparse leg's term weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from ragstack.config.block import ConfigBlock, contradiction
from ragstack.config.devices import PROFILE_PATTERN, Device
from ragstack.config.http_urls import ApiKey, ModelApiUrl, without_keys

_Block = TypeVar("_Block", bound=ConfigBlock)
EmbedApiName: TypeAlias = Literal["openai", "nim", "tei", "cohere"]

StemmerLanguage: TypeAlias = Literal[
    "arabic",
    "armenian",
    "basque",
    "catalan",
    "czech",
    "danish",
    "dutch",
    "english",
    "esperanto",
    "estonian",
    "finnish",
    "french",
    "german",
    "greek",
    "hindi",
    "hungarian",
    "indonesian",
    "irish",
    "italian",
    "lithuanian",
    "nepali",
    "norwegian",
    "persian",
    "polish",
    "portuguese",
    "romanian",
    "russian",
    "serbian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
    "yiddish",
]


class Bm25Config(ConfigBlock):
    """The sparse leg: BM25 (Robertson & Zaragoza 2009) over stemmed words."""

    language: Literal["auto", StemmerLanguage] | None = Field(
        default="auto",
        description="Snowball stemmer and stop words of all texts; auto: each document's own; null: words as they are.",
    )
    fallback_language: StemmerLanguage | None = Field(
        default="english", description="With language auto: for documents too short to tell, such as tables and code."
    )
    k1: float = Field(default=0.9, gt=0, le=10, description="How soon repeating a word stops raising the score.")
    b: float = Field(default=0.4, ge=0, le=1, description="How far long chunks are held back; 0: not at all.")
    nominal_length: float | None = Field(
        default=None,
        gt=0,
        description="About how many words a chunk has, stop words not counted; null: 0.4 of chunker.max_tokens."
        " Scores don't depend on it; a query costs least where it is near the true average or a little above.",
    )
    heading_weight: int = Field(
        default=2, ge=0, le=100, description="How often a word of the headings above a chunk counts; 0: not at all."
    )
    field_weights: dict[str, Annotated[int, Field(ge=1, le=100)]] = Field(
        default_factory=dict, description="Declared fields whose words count too, each with how often: `title: 3`."
    )


class LocalEmbedderConfig(ConfigBlock):
    """A model on this machine.

    ``model`` is a registered name (see ``ragstack models``), a folder with ``tokenizer.json``, ``config.json`` and
    ``model.onnx`` or ``model.safetensors``, or a Hugging Face id, which must be pinned by ``revision``.
    """

    type: Literal["local"] = Field(default="local", description="A model on this machine.")
    model: str = Field(
        default="all-MiniLM-L6-v2", min_length=1, description="Registered name, folder, or Hugging Face id."
    )
    revision: str | None = Field(default=None, description="Commit or tag of a Hugging Face id.")
    dimensions: int | None = Field(
        default=None,
        gt=0,
        description="Length of the dense vectors, of a model trained for several (Matryoshka); null: its own.",
    )
    query_prompt: str | None = Field(
        default=None, description="Put before queries; null: the model's own. Empty: nothing."
    )
    passage_prompt: str | None = Field(
        default=None, description="Put before passages; null: the model's own. Empty: nothing."
    )
    instruction: str | None = Field(
        default=None,
        min_length=1,
        description="What queries are for, of a model whose query prompt is `Instruct: <instruction>` (Qwen3).",
    )
    max_batch_tokens: int | None = Field(
        default=None, gt=0, description="Token budget of a batch, padding counted; null: the measured default."
    )
    threads: int | None = Field(default=None, gt=0, description="CPU threads; null: all that this process may use.")
    profile: str | None = Field(
        default=None,
        pattern=PROFILE_PATTERN,
        description="Name or id of a profile (`ragstack profiles`); null: the best one here.",
    )
    device: Device | None = Field(
        default=None,
        description="`cpu`, `cuda`, `cuda:1`, or a list of GPUs to share the work; null: the profile's.",
    )
    bm25: Bm25Config = Field(default=Bm25Config(), description="The sparse vectors made beside the dense ones.")

    @model_validator(mode="after")
    def _one_query_prompt(self) -> LocalEmbedderConfig:
        if self.instruction is not None and self.query_prompt is not None:
            raise contradiction(
                ("instruction", "query_prompt"), "query_prompt holds the whole prompt; set one of the two"
            )
        return self


class HashingEmbedderConfig(ConfigBlock):
    """A deterministic embedder without a model: for tests and load trials, not for answers."""

    type: Literal["hashing"] = Field(default="hashing", description="Hashed words; needs no model.")
    dim: int = Field(default=64, ge=8, le=4096, description="Length of the dense vectors.")
    bm25: Bm25Config = Field(default=Bm25Config(), description="The sparse vectors made beside the dense ones.")


_TAKEN = frozenset(
    {
        "model", "input", "inputs", "texts", "input_type", "truncate", "dimensions", "output_dimension",
        "encoding_format", "embedding_type", "embedding_types", "normalize", "prompt_name", "task",
    }
)  # fmt: skip


class RemoteEmbedderConfig(ConfigBlock):
    """An embedding model behind an HTTP API: OpenAI, NIM, TEI, Cohere, or one of the many that speak like these.

    Nothing is cut: a text that is longer than the model reads is an error. docs/remote-models.md has examples.
    """

    type: Literal["remote"] = Field(description="An embedding model behind an HTTP API.")
    api: EmbedApiName = Field(
        description="/embeddings as OpenAI has it (vLLM, infinity, Jina, Voyage and others too) or NIM,"
        " TEI's /embed, or /embed as Cohere has it (version 2)."
    )
    base_url: ModelApiUrl = Field(
        min_length=1, description="Where the API is, without its last part: https://api.openai.com/v1."
    )
    path: str | None = Field(
        default=None,
        pattern=r"^/[^?#]*$",
        description="What follows base_url; null: /embeddings (openai, nim) or /embed (tei, cohere).",
    )
    model: str = Field(
        min_length=1,
        description="Name of the model, as the API knows it; TEI must serve one of that name, in whatever folder.",
    )
    revision: str | None = Field(
        default=None,
        min_length=1,
        description="What tells this version of the model from others: with another one, everything is embedded anew."
        " TEI must serve it. null: what /info or /models says, where it does.",
    )
    api_key: ApiKey | None = Field(default=None, description="Sent as `Authorization: Bearer`, where given.")
    dimensions: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Length of the vectors, asked of the API (Matryoshka models); null: the model's own.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=16,
        description="Most tokens of one text, special ones included; null: what TEI's /info says or is known of the"
        " model, else 512.",
    )
    tokenizer: str | None = Field(
        default=None,
        min_length=1,
        description="What counts tokens: a tokenizer.json, a registered model (`ragstack models`) or an encoding of"
        " tiktoken (cl100k_base); null: an estimate, to which two thirds of max_tokens are left.",
    )
    languages: tuple[str, ...] = Field(
        default=(), description="ISO 639-1 codes of what the model reads; empty: what is known of the model."
    )
    query_prompt: str = Field(default="", description="Put before each query.")
    passage_prompt: str = Field(default="", description="Put before each passage.")
    query_input_type: str | None = Field(
        default=None,
        min_length=1,
        description="Sent as `input_type` with queries; null: query (nim), search_query (cohere), nothing (openai).",
    )
    passage_input_type: str | None = Field(
        default=None,
        min_length=1,
        description="Sent as `input_type` with passages; null: passage (nim), search_document (cohere), nothing"
        " (openai).",
    )
    query_prompt_name: str | None = Field(
        default=None, min_length=1, description="tei: the prompt of the model's own config that is put before queries."
    )
    passage_prompt_name: str | None = Field(
        default=None, min_length=1, description="tei: the prompt of the model's own config that is put before passages."
    )
    query_task: str | None = Field(
        default=None,
        min_length=1,
        description="Task adapter for queries, such as retrieval.query: `?task=` (tei), `task` in the body (openai).",
    )
    passage_task: str | None = Field(
        default=None, min_length=1, description="The same for passages, such as retrieval.passage."
    )
    encoding_format: Literal["base64", "float"] = Field(
        default="base64",
        description="openai and nim: how vectors are asked for; base64 is a quarter of the size of floats, and exact.",
    )
    max_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Most texts in a request; null: what TEI's /info says, else 64 (nim), 96 (cohere), 256 (openai).",
    )
    max_batch_tokens: int = Field(default=100_000, ge=1, description="Most tokens in a request of several texts.")
    max_concurrent_requests: int = Field(default=4, ge=1, le=1024, description="Requests under way at a time.")
    timeout_s: float = Field(
        default=60.0, gt=0, le=3600, description="Seconds that one batch of texts may take, repetitions included."
    )
    max_retries: int = Field(
        default=4, ge=0, le=20, description="Repetitions of a request that failed for a passing reason."
    )
    extra_body: Annotated[dict[str, Any], AfterValidator(without_keys(_TAKEN))] = Field(
        default_factory=dict, description="More keys for the body of a request, for what one API alone knows."
    )
    bm25: Bm25Config = Field(default=Bm25Config(), description="The sparse vectors made beside the dense ones.")

    @model_validator(mode="after")
    def _settings_fit_the_api(self) -> RemoteEmbedderConfig:
        for key, apis in _KEYS_OF_SOME_APIS.items():
            for name in (f"query_{key}", f"passage_{key}"):
                if getattr(self, name) is not None and self.api not in apis:
                    raise contradiction((name, "api"), f"api: {self.api} does not know {name}; {', '.join(apis)} would")
        return self


CONNECTION_KEYS = (
    "base_url", "path", "api_key", "encoding_format", "max_batch_size", "max_batch_tokens", "max_concurrent_requests",
    "timeout_s", "max_retries",
)  # fmt: skip
"""The keys of a remote embedder that say how it is asked, and nothing of its vectors."""

MASKED_KEY = "**********"
"""What is left of a key in the config that an index keeps."""


def reachable(indexed: _Block, current: ConfigBlock) -> _Block:
    """The embedder block of an index, with the address and key of the ``current`` one where that means the same server.

    An index keeps no keys. The same model may have moved; at the same host another model has the same key.
    """
    if not isinstance(indexed, RemoteEmbedderConfig) or not isinstance(current, RemoteEmbedderConfig):
        return indexed
    if (indexed.api, indexed.model) == (current.api, current.model):
        return indexed.model_copy(update={key: getattr(current, key) for key in CONNECTION_KEYS})
    at_the_same_host = urlsplit(indexed.base_url)[:2] == urlsplit(current.base_url)[:2]
    return indexed.model_copy(update={"api_key": current.api_key}) if at_the_same_host else indexed


_KEYS_OF_SOME_APIS = {"input_type": ("openai", "nim", "cohere"), "prompt_name": ("tei",), "task": ("openai", "tei")}
