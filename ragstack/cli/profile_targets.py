"""The models whose profiles are listed: those of a config, or the one that is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ragstack.assembly import reranker_blocks, reranker_files
from ragstack.config.embedders import LocalEmbedderConfig
from ragstack.config.models import PipelineConfig
from ragstack.config.rerankers import CrossEncoderConfig, LlmYesNoConfig
from ragstack.embedding.model_card import ModelCard
from ragstack.embedding.model_files import resolve_model
from ragstack.embedding.models import card_of
from ragstack.embedding.probe import encoder_probe
from ragstack.inference.model_cards import HubFiles, remote_only
from ragstack.inference.model_files import read_json
from ragstack.inference.profile import ModelWeights
from ragstack.inference.profiles import ModelFacts
from ragstack.inference.role import EMBEDDER, RERANKER, ModelRole
from ragstack.inference.selection import Wanted, wanted_by
from ragstack.inference.self_check import Probe
from ragstack.reranking.cross_encoder_files import CrossEncoderFiles, find_cross_encoder
from ragstack.reranking.models import RerankerCard, reranker_card
from ragstack.reranking.probe import pair_probe
from ragstack.types import sha256_hex


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model's files, and what it is asked when its profiles are run."""

    weights: ModelWeights
    probe: Callable[[], Probe]


@dataclass(frozen=True, slots=True)
class Target:
    """A model, and what its block and the environment ask for.

    ``local`` is None for a registered model whose files were not looked for: what is known of it is its card's.
    """

    role: ModelRole
    name: str
    facts: ModelFacts
    wanted: Wanted
    local: LocalModel | None


def named_target(model: str, revision: str | None) -> Target:
    """The model that is named: by a registered name, a folder, or a Hugging Face id.

    Of a registered model without a revision nothing is fetched. Raises what finding a model's files raises.
    """
    reranker, embedder = reranker_card(model), card_of(model)
    is_folder = Path(model).expanduser().is_dir()
    if reranker is not None and not is_folder:
        return _of_card(reranker, RERANKER, revision)
    if embedder is not None and revision is None and not is_folder and (embedder.files is None or _is_hub(embedder)):
        return _of_card(embedder, EMBEDDER, revision)
    if is_folder and _is_classifier(Path(model).expanduser()):
        return _cross_encoder(find_cross_encoder(model), wanted_by(RERANKER, None, None, os.environ))
    return _embedder(model, revision, wanted_by(EMBEDDER, None, None, os.environ))


def config_targets(config: PipelineConfig, *, fetch: bool) -> Iterator[Target]:
    """The models of a config that run on this machine; without ``fetch`` those of a hub are left out.

    Raises what finding a model's files raises.
    """
    block = config.embedder
    if isinstance(block, LocalEmbedderConfig) and (fetch or block.revision is None):
        wanted = wanted_by(EMBEDDER, block.profile, block.device, os.environ)
        yield _embedder(block.model, block.revision, wanted)
    for reranker in reranker_blocks(config):
        if isinstance(reranker, (CrossEncoderConfig, LlmYesNoConfig)) and (fetch or reranker.revision is None):
            wanted = wanted_by(RERANKER, reranker.profile, reranker.device, os.environ)
            yield _cross_encoder(reranker_files(reranker), wanted)


def _embedder(model: str, revision: str | None, wanted: Wanted) -> Target:
    weights = resolve_model(model, revision)
    local = LocalModel(weights, partial(encoder_probe, weights))
    return Target(EMBEDDER, weights.card.name, ModelFacts.of(weights), wanted, local)


def _cross_encoder(files: CrossEncoderFiles, wanted: Wanted) -> Target:
    return Target(files.role, files.name, ModelFacts.of(files), wanted, LocalModel(files, partial(pair_probe, files)))


def _is_classifier(folder: Path) -> bool:
    architectures = read_json(folder / "config.json", RERANKER, optional=True).get("architectures") or [""]
    return str(architectures[0]).endswith("ForSequenceClassification")


def _is_hub(card: ModelCard) -> bool:
    return isinstance(card.files, HubFiles)


def _of_card(card: ModelCard | RerankerCard, role: ModelRole, revision: str | None) -> Target:
    """A model of the hub, by what is known of it: nothing is fetched.

    Its weights have no hash yet, so the ids of its profiles are those of its repository's name.
    """
    if not isinstance(card.files, HubFiles):
        raise remote_only(card.name, card.not_local, card.remote, role)
    named_by = sha256_hex(f"{card.files.repo_id}@{revision or ''}".encode())
    facts = ModelFacts(named_by, frozenset(card.files.formats), card.parameters)
    return Target(role, card.name, facts, wanted_by(role, None, None, os.environ), None)
