"""What a cross-encoder's own files say: how much it reads, which of its outputs means relevant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ragstack.errors import InputError, RerankingError
from ragstack.inference.model_files import (
    WEIGHTS_PATTERNS,
    find_folder,
    positions,
    read_json,
    read_weights,
    weights_file,
)
from ragstack.inference.parameters import count_parameters
from ragstack.inference.profile import WeightsFormat
from ragstack.inference.role import RERANKER
from ragstack.inference.tokenizer_file import read_tokenizer
from ragstack.types import sha256_hex

_PATTERNS = (*WEIGHTS_PATTERNS, "tokenizer_config.json", "config_sentence_transformers.json")
_POSITIVE = frozenset({"relevant", "true", "yes", "positive", "1", "label_1"})
_NEGATIVE = frozenset({"irrelevant", "not_relevant", "non_relevant", "false", "no", "negative", "0", "label_0"})
_ACTIVATIONS = frozenset({"identity", "sigmoid"})
_UNLIMITED = 1_000_000  # what tokenizer_config.json says where nobody set a length is larger


@dataclass(frozen=True)
class CrossEncoderFiles:
    """A model whose files are at hand.

    ``max_tokens`` of query and passage together, special ones too. ``relevant`` is the index of the label that means
    relevant, None where the model has one output. ``pad_id`` fills up shorter rows of a batch.
    ``scales_with_its_batch``: the weights are quantised with scales taken from the batch at hand, so a pair has another
    score in another batch.
    """

    name: str
    weights: Path
    weights_sha256: str
    tokenizer_file: Path
    max_tokens: int
    relevant: int | None
    pad_id: int
    scales_with_its_batch: bool

    @property
    def sha256(self) -> str:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return self.weights_sha256

    @property
    def formats(self) -> frozenset[WeightsFormat]:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return frozenset({"onnx"})

    @property
    def label_tokens(self) -> tuple[int, ...]:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return ()

    @property
    def parameters(self) -> int:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return count_parameters(self.weights, (), RERANKER)

    def folder(self) -> Path:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        raise RerankingError(f"{self.name} has no safetensors.", hint="Choose a profile that runs ONNX.")

    def onnx(self) -> bytes | Path:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return read_weights(self.weights, self.weights_sha256, RERANKER)

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, its truncation and padding switched off. Raises RerankingError."""
        return read_tokenizer(self.tokenizer_file, None, RERANKER)[0]


def find_cross_encoder(
    model: str, revision: str | None = None, *, max_tokens: int | None = None, label: str | None = None
) -> CrossEncoderFiles:
    """The files of ``model``: a folder, or a Hugging Face id with its ``revision``.

    ``max_tokens`` lowers what the model reads, ``label`` names the label that means relevant. Raises InputError for
    a model that is neither, and for settings that do not fit it; RerankingError for files that are missing, damaged,
    not downloadable or of a kind that cannot be run.
    """
    folder = find_folder(model, revision, RERANKER, _PATTERNS)
    if folder is None:
        raise InputError(
            f"reranker.model: {model!r} is no folder, and no Hugging Face id.",
            hint="Give a folder with model.onnx, tokenizer.json and config.json, or an id (org/name) with a revision.",
        )
    weights = weights_file(folder, RERANKER)
    data = weights.read_bytes()
    config = read_json(folder / "config.json", RERANKER)
    _check_activation(folder, config)
    return CrossEncoderFiles(
        name=folder.name if revision is None else model,
        weights=weights,
        weights_sha256=sha256_hex(data),
        tokenizer_file=folder / "tokenizer.json",
        max_tokens=_max_tokens(folder, config, max_tokens),
        relevant=_relevant_label(folder, config, label),
        pad_id=config["pad_token_id"] if isinstance(config.get("pad_token_id"), int) else 0,
        scales_with_its_batch=b"DynamicQuantizeLinear" in data,
    )


def _max_tokens(folder: Path, config: dict[str, Any], wanted: int | None) -> int:
    stated = read_json(folder / "tokenizer_config.json", RERANKER, optional=True).get("model_max_length")
    most = positions(folder, config, RERANKER)
    if isinstance(stated, int) and 0 < stated < _UNLIMITED:
        most = min(most, stated)
    if wanted is None:
        return most
    if wanted > most:
        raise InputError(
            f"reranker.max_tokens: {wanted} is more than the {most} tokens that {folder.name} reads.",
            hint=f"Set it to {most} or less, or leave it out.",
        )
    return wanted


def _relevant_label(folder: Path, config: Mapping[str, Any], wanted: str | None) -> int | None:
    names = config.get("id2label")
    if not isinstance(names, dict) or len(names) < 2:
        if wanted is not None:
            raise InputError(f"reranker.label: {folder.name} has one output and no labels.", hint="Leave label out.")
        return None
    labels = {str(name): int(index) for index, name in names.items()}
    if wanted is not None:
        if wanted not in labels:
            raise InputError(f"reranker.label: {folder.name} has no label {wanted!r}.", hint=_labels(labels))
        return labels[wanted]
    positive = [index for name, index in labels.items() if name.lower() in _POSITIVE]
    others = [name for name, index in labels.items() if index not in positive]
    if len(labels) == 2 and len(positive) == 1 and others[0].lower() in _NEGATIVE:
        return positive[0]
    raise InputError(
        f"reranker.label: {folder / 'config.json'} does not tell which label means relevant.",
        hint=f"Set reranker.label to it. {_labels(labels)}",
    )


def _labels(labels: Mapping[str, int]) -> str:
    return f"It has {', '.join(labels)}."


def _check_activation(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a model whose scores are made by another function than the logistic one, or by none.

    sentence-transformers has written it to three places; both known ones leave the order of the outputs as it is.
    """
    own = config.get("sentence_transformers")
    later = read_json(folder / "config_sentence_transformers.json", RERANKER, optional=True)
    for found in (
        config.get("sbert_ce_default_activation_function"),
        own.get("activation_fn") if isinstance(own, dict) else None,
        later.get("activation_fn"),
    ):
        if found is not None and str(found).rsplit(".", 1)[-1].lower() not in _ACTIVATIONS:
            raise RerankingError(
                f"{folder}: its scores go through {found}, which cannot be run.",
                hint="Choose a cross-encoder whose activation is the identity or the logistic function.",
            )
