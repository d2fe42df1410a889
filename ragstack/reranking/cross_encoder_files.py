"""What a cross-encoder's own files say: what it reads and how much, which of its outputs means relevant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ragstack.errors import InputError, RerankingError
from ragstack.inference.model_cards import hub_revision, remote_only
from ragstack.inference.model_files import SAFETENSORS_PATTERNS, WEIGHTS_PATTERNS, find_folder, positions, read_json
from ragstack.inference.profile import WeightsFormat
from ragstack.inference.role import LLM_RERANKER, RERANKER, ModelRole
from ragstack.inference.tokenizer_file import read_tokenizer
from ragstack.inference.weight_files import WeightFiles, find_weights
from ragstack.registry import known_names
from ragstack.reranking.model_kind import ModelKind, check_card_kind, check_kind
from ragstack.reranking.model_prompts import PROMPTS, chat_prompt, given_template
from ragstack.reranking.models import RERANKER_MODELS, RerankerCard, reranker_card
from ragstack.reranking.pairs import PairEncoder, SequenceEncoder
from ragstack.reranking.prompt_template import PromptEncoder, PromptTemplate

_PATTERNS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
    "config_sentence_transformers.json",
    "chat_template.jinja",
    "modules.json",
    "*/config.json",
)

MOST_TOKENS = 8192
"""What decoders that rerank read where nobody says: their cards' code cuts there, though they have more positions."""

_POSITIVE = frozenset({"relevant", "true", "yes", "positive", "1", "label_1"})
_NEGATIVE = frozenset({"irrelevant", "not_relevant", "non_relevant", "false", "no", "negative", "0", "label_0"})
_ACTIVATIONS = frozenset({"identity", "sigmoid"})
_UNLIMITED = 1_000_000  # what tokenizer_config.json says where nobody set a length is larger


@dataclass(frozen=True)
class CrossEncoderFiles:
    """A model whose files are at hand; :class:`ragstack.inference.profile.ModelWeights` are some of them.

    ``max_tokens`` of
    query and passage together, what else the model reads too. ``template`` is the prompt that it reads them in, None
    where its tokenizer pairs them. ``relevant`` is the index of the label that means relevant, None where the model has
    one output. ``pad_id`` fills up shorter rows of a batch; None: the model cannot tell it from a text's token, so only
    pairs of the same length may run together. ``scales_with_its_batch``: the ONNX weights are quantised with scales
    taken from the batch at hand, so a pair has another score in another batch.
    """

    name: str
    weights: WeightFiles
    tokenizer_file: Path
    max_tokens: int
    template: PromptTemplate | None
    relevant: int | None
    pad_id: int | None
    scales_with_its_batch: bool
    label_tokens: tuple[int, ...] = ()

    @property
    def role(self) -> ModelRole:
        """What messages call the model."""
        return LLM_RERANKER if self.label_tokens else RERANKER

    @property
    def sha256(self) -> str:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return self.weights.sha256

    @property
    def formats(self) -> frozenset[WeightsFormat]:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        # Of a graph a language model gives the logits of all its words at every position.
        return self.weights.formats - {"onnx"} if self.label_tokens else self.weights.formats

    @property
    def parameters(self) -> int:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return self.weights.parameters

    def folder(self) -> Path:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return self.weights.folder()

    def onnx(self) -> bytes | Path:
        """See :class:`ragstack.inference.profile.ModelWeights`."""
        return self.weights.onnx()

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, its truncation and padding switched off. Raises RerankingError."""
        return read_tokenizer(self.tokenizer_file, None, RERANKER)[0]

    def encoder(self, *, windows: bool) -> SequenceEncoder:
        """What makes the model's sequences. Raises RerankingError, and InputError for too small a ``max_tokens``."""
        if self.template is None:
            return PairEncoder(self.tokenizer(), self.max_tokens, self.name, windows=windows)
        return PromptEncoder(self.tokenizer(), self.template, self.max_tokens, self.name, windows=windows)


