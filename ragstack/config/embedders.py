"""The ``embedder`` block: the model that makes vectors, and the sparse leg's term weights."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from ragstack.config.block import ConfigBlock, contradiction
from ragstack.config.devices import PROFILE_PATTERN, Device

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
