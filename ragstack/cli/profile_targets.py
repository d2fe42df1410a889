"""The models whose profiles are listed: those of a config, or the one that is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from ragstack.assembly import reranker_blocks
from ragstack.config.embedders import LocalEmbedderConfig
from ragstack.config.models import PipelineConfig
from ragstack.config.rerankers import CrossEncoderConfig
from ragstack.embedding.model_files import resolve_model
from ragstack.embedding.probe import encoder_probe
from ragstack.errors import InputError
from ragstack.inference.profile import ModelWeights
from ragstack.inference.profiles import ModelFacts
from ragstack.inference.role import EMBEDDER, RERANKER, ModelRole
from ragstack.inference.selection import Wanted, wanted_by
from ragstack.inference.self_check import Probe
from ragstack.reranking.cross_encoder_files import find_cross_encoder
from ragstack.reranking.probe import pair_probe


@dataclass(frozen=True, slots=True)
class Target:
    """A model, and what its block and the environment ask for. ``weights`` is None where they are not at hand."""

    role: ModelRole
    name: str
    facts: ModelFacts
    wanted: Wanted
    weights: ModelWeights | None
    probe: Callable[[], Probe]


def find_targets(config: PipelineConfig, model: str | None, revision: str | None) -> list[Target]:
    """The local models of the config, or the embedding model that is named.

    Raises InputError where there is none, and what finding a model's files raises.
    """
    if model is not None:
        return [_embedder(model, revision, wanted_by(EMBEDDER, None, None, os.environ))]
    found = list(_of_config(config))
    if not found:
        raise InputError("the config names no model that runs on this machine.", hint="Name one with --model.")
    return found


def _of_config(config: PipelineConfig) -> Iterator[Target]:
    block = config.embedder
    if isinstance(block, LocalEmbedderConfig):
        yield _embedder(block.model, block.revision, wanted_by(EMBEDDER, block.profile, block.device, os.environ))
    for reranker in reranker_blocks(config):
        if isinstance(reranker, CrossEncoderConfig):
            yield _cross_encoder(reranker)


def _embedder(model: str, revision: str | None, wanted: Wanted) -> Target:
    weights = resolve_model(model, revision)
    return Target(EMBEDDER, weights.card.name, ModelFacts.of(weights), wanted, weights, partial(encoder_probe, weights))


def _cross_encoder(block: CrossEncoderConfig) -> Target:
    files = find_cross_encoder(block.model, block.revision, max_tokens=block.max_tokens, label=block.label)
    wanted = wanted_by(RERANKER, block.profile, block.device, os.environ)
    return Target(RERANKER, files.name, ModelFacts.of(files), wanted, files, partial(pair_probe, files))
