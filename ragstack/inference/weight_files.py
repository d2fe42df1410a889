"""The weights in a model's folder, in every form they are there, and the digest that names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ragstack.inference.digests import file_digest
from ragstack.inference.model_files import external_data, read_json, read_weights
from ragstack.inference.parameters import count_parameters
from ragstack.inference.profile import WeightsFormat
from ragstack.inference.role import ModelRole
from ragstack.types import canonical_json, sha256_hex

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class WeightFiles:
    """The weights in one folder, from which a :class:`ragstack.inference.profile.ModelWeights` is made.

    ``onnx_file`` is the graph, whose tensors may lie beside it; ``safetensors`` one file, or all shards. ``sha256``
    (hex) changes with any byte of them, and with ``config.json`` where the weights are safetensors: it says how they
    are computed with. ``size_bytes`` is that of the smallest form on disk.
    """

    root: Path
    role: ModelRole
    sha256: str
    onnx_file: Path | None
    onnx_sha256: str
    safetensors: tuple[Path, ...]
    size_bytes: int

    @property
    def formats(self) -> frozenset[WeightsFormat]:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        found: set[WeightsFormat] = set()
        if self.onnx_file is not None:
            found.add("onnx")
        if self.safetensors:
            found.add("safetensors")
        return frozenset(found)

    @property
    def parameters(self) -> int:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return count_parameters(self.onnx_file, self.safetensors, self.role)

    def onnx(self) -> bytes | Path:
        """See :class:`ragstack.inference.profile.ModelWeights`. Raises the role's error where there is no graph."""
        if self.onnx_file is None:
            raise self.role.error(
                f"{self.root}: has no model.onnx.",
                hint="Choose a profile that runs safetensors (pip install 'ragstack[torch]'), or export the model"
                " (for example with `optimum-cli export onnx`).",
            )
        return read_weights(self.onnx_file, self.onnx_sha256, self.role)

    def folder(self) -> Path:
        """See :class:`ragstack.inference.profile.ModelWeights`. Raises the role's error where there are none."""
        if not self.safetensors:
            raise self.role.error(f"{self.root}: has no safetensors.", hint="Choose a profile that runs ONNX.")
        return self.root


def find_weights(folder: Path, role: ModelRole) -> WeightFiles:
    """The weights of ``folder``: ``model.onnx`` or ``onnx/model.onnx``, ``model.safetensors`` or its shards.

    Raises the role's error when it has neither, when a shard is missing, or when a file cannot be read.
    """
    graph = next((p for p in (folder / "model.onnx", folder / "onnx" / "model.onnx") if p.is_file()), None)
    tensors = _safetensors(folder, role)
    if graph is None and not tensors:
        raise _nothing(folder, role)
    graph_files = [] if graph is None else [graph, *_existing([external_data(graph)])]
    digests = {str(path.relative_to(folder)): file_digest(path, role) for path in (*graph_files, *tensors)}
    if tensors:
        digests["config.json"] = file_digest(folder / "config.json", role)
    # One file's digest is that of the model, as it is where weights are pinned.
    named = next(iter(digests.values())) if len(digests) == 1 else sha256_hex(canonical_json(digests).encode())
    sizes = [sum(path.stat().st_size for path in paths) for paths in (graph_files, tensors) if paths]
    onnx_sha256 = "" if graph is None else digests[str(graph.relative_to(folder))]
    return WeightFiles(folder, role, named, graph, onnx_sha256, tuple(tensors), min(sizes))


def _safetensors(folder: Path, role: ModelRole) -> list[Path]:
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    index = folder / _INDEX
    if not index.is_file():
        return []
    shards = read_json(index, role).get("weight_map")
    names = sorted({str(name) for name in shards.values()}) if isinstance(shards, dict) else []
    # A name that leads out of the folder is no shard.
    if not names or any(Path(name).name != name for name in names):
        raise role.error(f"{index}: weight_map must tell each tensor's file.", hint="Download the model again.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise role.error(
            f"{folder}: {len(missing)} of {len(names)} weights files are missing, such as {missing[0]}.",
            hint="Download the model again.",
        )
    return [folder / name for name in names]


def _existing(paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if path.is_file()]


def _nothing(folder: Path, role: ModelRole) -> Exception:
    hint = "Export the model to ONNX (for example with `optimum-cli export onnx`), then use that folder."
    if (folder / "adapter_config.json").is_file():
        hint = "It holds an adapter only: merge it into its base model (peft's merge_and_unload), then save that."
    elif any((folder / name).is_file() for name in _PICKLED):
        hint = (
            "Its pytorch_model.bin is a pickle, which can run code and is never loaded: load it where you trust it,"
            " and save it with save_pretrained, which writes safetensors; or export it to ONNX."
        )
    return role.error(f"{folder}: has neither model.onnx nor onnx/model.onnx nor {_SINGLE}.", hint=hint)
