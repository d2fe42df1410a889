"""The pipeline config: one frozen pydantic model per block of the YAML file.

Each block is optional and has a sound default. Unknown keys are rejected. The loader
(:mod:`ragstack.config.loader`) turns validation errors into messages with file, line and column.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from ragstack.config.block import ConfigBlock, contradiction
from ragstack.config.embedders import HashingEmbedderConfig, LocalEmbedderConfig, RemoteEmbedderConfig
from ragstack.config.generators import OpenAIGeneratorConfig
from ragstack.config.rerankers import LateInteractionConfig, RerankerConfig
from ragstack.config.retrieval import RetrievalConfig
from ragstack.config.server_audit import AuditConfig
from ragstack.config.server_documents import DocumentsConfig, JobsConfig
from ragstack.config.server_models import ModelServerConfig
from ragstack.config.server_security import LimitsConfig, SecurityConfig
from ragstack.config.stores.milvus import MilvusStoreConfig
from ragstack.config.stores.qdrant import QdrantStoreConfig
from ragstack.config.stores.qdrant_edge import QdrantEdgeStoreConfig
from ragstack.config.stores.weaviate import WeaviateStoreConfig
from ragstack.config.third_party import ThirdParty, tagged_by
from ragstack.filters import FieldType

ChunkerType: TypeAlias = Literal["auto", "recursive", "markdown", "sentence", "code", "fixed"]
BUILTIN_FIELDS: dict[str, FieldType] = {
    "source_id": "keyword",
    "source_version": "keyword",
    "media_type": "keyword",
    "seq": "integer",
}
"""Payload fields that every stored chunk has; filters may name them."""

RESERVED_FIELDS = frozenset(BUILTIN_FIELDS) | {
    "text",
    "heading_path",
    "byte_start",
    "byte_end",
    "token_count",
    "term_count",
    "text_language",
}
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")

DEFAULT_EXCLUDES = (
    ".*",
    "__pycache__/",
    "node_modules/",
    "*.egg-info/",
)


def _label_is_one_part(value: str) -> str:
    if value in ("", ".", "..") or any(character in value for character in "/\\\x00"):
        raise ValueError("a label is one part of a path: not empty, '.' or '..', and without / and \\")
    return value


class RootConfig(ConfigBlock):
    """A root to index, with a label of its own."""

    path: str = Field(min_length=1, description="File or folder to index.")
    label: Annotated[str, AfterValidator(_label_is_one_part)] | None = Field(
        default=None, description="First part of every source_id below this root; null: the folder's name."
    )


def _root_tag(value: Any) -> str:
    return "path" if isinstance(value, str) else "root"


Root: TypeAlias = Annotated[
    Annotated[str, Field(min_length=1), Tag("path")] | Annotated[RootConfig, Tag("root")], Discriminator(_root_tag)
]


class SourcesConfig(ConfigBlock):
    """Which files are sources when they lie below an indexed root.

    ``include`` and ``exclude`` are gitignore-style patterns, relative to the root.
    """

    paths: tuple[Root, ...] = Field(
        default=(), description="Roots indexed when the command names none: paths, or mappings of path and label."
    )
    include: tuple[str, ...] = Field(default=(), description="When given, only files that match a pattern are sources.")
    exclude: tuple[str, ...] = Field(default=DEFAULT_EXCLUDES, description="Files and folders that are left out.")
    use_gitignore: bool = Field(default=True, description="Also leave out what .gitignore files below the root name.")
    follow_symlinks: bool = Field(default=False, description="Follow symbolic links; loops are detected.")
    max_file_bytes: int = Field(default=64 * 1024 * 1024, gt=0, description="Larger files are skipped and counted.")


class FieldConfig(ConfigBlock):
    """A metadata field that filters may name; its value comes from the document's metadata (front matter)."""

    type: FieldType = Field(description="Type of the values; a datetime is written as RFC 3339.")


def _field_name(value: str) -> str:
    if value in RESERVED_FIELDS:
        raise ValueError(f"{value!r} is a built-in field; choose another name")
    if not _FIELD_NAME.match(value):
        raise ValueError(f"{value!r} is not a field name: letters, digits and _ only, at most 64, no digit first")
    return value


FieldName: TypeAlias = Annotated[str, AfterValidator(_field_name)]


class ChunkerConfig(ConfigBlock):
    """How documents are cut. ``auto`` picks by document: headings → markdown, source code → code, else recursive."""

    type: ChunkerType = Field(default="auto", description="The way of cutting; auto picks by document.")
    max_tokens: int = Field(
        default=200, ge=8, le=32768, description="Tokens of the embedder's tokenizer, special tokens left out."
    )
    overlap_tokens: int = Field(default=0, ge=0, description="Tokens that neighbouring chunks may share.")

    @model_validator(mode="after")
    def _overlap_is_smaller(self) -> ChunkerConfig:
        if self.overlap_tokens * 2 > self.max_tokens:
            raise contradiction(
                ("overlap_tokens", "max_tokens"),
                f"overlap_tokens ({self.overlap_tokens}) must be at most half of max_tokens ({self.max_tokens})",
            )
        return self


class ExtractiveGeneratorConfig(ConfigBlock):
    """The sentences of the passages that answer best, each with its marker; needs no language model."""

    type: Literal["extractive"] = Field(default="extractive", description="Quotes, no language model.")
    max_sentences: int = Field(default=5, ge=1, le=50, description="Most sentences in an answer.")


