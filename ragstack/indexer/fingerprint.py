"""The pipeline fingerprint: a hash over everything that changes what is stored for the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragstack.assembly import build_bm25, reranker_blocks, reranker_files, token_vectors_kept
from ragstack.chunking.base import Chunker
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.config.rerankers import CrossEncoderConfig, LlmYesNoConfig
from ragstack.embedding.base import ModelInfo
from ragstack.parsing.registry import PARSERS
from ragstack.reranking.models import reranker_card
from ragstack.types import canonical_json, sha256_hex

INDEX_FORMAT = 1
INDEX_BLOCKS = ("fields", "chunker", "embedder", "reranker")
"""The blocks of the config that an index was built with; queries use these, not the current file's."""


def pipeline_fingerprint(config: PipelineConfig, chunker: Chunker, model: ModelInfo) -> tuple[str, dict[str, Any]]:
    """The fingerprint (64 hex digits) and the parts that it is made from.

    Settings that do not change what is stored (threads, batch sizes, store, paths) are not in it.
    """
    parts: dict[str, Any] = {
        "format": INDEX_FORMAT,
        "parsers": {name: PARSERS.load(name)().version for name in PARSERS.names()},
        "chunker": chunker.fingerprint,
        "model": model.fingerprint,
        "bm25": build_bm25(config).fingerprint,
        "fields": {name: declared.type for name, declared in config.fields.items()},
        "token_vectors": token_vectors_kept(config),
    }
    return sha256_hex(canonical_json(parts).encode()), parts


def describe_change(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Which parts differ, in words."""
    changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return f"changed: {', '.join(key.replace('_', ' ') for key in changed)}"


def check_model_limits(loaded: LoadedConfig, model: ModelInfo) -> None:
    """Raise ConfigError when chunks can be longer than the model reads, or a reranker that reads them whole.

    A reranker's folder that is there already is looked at, so that what no query could use is said before indexing.
    """
    max_tokens = getattr(loaded.config.chunker, "max_tokens", None)
    limit = model.text_tokens("passage")
    if max_tokens is not None and max_tokens > limit:
        raise loaded.error(
            "chunker.max_tokens",
            f"{max_tokens} is more than the {limit} tokens that {model.name} reads",
            hint=f"Set chunker.max_tokens to {limit} or less.",
        )
    for block in reranker_blocks(loaded.config):
        if not isinstance(block, (CrossEncoderConfig, LlmYesNoConfig)):
            continue
        whole = max_tokens if block.long_passages == "error" else None
        # A repository is not fetched for an index alone, which may be made elsewhere than queries are answered. A
        # registered model that lacks its revision, or has no weights, can be told anywhere.
        fetched = block.revision is not None or reranker_card(block.model) is None
        if whole is None and fetched and not Path(block.model).expanduser().is_dir():
            continue
        files = reranker_files(block)
        if whole is not None and whole >= files.max_tokens:
            raise loaded.error(
                "chunker.max_tokens",
                f"{whole} is too much for the {files.max_tokens} tokens that {files.name} reads of query and"
                " passage together",
                hint="Lower chunker.max_tokens, or set reranker.long_passages to windows.",
            )
