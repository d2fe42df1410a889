"""What the registries of embedding models and of rerankers have in common. Data: no runtime is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ragstack.inference.profile import WeightsFormat
from ragstack.inference.role import ModelRole

RemoteApi: TypeAlias = Literal["nim", "openai", "cohere"]
"""The wire format of a model that is reached over HTTP, as the ``api`` of a remote block names it."""


def language_codes(line: str) -> tuple[str, ...]:
    """The ISO 639-1 codes of a line, so that a list of a hundred stays readable."""
    return tuple(line.split())


NVIDIA_LANGUAGES = language_codes("ar bn cs da de en es fa fi fr he hi hu id it ja ko nl no pl pt ru sv th tr zh")
"""The 26 languages that the cards of NVIDIA's multilingual models were evaluated on."""

QWEN3_LANGUAGES = language_codes(
    "af ar as az ba be bg bn bs ca ceb cs cy da de el en es et eu fa fi fo fr ga gl gu he hi hr ht hu hy id is it ja jv"
    " ka kk km kn ko lb li lo lt lv mk ml mr ms mt my ne nl no oc or pa pl pt ro ru sc sd si sk sl sq sr su sv sw ta te"
    " tg th tl tr tt uk ur uz vi yi zh"
)
"""Those of the 119 that Qwen3 was trained on which have a code of two letters, and Cebuano:
https://qwenlm.github.io/blog/qwen3/"""


@dataclass(frozen=True, slots=True)
class HubFiles:
    """A repository on the Hugging Face hub, fetched at the ``revision`` that the config pins.

    ``formats`` are the forms of weights in it that can be run here. ``example_revision`` is a commit that MTEB's
    published results are of, where it names one: something to begin with, not a recommendation.
    """

    repo_id: str
    formats: tuple[WeightsFormat, ...]
    example_revision: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteName:
    """Where a model is to be had over HTTP: the wire format, and the name by which the API knows it."""

    api: RemoteApi
    model: str


def memory_bytes(parameters: int) -> dict[str, int]:
    """What the weights of so many parameters take when they are loaded, by precision; activations come on top."""
    return {"fp32": 4 * parameters, "bf16": 2 * parameters}


def hub_revision(name: str, files: HubFiles, revision: str | None, role: ModelRole) -> str:
    """The revision at which a registered model's repository is read.

    Raises InputError where the config gives none: repositories change, and so would the vectors.
    """
    if revision is not None:
        return revision
    example = f"; {files.example_revision} is the commit that MTEB's results are of" if files.example_revision else ""
    raise role.input_error(
        "model",
        f"the weights of {name} are on the Hugging Face hub ({files.repo_id}) and must be pinned, but have no"
        " revision.",
        f"Set {role.key}.revision to a commit of https://huggingface.co/{files.repo_id}/commits/main{example}. Or set"
        f" {role.key}.model to a folder that holds the repository.",
    )


def remote_only(name: str, why: str, remote: tuple[RemoteName, ...], role: ModelRole) -> Exception:
    """The error for a registered model whose weights cannot be run here."""
    apis = " or ".join(f"api: {found.api}, model: {found.model}" for found in remote)
    return role.input_error(
        "model", f"{name} cannot be run here: {why}", f"Set {role.key}.type to remote ({apis}), with its base_url."
    )


def named_by(cards: Mapping[str, object], model: str) -> str | None:
    """The name of the card that ``model`` means: that name, its repository, or what an API calls it; None for none."""
    if model in cards:
        return model
    for name, card in cards.items():
        files = getattr(card, "files", None)
        if isinstance(files, HubFiles) and files.repo_id == model:
            return name
        if any(remote.model == model for remote in getattr(card, "remote", ())):
            return name
    return None
