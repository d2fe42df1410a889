"""Builds the parts that a config names. The only place that knows both configs and implementations.

Implementations take plain keyword settings; a block that names a third party's type passes its
``settings`` on as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from ragstack.adapters.base import VectorStore
from ragstack.adapters.registry import STORES
from ragstack.chunking.base import Chunker
from ragstack.chunking.registry import CHUNKERS
from ragstack.config.embedders import Bm25Config, RemoteEmbedderConfig
from ragstack.config.generators import OpenAIGeneratorConfig
from ragstack.config.models import (
    GeneratorConfig,
    PipelineConfig,
)
from ragstack.config.rerankers import (
    CascadeConfig,
    CrossEncoderConfig,
    LateInteractionConfig,
    LlmYesNoConfig,
    RemoteRerankerConfig,
    RerankerConfig,
)
from ragstack.config.stores.qdrant_edge import QdrantEdgeStoreConfig
from ragstack.config.third_party import ThirdPartyConfig
from ragstack.embedding.base import Embedder, ModelInfo
from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.embedding.registry import EMBEDDERS
from ragstack.embedding.token_compression import token_compression
from ragstack.errors import InputError
from ragstack.generation.base import Generator
from ragstack.generation.registry import GENERATORS
from ragstack.ledger.file_pins import FilePins
from ragstack.ledger.pins import Pins, SnapshotPins
from ragstack.registry import Registry
from ragstack.reranking.base import Reranker, TokenVectorStore
from ragstack.reranking.cascade import CascadeReranker, CascadeStage
from ragstack.reranking.cross_encoder_files import CrossEncoderFiles, find_cross_encoder
from ragstack.reranking.llm_yes_no_files import find_llm_yes_no
from ragstack.reranking.memory_token_vectors import MemoryTokenVectorStore
from ragstack.reranking.recomputed import RecomputedLateInteraction
from ragstack.reranking.registry import RERANKERS
from ragstack.reranking.token_codec import TokenCodec
from ragstack.reranking.token_vectors import SqliteTokenVectorStore
from ragstack.types import TokenVectors

# BM25 compares a passage's length with an average. A constant in its place keeps stored vectors independent of what
# else is indexed; a query puts the true one back, at least cost where the constant is a little too large.
_TERMS_PER_TOKEN = 0.4


@dataclass(frozen=True)
class SharedIndex:
    """What the writer and the readers of one index share when they live in one process.

    The embedded store can be open once; ``pins`` keep the writer from purging what a query still reads. They must
    be those of :func:`snapshot_pins` where other processes use the store too.
    """

    store: VectorStore
    pins: Pins = field(default_factory=SnapshotPins)


def snapshot_pins(store: VectorStore, state_dir: Path) -> Pins:
    """What tells a writer of the index in ``state_dir`` which snapshots are being read."""
    return FilePins(state_dir / "pins") if store.capabilities.multi_process else SnapshotPins()


def build_chunker(block: BaseModel) -> Chunker:
    """The chunker of a ``chunker`` block."""
    return cast(Chunker, _build(CHUNKERS, block))


def build_embedder(block: BaseModel) -> Embedder:
    """The embedder of an ``embedder`` block. Loads no weights until it is used, but checks that they are there.

    One that is remote asks nothing of its server before it is used.
    """
    if isinstance(block, RemoteEmbedderConfig):
        return cast(Embedder, EMBEDDERS.load(block.type)(block))
    return cast(Embedder, _build(EMBEDDERS, block, without=("bm25",)))


def build_store(block: BaseModel, state_dir: Path, lock_timeout_s: float) -> VectorStore:
    """The store of a ``store`` block; the embedded one lives below ``state_dir`` unless it names a path."""
    if isinstance(block, QdrantEdgeStoreConfig):
        settings = _settings(block, without=("path",))
        path = Path(block.path) if block.path else state_dir / "store"
        return cast(VectorStore, STORES.load(block.type)(path, lock_timeout_s=lock_timeout_s, **settings))
    if isinstance(block, ThirdPartyConfig):
        return cast(VectorStore, _build(STORES, block))
    return cast(VectorStore, STORES.load(getattr(block, "type"))(block))  # noqa: B009 - every block has it


def build_reranker(
    config: PipelineConfig, token_vectors: TokenVectorStore | None, embedder: Embedder | None = None
) -> Reranker:
    """The reranker of the config; late interaction compares ``token_vectors``.

    With an ``embedder``, one that recomputes them embeds the candidates; without, they are in ``token_vectors``.
    """
    block = config.reranker
    if isinstance(block, CascadeConfig):
        stages = [(stage.reranker, stage.rerank_k) for stage in block.stages]
        return _build_cascade([(stages[0][0], None), *stages[1:]], token_vectors, embedder)
    if _keeps_order(block):
        return _build_cascade([(block, None)], token_vectors, embedder)
    return _build_one_reranker(block, token_vectors, embedder)


def build_text_reranker(config: PipelineConfig, token_vectors: TokenVectorStore | None) -> Reranker:
    """The reranker of texts that come with a request: of a cascade its last stage, over all of them.

    So a text's score does not depend on the others. A server that fails is an error here whatever ``on_error`` says:
    there is no order to keep.
    """
    return _build_one_reranker(text_reranker(config), token_vectors, None)


def text_reranker(config: PipelineConfig) -> RerankerConfig:
    """The block of the reranker of :func:`build_text_reranker`."""
    block = config.reranker
    return block.stages[-1].reranker if isinstance(block, CascadeConfig) else block


def compares_vectors(block: BaseModel) -> bool:
    """True when a reranker reads vectors of the texts: late interaction, and any of a third party."""
    return isinstance(block, (LateInteractionConfig, ThirdPartyConfig))


def _build_cascade(
    blocks: Sequence[tuple[BaseModel, int | None]], token_vectors: TokenVectorStore | None, embedder: Embedder | None
) -> CascadeReranker:
    stages = [
        CascadeStage(_build_one_reranker(block, token_vectors, embedder), rerank_k, _keeps_order(block))
        for block, rerank_k in blocks
    ]
    if stages[0].keeps_order:  # the order that it keeps is the fused one
        stages.insert(0, CascadeStage(cast(Reranker, RERANKERS.load("none")())))
    return CascadeReranker(stages)


def _keeps_order(block: BaseModel) -> bool:
    return isinstance(block, RemoteRerankerConfig) and block.on_error == "keep_order"


def _build_one_reranker(
    block: BaseModel, token_vectors: TokenVectorStore | None, embedder: Embedder | None
) -> Reranker:
    if isinstance(block, LateInteractionConfig):
        settings = _settings(block, without=("token_vectors",))
        if embedder is not None and token_vectors is not None and _recomputes(block):
            return RecomputedLateInteraction(passage_embedder(embedder), token_vectors.prepare, **settings)
        return cast(Reranker, RERANKERS.load(block.type)(token_vectors, **settings))
    if isinstance(block, RemoteRerankerConfig):
        return cast(Reranker, RERANKERS.load(block.type)(block))
    return cast(Reranker, _build(RERANKERS, block))


def reranker_files(block: CrossEncoderConfig | LlmYesNoConfig) -> CrossEncoderFiles:
    """The files of a reranker that runs a model of its own on this machine.

    Raises what :func:`ragstack.reranking.cross_encoder_files.find_cross_encoder` does.
    """
    if isinstance(block, LlmYesNoConfig):
        return find_llm_yes_no(
            block.model,
            block.revision,
            max_tokens=block.max_tokens,
            instruction=block.instruction,
            prompt_template=block.prompt_template,
        )
    return find_cross_encoder(
        block.model,
        block.revision,
        max_tokens=block.max_tokens,
        label=block.label,
        prompt_template=block.prompt_template,
    )


def build_generator(block: GeneratorConfig) -> Generator:
    """The generator of a ``generator`` block. Asks no model yet, but reads the tables that count its tokens."""
    if isinstance(block, OpenAIGeneratorConfig):
        return cast(Generator, GENERATORS.load(block.type)(block))
    return cast(Generator, _build(GENERATORS, block))


def build_bm25(config: PipelineConfig) -> Bm25Encoder:
    """The encoder of the sparse leg."""
    block = getattr(config.embedder, "bm25", Bm25Config())
    max_tokens = getattr(config.chunker, "max_tokens", 200)
    nominal_length = block.nominal_length or max_tokens * _TERMS_PER_TOKEN
    return Bm25Encoder(**_settings(block, without=("nominal_length",)), nominal_length=nominal_length)


def keeps_token_vectors(config: PipelineConfig) -> bool:
    """True when the index has a store of token vectors: the reranker, or a stage of it, compares them."""
    return _late_interaction(config) is not None


def _late_interaction(config: PipelineConfig) -> LateInteractionConfig | None:
    """The block that says how token vectors are compared; stages of a cascade agree on where these come from."""
    return next((block for block in reranker_blocks(config) if isinstance(block, LateInteractionConfig)), None)


def reranker_blocks(config: PipelineConfig) -> list[RerankerConfig]:
    """The blocks of all rerankers that the config names: those of a cascade's stages, or the one."""
    block = config.reranker
    return [stage.reranker for stage in block.stages] if isinstance(block, CascadeConfig) else [block]