def find_cross_encoder(
    model: str,
    revision: str | None = None,
    *,
    max_tokens: int | None = None,
    label: str | None = None,
    prompt_template: str | None = None,
) -> CrossEncoderFiles:
    """The files of ``model``: a folder, or a registered name or Hugging Face id with its ``revision``.

    ``max_tokens`` lowers what the model reads, ``label`` names the label that means relevant, ``prompt_template`` is
    the text in which it reads query and passage (:class:`ragstack.reranking.prompt_template.PromptTemplate`).
    Raises InputError for a model that is neither, or no classifier, and for settings that do not fit it; RerankingError
    for files that are missing, damaged, not downloadable or of a kind that cannot be run.
    """
    tensors = SAFETENSORS_PATTERNS if find_spec("torch") is not None else ()
    found = find_reranker(model, revision, "classifier", (*WEIGHTS_PATTERNS, *tensors))
    weights = find_weights(found.folder, RERANKER)
    files = CrossEncoderFiles(
        name=found.name,
        weights=weights,
        tokenizer_file=found.folder / "tokenizer.json",
        max_tokens=tokens_read(found, max_tokens),
        template=_template(found, prompt_template),
        relevant=_relevant_label(found.folder, found.config, label),
        pad_id=_pad_id(found.config),
        scales_with_its_batch=_scales_with_its_batch(weights),
    )
    if files.template is None and _is_decoder(found.config) and not files.tokenizer().num_special_tokens_to_add(True):
        raise InputError(
            f"reranker.prompt_template: {files.name} does not say how query and passage are put together, and its"
            " tokenizer puts nothing between them.",
            hint="Set it to the prompt of the model's card, with {query} and {passage}.",
        )
    if max_tokens is not None:
        files.encoder(windows=True)  # which refuses a figure that the prompt alone takes
    return files


@dataclass(frozen=True, slots=True)
class FoundReranker:
    """A model's folder, what messages call it, what its ``config.json`` says, and its card where it is registered."""

    folder: Path
    name: str
    config: dict[str, Any]
    card: RerankerCard | None


def find_reranker(model: str, revision: str | None, wanted: ModelKind, patterns: Sequence[str]) -> FoundReranker:
    """The folder of ``model``, a ``wanted`` kind of model whose scores can be used.

    Of a repository the weights that ``patterns`` name are fetched, and the files that say how to run them. Raises what
    :func:`find_cross_encoder` does.
    """
    # A folder of a registered model's name is what is meant: the registry has nothing to run without a revision.
    is_folder = revision is None and Path(model).expanduser().is_dir()
    card = None if is_folder else reranker_card(model)
    if card is not None:
        check_card_kind(card, wanted)
        if card.files is None:
            raise remote_only(card.name, card.not_local, card.remote, RERANKER)
        model, revision = card.files.repo_id, hub_revision(card.name, card.files, revision, RERANKER)
    folder = find_folder(model, revision, RERANKER, (*_PATTERNS, *patterns))
    if folder is None:
        raise InputError(
            f"reranker.model: unknown model {model!r}.",
            hint=f"{known_names(model, RERANKER_MODELS)} Or give a folder with model.onnx or model.safetensors,"
            " tokenizer.json and config.json, or a Hugging Face id (org/name) with a revision.",
        )
    config = read_json(folder / "config.json", RERANKER)
    check_kind(folder, config, wanted)
    _check_activation(folder, config)
    return FoundReranker(folder, folder.name if revision is None else model, config, card)


def tokens_read(found: FoundReranker, wanted: int | None) -> int:
    """How many tokens the model reads: ``wanted``, or what its files say, and of decoders :data:`MOST_TOKENS` at most.

    Raises InputError where more is wanted than the model has positions for.
    """
    folder = found.folder
    stated = read_json(folder / "tokenizer_config.json", RERANKER, optional=True).get("model_max_length")
    most = positions(folder, found.config, RERANKER)
    if isinstance(stated, int) and 0 < stated < _UNLIMITED:
        most = min(most, stated)
    if found.card is not None:
        most = min(most, found.card.max_tokens)
    if wanted is None:
        return min(most, MOST_TOKENS) if _is_decoder(found.config) else most
    if wanted > most:
        raise InputError(
            f"reranker.max_tokens: {wanted} is more than the {most} tokens that {folder.name} reads.",
            hint=f"Set it to {most} or less, or leave it out.",
        )
    return wanted


def _template(found: FoundReranker, given: str | None) -> PromptTemplate | None:
    if given is not None:
        return given_template(given)
    told = chat_prompt(found.folder)
    if told is not None:
        return told
    text = PROMPTS.get(str(found.config.get("model_type")))
    return None if text is None else PromptTemplate(text)


def _scales_with_its_batch(weights: WeightFiles) -> bool:
    return weights.onnx_file is not None and b"DynamicQuantizeLinear" in weights.onnx_file.read_bytes()


def _pad_id(config: Mapping[str, Any]) -> int | None:
    """The padding token; None for a decoder whose classifier looks for a row's last token without knowing it."""
    found = config.get("pad_token_id")
    if isinstance(found, int):
        return found
    # Encoders go by the attention mask alone.
    return None if _is_decoder(config) else 0


def _is_decoder(config: Mapping[str, Any]) -> bool:
    # What language models say, and encoders don't: how many heads of attention share a key.
    return "num_key_value_heads" in config


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
