"""What is tried: settings around those of the config, each a dotted key of the YAML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.config.rerankers import LateInteractionConfig, NoRerankerConfig

DEFAULT_CHUNK_SIZES = (100, 200, 300)
_FACTORS = (0.0, 0.5, 1.0, 2.0)
_DEPTHS = (20, 50, 100)
_LEG_WEIGHTS = ((1.0, 0.5), (0.5, 1.0))
_WEIGHT = "_weight"


@dataclass(frozen=True)
class Settings:
    """One point of the space. ``weights`` are the reranker's, by the names of its score parts."""

    max_tokens: int | None
    dense_weight: float
    sparse_weight: float
    rerank_k: int
    weights: Mapping[str, float]

    def values(self, config: PipelineConfig) -> dict[str, Any]:
        """The dotted keys at which these settings differ from the config's, with their values."""
        fusion = config.retrieval.fusion
        values: dict[str, Any] = {
            "retrieval.fusion.dense_weight": self.dense_weight,
            "retrieval.fusion.sparse_weight": self.sparse_weight,
            "retrieval.rerank_k": self.rerank_k,
            **{f"reranker.{name}{_WEIGHT}": weight for name, weight in self.weights.items()},
        }
        own: dict[str, Any] = {
            "retrieval.fusion.dense_weight": fusion.dense_weight,
            "retrieval.fusion.sparse_weight": fusion.sparse_weight,
            "retrieval.rerank_k": config.retrieval.rerank_k,
            **{f"reranker.{name}{_WEIGHT}": weight for name, weight in reranker_weights(config).items()},
        }
        if self.max_tokens is not None:
            values["chunker.max_tokens"] = self.max_tokens
            own["chunker.max_tokens"] = getattr(config.chunker, "max_tokens", None)
        return {key: value for key, value in values.items() if value != own.get(key)}


def reranker_weights(config: PipelineConfig) -> dict[str, float]:
    """The weights of the reranker's score parts, by part; empty for a reranker without such weights."""
    if not isinstance(config.reranker, LateInteractionConfig):
        return {}
    values = config.reranker.model_dump()
    return {key.removesuffix(_WEIGHT): value for key, value in values.items() if key.endswith(_WEIGHT)}


def can_be_replayed(config: PipelineConfig) -> bool:
    """True when other weights and depths can be tried on recorded scores: the reranker's are sums of parts."""
    return isinstance(config.reranker, (LateInteractionConfig, NoRerankerConfig))


def own_settings(config: PipelineConfig, max_tokens: int | None = None) -> Settings:
    """The config's own point; with another chunk size where one is given."""
    fusion = config.retrieval.fusion
    own_size = getattr(config.chunker, "max_tokens", None)
    return Settings(
        own_size if max_tokens is None else max_tokens,
        fusion.dense_weight,
        fusion.sparse_weight,
        config.retrieval.rerank_k,
        reranker_weights(config),
    )


def settings_for(config: PipelineConfig, max_tokens: int | None) -> Iterator[Settings]:
    """Every point for one chunk size, the config's own weights and depth first. The order is always the same."""
    first = own_settings(config, max_tokens)
    yield first
    if not can_be_replayed(config):
        return
    seen = {_identity(first)}
    for (dense, sparse), depth, weights in product(_legs(config), _rerank_depths(config), _weights(config)):
        settings = Settings(first.max_tokens, dense, sparse, depth, weights)
        if _identity(settings) not in seen:
            seen.add(_identity(settings))
            yield settings


def chunk_sizes(
    config: PipelineConfig, asked: Sequence[int] | None, longest: int
) -> tuple[list[int | None], list[str]]:
    """The chunk sizes to try, the config's own first, and why others are left out.

    ``longest`` is what the embedder reads. None stands for a chunker without a size.
    """
    own = getattr(config.chunker, "max_tokens", None)
    if own is None:
        return [None], ["the chunker has no max_tokens: its size stays"]
    sizes: list[int | None] = [own]
    notes = []
    for size in dict.fromkeys(DEFAULT_CHUNK_SIZES if asked is None else asked):
        if size == own:
            continue
        if size > longest:
            notes.append(f"chunks of {size} tokens are longer than the embedder reads ({longest})")
        elif size < 2 * getattr(config.chunker, "overlap_tokens", 0):
            notes.append(f"chunks of {size} tokens are shorter than twice the overlap")
        else:
            sizes.append(size)
    return sizes, notes


def with_values(loaded: LoadedConfig, values: Mapping[str, Any]) -> LoadedConfig:
    """The config with dotted keys set, validated anew. Raises pydantic's ValidationError for what is no config."""
    data = loaded.config.model_dump()
    for key, value in values.items():
        *blocks, last = key.split(".")
        block = data
        for name in blocks:
            block = block[name]
        block[last] = value
    changed = PipelineConfig.model_validate(data)
    update = {name: getattr(changed, name) for name in {key.split(".")[0] for key in values}}
    return LoadedConfig(loaded.config.model_copy(update=update), loaded.origin, loaded.path, loaded.places)


def _identity(settings: Settings) -> tuple[Any, ...]:
    weights = tuple(sorted(settings.weights.items()))
    return settings.max_tokens, settings.dense_weight, settings.sparse_weight, settings.rerank_k, weights


def _legs(config: PipelineConfig) -> list[tuple[float, float]]:
    fusion = config.retrieval.fusion
    own = (fusion.dense_weight, fusion.sparse_weight)
    return [own, *_LEG_WEIGHTS, (1.0, 1.0)] if config.retrieval.mode == "hybrid" else [own]


def _rerank_depths(config: PipelineConfig) -> list[int]:
    own, top_k = config.retrieval.rerank_k, config.retrieval.top_k
    if not isinstance(config.reranker, LateInteractionConfig):
        return [own]
    return [own, *(depth for depth in _DEPTHS if config.retrieval.top_n <= depth <= top_k)]


def _weights(config: PipelineConfig) -> Iterator[dict[str, float]]:
    """Each weight is left out, halved, kept and doubled; the first one that counts stays, for only ratios matter.

    A weight that the config sets to 0 is tried around its default.
    """
    own = reranker_weights(config)
    names = list(own)
    usual = type(config.reranker).model_fields
    fixed = next((name for name in names if own[name] > 0), None)
    choices = [
        [own[name]]
        if name == fixed
        else sorted({(own[name] or usual[f"{name}{_WEIGHT}"].default) * factor for factor in _FACTORS})
        for name in names
    ]
    for values in product(*choices):
        if any(values) or not names:
            yield dict(zip(names, values, strict=True))