def recomputes_token_vectors(config: PipelineConfig) -> bool:
    """True when that store holds no vectors, and each query makes those of its candidates."""
    block = _late_interaction(config)
    return block is not None and _recomputes(block)


def _recomputes(block: LateInteractionConfig) -> bool:
    return block.token_vectors == "recomputed"  # noqa: S105


def token_vectors_kept(config: PipelineConfig) -> str:
    """What an index keeps of its token vectors: ``none``, or a name for everything that changes what is kept."""
    return token_codec(config).fingerprint if keeps_token_vectors(config) else "none"


def token_codec(config: PipelineConfig) -> TokenCodec:
    """How the index keeps token vectors: compressed the way that fits the embedder's model."""
    found = token_compression(getattr(config.embedder, "model", ""))
    keeps_vectors = not recomputes_token_vectors(config)
    if found is None:
        return TokenCodec(keeps_vectors=keeps_vectors)
    if not keeps_vectors:  # what is not stored need not be short
        return TokenCodec(pieces=found.pieces, keeps_vectors=False)
    return TokenCodec(found.projection, found.steps, found.pieces)


def token_vector_store(path: Path, config: PipelineConfig) -> TokenVectorStore:
    """The store of token vectors at ``path``."""
    return SqliteTokenVectorStore(path, token_codec(config))


