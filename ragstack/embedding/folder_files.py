"""What a model's own files say of it: those of ``transformers``, and those of sentence-transformers beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ragstack.embedding.dense_layers import DenseLayer, read_dense_layer
from ragstack.embedding.model_card import Pooling
from ragstack.errors import EmbeddingError
from ragstack.inference.model_files import positions, positive, read_json
from ragstack.inference.role import EMBEDDER

_POOLINGS: Mapping[str, Pooling] = {
    "mean": "mean",
    "mean_tokens": "mean",
    "cls": "cls",
    "cls_token": "cls",
    "lasttoken": "last",
}
_NAMES_OF_WIDTH = ("hidden_size", "d_model", "dim", "n_embd")
_UNLIMITED = 1_000_000  # what tokenizer_config.json says where nobody set a length is larger
_CARD_BYTES = 200_000


@dataclass(frozen=True)
class Modules:
    """The parts of a sentence-transformers model by their folders; ``pooling`` is None where nothing is said of it."""

    pooling: Path | None
    dense: tuple[DenseLayer, ...]
    normalizes: bool


def read_modules(folder: Path) -> Modules:
    """``modules.json``, or what its absence means. Raises EmbeddingError for parts that cannot be run."""
    path = folder / "modules.json"
    usual = folder / "1_Pooling"
    if not path.is_file():
        return Modules(usual if usual.is_dir() else None, (), normalizes=False)
    try:
        modules = [
            (str(module["type"]), str(module.get("path", "")))
            for module in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        message = f"{path}: not a list of modules with types."
        raise EmbeddingError(message, hint="Download the model again.") from error
    kinds = [_kind(path, name) for name, _ in modules]
    # Dropout does nothing but in training.
    order = [kind for kind in kinds if kind != "Dropout"]
    dense = order.count("Dense")
    expected = ["Transformer", "Pooling", *["Dense"] * dense]
    if order not in (expected, [*expected, "Normalize"], ["Transformer"]):
        strange = next((kind for kind in order if kind not in (*expected, "Normalize")), None)
        what = f"the layer {strange}" if strange else f"its layers in the order {', '.join(order)}"
        raise EmbeddingError(
            f"{path}: the model has {what}, which cannot be run.",
            hint="Choose a model made of Transformer, Pooling, Dense and Normalize, in this order.",
        )
    if modules[kinds.index("Transformer")][1] not in ("", "."):
        raise EmbeddingError(
            f"{path}: the encoder is in a folder of its own, {modules[0][1]}.",
            hint="Save the model again with a newer sentence-transformers.",
        )
    by_kind = [(kind, folder / place) for kind, (_, place) in zip(kinds, modules, strict=True)]
    return Modules(
        pooling=next((place for kind, place in by_kind if kind == "Pooling"), None),
        dense=tuple(read_dense_layer(place) for kind, place in by_kind if kind == "Dense"),
        normalizes="Normalize" in kinds,
    )


def _kind(path: Path, name: str) -> str:
    package, _, kind = name.rpartition(".")
    if package.split(".")[0] != "sentence_transformers":
        raise EmbeddingError(
            f"{path}: the model has the layer {name}, which is code of its own repository, and such code is never run.",
            hint="Choose another model, or serve this one with an embedding server and set embedder.type to remote.",
        )
    return kind


def read_pooling(folder: Path, modules: Modules, config: Mapping[str, Any]) -> Pooling:
    """How hidden states become one vector. Mean where nothing is said of an encoder; a decoder must say it.

    Raises EmbeddingError for a way that cannot be run.
    """
    if modules.pooling is None:
        return _unstated_pooling(folder, config)
    path = modules.pooling / "config.json"
    stated = read_json(path, EMBEDDER, optional=True)
    prefix = "pooling_mode_"
    modes = sorted(
        key.removeprefix(prefix) for key, value in stated.items() if key.startswith(prefix) and value is True
    )
    if "pooling_mode" in stated:  # newer files name the mode in one key
        named = stated["pooling_mode"]
        modes = [str(mode) for mode in named] if isinstance(named, list) else [str(named)]
    if not stated:
        return "mean"
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        found = " and ".join(prefix + mode for mode in modes) or "none"
        raise EmbeddingError(
            f"{path}: expected mean, CLS or last-token pooling, found {found}.",
            hint="Choose a model with one of these poolings.",
        )
    if stated.get("include_prompt") is False:
        raise EmbeddingError(
            f"{path}: the model leaves the prompt out of the mean, which cannot be run.",
            hint="Choose a model that pools over all tokens.",
        )
    return _POOLINGS[modes[0]]


def _unstated_pooling(folder: Path, config: Mapping[str, Any]) -> Pooling:
    if config.get("model_type") == "llama_bidirec":  # NVIDIA's models say it in their config.json
        named = {"avg": "mean", "cls": "cls", "last": "lasttoken"}.get(str(config.get("pooling", "avg")), "none")
        if named in _POOLINGS:
            return _POOLINGS[named]
    architectures = config.get("architectures")
    if isinstance(architectures, list) and any(str(name).endswith("ForCausalLM") for name in architectures):
        raise EmbeddingError(
            f"{folder}: a decoder ({architectures[0]}) whose files do not say how its states become one vector.",
            hint='Write 1_Pooling/config.json with {"pooling_mode": "lasttoken"} or "mean", whichever it was trained'
            " with.",
        )
    return "mean"


def check_adapters(folder: Path) -> None:
    """Refuse weights that are to be run with adapters, one for each task: without one they give other vectors.

    Raises EmbeddingError.
    """
    found = sorted(folder.glob("adapter_config.json")) + sorted(folder.glob("*/adapter_config.json"))
    if found:
        raise EmbeddingError(
            f"{found[0]}: the model has adapters for its tasks, which cannot be run.",
            hint="Merge one into the weights (peft's merge_and_unload) and save the model without it, or serve it with"
            " an embedding server and set embedder.type to remote.",
        )


def read_width(folder: Path, config: dict[str, Any]) -> int:
    """The length of the hidden states. Raises EmbeddingError where ``config.json`` does not tell."""
    name = next((name for name in _NAMES_OF_WIDTH if name in config), _NAMES_OF_WIDTH[0])
    return positive(config, name, folder / "config.json", EMBEDDER)


def read_max_tokens(folder: Path, config: dict[str, Any]) -> int:
    """Tokens the model reads, special ones included: what its files say, and never more than it has positions for."""
    most = positions(folder, config, EMBEDDER)
    for file, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        stated = read_json(folder / file, EMBEDDER, optional=True).get(key)
        if isinstance(stated, int) and 0 < stated < _UNLIMITED:
            return min(most, stated)
    return most


def reads_lower_case(folder: Path) -> bool:
    """Whether texts are brought to lower case before they are tokenised."""
    return read_json(folder / "sentence_bert_config.json", EMBEDDER, optional=True).get("do_lower_case") is True


def read_prompts(folder: Path, modules: Modules) -> tuple[str, str]:
    """The prompts before queries and before passages.

    Raises EmbeddingError for prompts that are none, and for vectors that are compared by their lengths too: they are
    brought to length 1 here.
    """
    path = folder / "config_sentence_transformers.json"
    config = read_json(path, EMBEDDER, optional=True)
    similarity = config.get("similarity_fn_name")
    if similarity not in (None, "cosine") and not modules.normalizes:
        raise EmbeddingError(
            f"{path}: the model's vectors are to be compared by {similarity}, lengths included; here they are brought"
            " to length 1.",
            hint="Choose a model whose vectors are compared by cosine.",
        )
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict):
        raise EmbeddingError(f"{path}: prompts must be an object, got {prompts!r}.", hint="Download the model again.")
    passage = next((prompts[name] for name in ("document", "passage", "corpus") if prompts.get(name)), "")
    return str(prompts.get("query") or ""), str(passage)


def read_model_card(folder: Path) -> tuple[tuple[str, ...], str]:
    """Languages (ISO 639-1) and licence by the front matter of ``README.md``; none and ``unknown`` without one."""
    unstated = (), "unknown"
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            text = file.read(_CARD_BYTES)
    except OSError:  # a model without a card
        return unstated
    parts = text.split("---\n", 2)
    if len(parts) < 3 or parts[0].strip("\ufeff\n"):
        return unstated
    try:
        # Without types: `no` is Norwegian here.
        front = yaml.load(parts[1], Loader=yaml.BaseLoader)  # noqa: S506 - it makes strings, lists and mappings only
    except yaml.YAMLError:  # written for people; what no parser reads says nothing
        return unstated
    if not isinstance(front, dict):
        return unstated
    stated = front.get("language", [])
    codes = [stated] if isinstance(stated, str) else stated if isinstance(stated, list) else []
    languages = tuple(code for code in codes if isinstance(code, str) and len(code) == 2 and code.islower())
    licence = front.get("license_name") if front.get("license") == "other" else front.get("license")
    # A card that names several hundred languages by other codes too, or "multilingual", is better left unread.
    named = languages if len(languages) == len(codes) else ()
    return named, licence if isinstance(licence, str) and licence else "unknown"