class IndexerConfig(ConfigBlock):
    """The index path."""

    state_dir: str = Field(
        default=".ragstack", min_length=1, description="Folder of ledger, archive and embedded store."
    )
    group_chunks: int = Field(
        default=512,
        ge=1,
        le=100_000,
        description="Chunks after which a commit group is published; more where whole batches of a GPU are larger.",
    )
    min_free_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Free disk space below which indexing stops cleanly; null: 256 MiB, or a tenth of a smaller disk.",
    )
    lock_timeout_s: float = Field(default=5.0, ge=0, le=3600, description="Seconds to wait for another process's lock.")


class ServerConfig(ConfigBlock):
    """The REST API."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    threads: int = Field(
        default=64, ge=1, le=1024, description="Questions that are worked on at a time, and as many shorter calls."
    )
    max_waiting_queries: int = Field(
        default=256, ge=0, description="Queries that may wait for a thread; more are answered with status 429."
    )
    query_timeout_s: float = Field(
        default=120.0,
        gt=0,
        le=3600,
        description="Seconds until a query that has not ended is answered with status 504.",
    )
    shutdown_timeout_s: float = Field(
        default=10.0, ge=0, le=3600, description="Seconds that requests under way have to end when the server stops."
    )
    security: SecurityConfig = Field(default=SecurityConfig(), description="Who may call.")
    limits: LimitsConfig = Field(default=LimitsConfig(), description="How much a request may ask for.")
    documents: DocumentsConfig = Field(default=DocumentsConfig(), description="Uploaded documents.")
    jobs: JobsConfig = Field(default=JobsConfig(), description="Indexing and erasing in the background.")
    audit: AuditConfig = Field(default=AuditConfig(), description="The record of what was answered.")
    model_server: ModelServerConfig = Field(
        default=ModelServerConfig(), description="The embedding and ranking routes of OpenAI, NIM and TEI."
    )


class ObservabilityConfig(ConfigBlock):
    """Logs, on standard error."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="Least severe messages that are written; a server's requests are of level info."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Lines for people, or one JSON object a line."
    )


AnyChunkerConfig: TypeAlias = Annotated[
    Annotated[ChunkerConfig, Tag("auto")] | ThirdParty, tagged_by(dict.fromkeys(get_args(ChunkerType), "auto"))
]
EmbedderConfig: TypeAlias = Annotated[
    Annotated[LocalEmbedderConfig, Tag("local")]
    | Annotated[RemoteEmbedderConfig, Tag("remote")]
    | Annotated[HashingEmbedderConfig, Tag("hashing")]
    | ThirdParty,
    tagged_by({name: name for name in ("local", "remote", "hashing")}),
]
StoreConfig: TypeAlias = Annotated[
    Annotated[QdrantEdgeStoreConfig, Tag("qdrant_edge")]
    | Annotated[MilvusStoreConfig, Tag("milvus")]
    | Annotated[QdrantStoreConfig, Tag("qdrant")]
    | Annotated[WeaviateStoreConfig, Tag("weaviate")]
    | ThirdParty,
    tagged_by({name: name for name in ("qdrant_edge", "milvus", "qdrant", "weaviate")}),
]
GeneratorConfig: TypeAlias = Annotated[
    Annotated[ExtractiveGeneratorConfig, Tag("extractive")]
    | Annotated[OpenAIGeneratorConfig, Tag("openai")]
    | ThirdParty,
    tagged_by({"extractive": "extractive", "openai": "openai"}),
]


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):  # equal to 1 or 0, in Python
        raise ValueError("expected 1")
    return value


class PipelineConfig(ConfigBlock):
    """One pipeline: everything that ``ragstack`` does is driven by this."""

    version: Annotated[Literal[1], BeforeValidator(_no_bool)] = Field(
        default=1, description="Version of this file's format."
    )
    sources: SourcesConfig = Field(default=SourcesConfig(), description="What is indexed.")
    fields: dict[FieldName, FieldConfig] = Field(
        default_factory=dict, description="Metadata fields that filters may name, each with its type."
    )
    chunker: AnyChunkerConfig = Field(default=ChunkerConfig(), description="How documents are cut.")
    embedder: EmbedderConfig = Field(default=LocalEmbedderConfig(), description="How texts become vectors.")
    store: StoreConfig = Field(default=QdrantEdgeStoreConfig(), description="Where vectors are kept and searched.")
    retrieval: RetrievalConfig = Field(default=RetrievalConfig(), description="How candidates are found.")
    reranker: RerankerConfig = Field(default=LateInteractionConfig(), description="How candidates are ordered.")
    generator: GeneratorConfig = Field(default=ExtractiveGeneratorConfig(), description="How an answer is made.")
    indexer: IndexerConfig = Field(default=IndexerConfig(), description="How an index is written.")
    server: ServerConfig = Field(default=ServerConfig(), description="The REST API.")
    observability: ObservabilityConfig = Field(default=ObservabilityConfig(), description="Logs.")

    FAMILIES: ClassVar[dict[str, str]] = {
        "chunker": "chunkers",
        "embedder": "embedders",
        "store": "stores",
        "reranker": "rerankers",
        "generator": "generators",
    }

    def field_types(self) -> dict[str, FieldType]:
        """Every field that filters may name, built-in and declared, with its type."""
        return BUILTIN_FIELDS | {name: declared.type for name, declared in self.fields.items()}
