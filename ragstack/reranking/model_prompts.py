"""Which prompt a model reads a query and a passage in: what its files say, or what its makers' card does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragstack.errors import InputError, MissingExtraError, RerankingError
from ragstack.inference.model_files import read_json
from ragstack.inference.role import RERANKER
from ragstack.reranking.prompt_template import PromptTemplate

PROMPTS: Mapping[str, str] = {
    # Of nvidia/llama-nemotron-rerank-1b-v2 (llama-3.2-nv-rerankqa-1b-v2), and of what NeMo AutoModel trains.
    "llama_bidirec": "question:{query} \n \n passage:{passage}",
}
"""Templates of classifiers by the ``model_type`` of their config.json, where makers give them on the card alone."""

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
"""What Qwen3-Reranker is asked where nobody says anything else, by its card."""

# Qwen/Qwen3-Reranker-0.6B, -4B, -8B: the card's prefix, pair and suffix.
_QWEN3 = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct"
    ' provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {passage}"
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
YES_NO_PROMPTS: Mapping[str, str] = {"qwen3": _QWEN3}
"""Templates of language models by ``model_type``, with a place for the instruction."""

_PAIR_ROLES = re.compile(r"""["'](?:query|document)["']""")
_MARKS = {"system": "\ue000s\ue001", "query": "\ue000q\ue001", "document": "\ue000d\ue001"}
"""Stand in for the texts while a chat template is filled: private characters that no template has."""


def given_template(text: str, instruction: str | None = None) -> PromptTemplate:
    """The template of ``reranker.prompt_template``. Raises InputError for one without the two places."""
    try:
        return PromptTemplate(with_instruction(text, instruction))
    except ValueError as error:
        raise InputError(f"reranker.prompt_template: {error}.", hint="Write both once.") from error


def with_instruction(text: str, instruction: str | None) -> str:
    """The template with its place for the instruction filled; by the card's instruction where there is none."""
    return text.replace("{instruction}", INSTRUCTION if instruction is None else instruction)


def chat_prompt(folder: Path, instruction: str | None = None) -> PromptTemplate | None:
    """The chat template of a folder, where it is one for the roles ``query`` and ``document``; None where it is not.

    That is how sentence-transformers (5.4 and later) keep prompts of rerankers; the instruction is the ``system``
    message. Raises MissingExtraError without jinja2, and RerankingError for a template that cannot be filled.
    """
    settings = read_json(folder / "tokenizer_config.json", RERANKER, optional=True)
    path = folder / "chat_template.jinja"
    source = path.read_text(encoding="utf-8") if path.is_file() else settings.get("chat_template")
    if not isinstance(source, str) or len(set(_PAIR_ROLES.findall(source))) < 2:
        return None
    messages = [{"role": role, "content": _MARKS[role]} for role in ("query", "document")]
    instruction = _instruction(folder) if instruction is None else instruction
    if instruction is not None:
        messages.insert(0, {"role": "system", "content": _MARKS["system"]})
    filled = _filled(source, messages, settings, folder)
    if instruction is not None:
        filled = filled.replace(_MARKS["system"], instruction)
    text = filled.replace(_MARKS["query"], "{query}").replace(_MARKS["document"], "{passage}")
    try:
        return PromptTemplate(text)
    except ValueError as error:
        raise RerankingError(
            f"{folder}: its chat template does not hold query and document once each.",
            hint="Set reranker.prompt_template to the prompt that the model's card gives.",
        ) from error


def _instruction(folder: Path) -> str | None:
    """The prompt that sentence-transformers puts before a pair where nobody says another."""
    config = read_json(folder / "config_sentence_transformers.json", RERANKER, optional=True)
    prompts, name = config.get("prompts"), config.get("default_prompt_name")
    found = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    return found if isinstance(found, str) and found else None


def _filled(source: str, messages: list[dict[str, str]], settings: Mapping[str, Any], folder: Path) -> str:
    try:
        from jinja2 import TemplateError  # noqa: PLC0415 - what runs such models brings it, the core does not
        from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(f"the chat template of {folder.name}", "torch") from error

    def refuse(message: str) -> None:
        raise TemplateError(message)

    # As transformers do it, so that white space comes out the same.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    names = {key: _token(settings.get(key)) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
    try:
        return environment.from_string(source).render(
            messages=messages, add_generation_prompt=False, **{key: name for key, name in names.items() if name}
        )
    except TemplateError as error:
        raise RerankingError(
            f"{folder}: its chat template cannot be filled: {error}.",
            hint="Set reranker.prompt_template to the prompt that the model's card gives.",
        ) from error


def _token(value: Any) -> str:
    """A special token as tokenizer_config.json has it: its text, or an object that holds it."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""
