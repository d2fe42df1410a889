"""The ``reranker`` block: how candidates are ordered."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, Tag, field_validator, model_validator

from ragstack.config.block import ConfigBlock, contradiction
from ragstack.config.devices import PROFILE_PATTERN, Device
from ragstack.config.http_urls import ApiKey, ModelApiUrl, without_keys
from ragstack.config.third_party import ThirdParty, tagged_by

STAGE_TYPES = ("late_interaction", "cross_encoder", "llm_yes_no", "remote")
"""The built-in types that a stage of a cascade may have."""

TokenVectorOrigin: TypeAlias = Literal["stored", "recomputed"]
RerankApiName: TypeAlias = Literal["nim", "tei", "cohere", "score"]


class LateInteractionConfig(ConfigBlock):
    """Rerank by the embedder's own token vectors: cosine + idf-weighted MaxSim + BM25 share."""

    type: Literal["late_interaction"] = Field(default="late_interaction", description="MaxSim over token vectors.")
    token_vectors: TokenVectorOrigin = Field(
        default="stored",
        description="Kept by the index, about 5 kB a chunk; or made by each query, which takes seconds on a CPU.",
    )
    dense_weight: float = Field(default=1.0, ge=0, description="Weight of the cosine of the two texts.")
    maxsim_weight: float = Field(default=1.0, ge=0, description="Weight of the idf-weighted MaxSim of their tokens.")
    sparse_weight: float = Field(default=0.3, ge=0, description="Weight of the BM25 share.")

    @model_validator(mode="after")
    def _a_part_counts(self) -> LateInteractionConfig:
        if self.dense_weight == self.maxsim_weight == self.sparse_weight == 0:
            raise contradiction(
                ("dense_weight", "maxsim_weight", "sparse_weight"), "all three weights are 0; one must be larger"
            )
        return self

    def with_token_vectors(self, origin: TokenVectorOrigin) -> LateInteractionConfig:
        """The same block with token vectors from elsewhere."""
        return self.model_copy(update={"token_vectors": origin})


class LocalRerankerConfig(ConfigBlock):
    """What rerankers with a model on this machine have in common."""

    type: str = Field(description="Which of them.")
    model: str = Field(min_length=1, description="Registered name (`ragstack models`), folder, or Hugging Face id.")
    revision: str | None = Field(default=None, description="Commit or tag of a registered name or Hugging Face id.")
    max_tokens: int | None = Field(
        default=None,
        ge=16,
        description="Most tokens of query and passage together, special ones and a prompt too; null: what the model's"
        " files say, of decoders at most 8192.",
    )
    long_passages: Literal["windows", "error"] = Field(
        default="windows",
        description="A passage that does not fit is read in overlapping windows, the best of which counts, or an error."
        " Nothing is cut off.",
    )
    prompt_template: str | None = Field(
        default=None,
        description="The text that the model reads, with {query} and {passage}; null: as its files or its makers say.",
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

    @field_validator("prompt_template")
    @classmethod
    def _has_two_places(cls, text: str | None) -> str | None:
        if text is not None and (text.count("{query}") != 1 or text.count("{passage}") != 1):
            raise ValueError("a prompt holds {query} and {passage}, once each")
        return text


class CrossEncoderConfig(LocalRerankerConfig):
    """A model that reads query and passage together and ends in a classifier.

    ``model`` is a folder with ``model.onnx`` or ``model.safetensors``, ``tokenizer.json`` and ``config.json``; or a
    registered name or Hugging Face id with such files, which must be pinned by ``revision``.
    """

    type: Literal["cross_encoder"] = Field(description="A cross-encoder on this machine.")
    label: str | None = Field(
        default=None,
        min_length=1,
        description="The label that means relevant, of a model with several whose names do not tell.",
    )


class LlmYesNoConfig(LocalRerankerConfig):
    """A language model that is asked whether the passage answers the query, such as Qwen3-Reranker.

    ``model`` is a folder with ``model.safetensors``, ``tokenizer.json`` and ``config.json``; or a registered name or
    Hugging Face id with such files, which must be pinned by ``revision``.
    """

    type: Literal["llm_yes_no"] = Field(description="A language model that answers yes or no.")
    instruction: str | None = Field(
        default=None,
        min_length=1,
        description="What the passage is to be judged by; null: the model's own, for web search.",
    )

    @model_validator(mode="after")
    def _the_instruction_is_asked(self) -> LlmYesNoConfig:
        given = self.instruction is not None and self.prompt_template is not None
        if given and "{instruction}" not in (self.prompt_template or ""):
            raise contradiction(
                ("instruction", "prompt_template"), "prompt_template has no {instruction}, so it would not be read"
            )
        return self


_TAKEN = frozenset(
    {
        "model", "query", "passages", "texts", "documents", "text_1", "text_2", "raw_scores", "truncate",
        "top_n", "top_k",
    }
)  # fmt: skip


class RemoteRerankerConfig(ConfigBlock):
    """A reranker behind an HTTP API: NIM, TEI, Cohere, Jina, vLLM, infinity, llama.cpp, or another ragstack server."""

    type: Literal["remote"] = Field(description="A reranker behind an HTTP API.")
    api: RerankApiName = Field(
        description="NIM's /ranking, TEI's /rerank, a /rerank as Cohere has it (Jina, vLLM, infinity and others too),"
        " or vLLM's /score."
    )
    base_url: ModelApiUrl = Field(
        min_length=1, description="Where the API is, without its last part: https://api.cohere.com/v2."
    )
    path: str | None = Field(
        default=None,
        pattern=r"^/[^?#]*$",
        description="What follows base_url; null: /ranking (nim), /rerank (tei, cohere) or /score.",
    )
    model: str | None = Field(default=None, min_length=1, description="Name of the model, as the API knows it.")
    api_key: ApiKey | None = Field(default=None, description="Sent as `Authorization: Bearer`, where given.")
    scores: Literal["logits", "probabilities"] | None = Field(
        default=None,
        description="What the API's scores are: any number, of which the logistic function is the relevance (logits),"
        " or relevance from 0 to 1; null: logits of nim and tei, probabilities of the others.",
    )
    truncate: Literal["NONE", "END"] = Field(
        default="NONE",
        description="nim and tei: a passage longer than the model reads is an error, or its end is cut off.",
    )
    max_batch_size: int | None = Field(
        default=None, ge=1, description="Most passages in a request; null: what TEI's /info says, else 256."
    )
    max_concurrent_requests: int = Field(default=4, ge=1, le=1024, description="Requests under way at a time.")
    timeout_s: float = Field(
        default=30.0, gt=0, le=3600, description="Seconds that reranking one query may take, repetitions included."
    )
    max_retries: int = Field(
        default=2, ge=0, le=20, description="Repetitions of a request that failed for a passing reason."
    )
    on_error: Literal["fail", "keep_order"] = Field(
        default="fail",
        description="When the server fails, so does the query; or it keeps the order of the stage before, and the"
        " chain says so.",
    )
    extra_body: Annotated[dict[str, Any], AfterValidator(without_keys(_TAKEN))] = Field(
        default_factory=dict, description="More keys for the body of a request, for what one API alone knows."
    )

    @model_validator(mode="after")
    def _settings_fit_the_api(self) -> RemoteRerankerConfig:
        if self.truncate == "END" and self.api not in ("nim", "tei"):
            raise contradiction(
                ("truncate", "api"), f"api: {self.api} does not know truncate; its own settings go into extra_body"
            )
        if self.api == "nim" and self.scores == "probabilities":
            raise contradiction(("scores", "api"), "api: nim gives logits, not probabilities")
        if self.api == "nim" and self.model is None:
            raise contradiction(("model", "api"), "api: nim needs model, the name of the model")
        return self


class NoRerankerConfig(ConfigBlock):
    """Keep the fused order; no token vectors are kept."""

    type: Literal["none"] = Field(default="none", description="No reranking.")


StageRerankerConfig: TypeAlias = Annotated[
    Annotated[LateInteractionConfig, Tag("late_interaction")]
    | Annotated[CrossEncoderConfig, Tag("cross_encoder")]
    | Annotated[LlmYesNoConfig, Tag("llm_yes_no")]
    | Annotated[RemoteRerankerConfig, Tag("remote")]
    | ThirdParty,
    tagged_by({name: name for name in STAGE_TYPES}),
]


class StageConfig(ConfigBlock):
    """One stage of a cascade."""

    reranker: StageRerankerConfig = Field(description="A reranker of any type but none and cascade.")
    rerank_k: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="How many of the best so far it reads; the first stage reads retrieval.rerank_k.",
    )