def token_vectors_of_texts(config: PipelineConfig, entries: Mapping[str, TokenVectors]) -> TokenVectorStore:
    """A store over the token vectors of texts that are in no index: whole words as there, with all dimensions."""
    found = token_compression(getattr(config.embedder, "model", ""))
    return MemoryTokenVectorStore(entries, TokenCodec(pieces=None if found is None else found.pieces))


def token_vector_bytes(config: PipelineConfig, model: ModelInfo) -> int:
    """At most about how many bytes one token takes in the store of token vectors."""
    codec = token_codec(config)
    dim = model.token_dim if codec.projection is None else codec.projection.shape[1]
    return dim * codec.bits // 8 + 16


def passage_embedder(embedder: Embedder) -> Callable[[Sequence[str]], Sequence[TokenVectors]]:
    """Token vectors of passages, for parts that know texts and no embedder."""

    def embed(texts: Sequence[str]) -> Sequence[TokenVectors]:
        found = embedder.embed(texts, "passage", ("tokens",)).tokens
        if found is None:
            raise ValueError("the embedder did not return what it was asked for")
        return found

    return embed


def _build(registry: Registry, block: BaseModel, without: tuple[str, ...] = ()) -> Any:
    name = cast(str, getattr(block, "type"))  # noqa: B009 - every block of a family has it
    implementation = registry.load(name)
    settings = dict(block.settings) if isinstance(block, ThirdPartyConfig) else _settings(block, without)
    try:
        return implementation(**settings)
    except TypeError as error:
        if isinstance(block, ThirdPartyConfig):
            raise InputError(
                f"the settings {sorted(settings)} do not fit {registry.family} {name!r}: {error}.",
                hint="Check `settings:` of this block against the implementation's documentation.",
            ) from error
        raise


def _settings(block: BaseModel, without: tuple[str, ...] = ()) -> Mapping[str, Any]:
    return {key: value for key, value in block.model_dump().items() if key != "type" and key not in without}