class CascadeConfig(ConfigBlock):
    """Rerankers one after the other, each over fewer candidates than the one before.

    What a stage does not read keeps its order, below what it reads.
    """

    type: Literal["cascade"] = Field(description="Rerankers one after the other.")
    stages: tuple[StageConfig, ...] = Field(description="The stages, first to last; two at least.")

    @model_validator(mode="after")
    def _stages_narrow(self) -> CascadeConfig:
        if len(self.stages) < 2:
            raise contradiction(("stages",), f"expected two stages or more, got {len(self.stages)}")
        for number, stage in enumerate(self.stages[1:], 1):
            this, last = ("stages", number, "rerank_k"), ("stages", number - 1, "rerank_k")
            before = self.stages[number - 1].rerank_k
            if stage.rerank_k is None:
                message = f"stage {number + 1} needs rerank_k: how many of the best so far it reads"
                raise contradiction((("stages", number, "reranker"),), message)
            if before is not None and stage.rerank_k >= before:
                message = (
                    f"rerank_k ({stage.rerank_k}) of stage {number + 1} must be less than that of the stage before"
                    f" ({before})"
                )
                raise contradiction((this, last), message)
        return self

    @model_validator(mode="after")
    def _one_origin_of_token_vectors(self) -> CascadeConfig:
        origins = {
            ("stages", number, "reranker", "token_vectors"): stage.reranker.token_vectors
            for number, stage in enumerate(self.stages)
            if isinstance(stage.reranker, LateInteractionConfig)
        }
        if len(set(origins.values())) > 1:
            raise contradiction(
                tuple(origins), "an index keeps token vectors or does not; all stages must say the same"
            )
        return self

    def with_token_vectors(self, origin: TokenVectorOrigin) -> CascadeConfig:
        """The same cascade with token vectors from elsewhere."""
        stages = [
            stage.model_copy(update={"reranker": stage.reranker.with_token_vectors(origin)})
            if isinstance(stage.reranker, LateInteractionConfig)
            else stage
            for stage in self.stages
        ]
        return self.model_copy(update={"stages": tuple(stages)})


RerankerConfig: TypeAlias = Annotated[
    Annotated[LateInteractionConfig, Tag("late_interaction")]
    | Annotated[CrossEncoderConfig, Tag("cross_encoder")]
    | Annotated[LlmYesNoConfig, Tag("llm_yes_no")]
    | Annotated[RemoteRerankerConfig, Tag("remote")]
    | Annotated[CascadeConfig, Tag("cascade")]
    | Annotated[NoRerankerConfig, Tag("none")]
    | ThirdParty,
    tagged_by({name: name for name in (*STAGE_TYPES, "cascade", "none")}),
]
