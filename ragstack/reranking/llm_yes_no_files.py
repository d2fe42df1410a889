"""What a language model's own files say, when it is asked whether a passage answers a query: prompt and answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragstack.errors import InputError, RerankingError
from ragstack.inference.model_files import SAFETENSORS_PATTERNS, read_json
from ragstack.inference.role import RERANKER
from ragstack.inference.tokenizer_file import read_tokenizer
from ragstack.inference.weight_files import find_weights
from ragstack.reranking.cross_encoder_files import (
    CrossEncoderFiles,
    find_reranker,
    tokens_read,
)
from ragstack.reranking.model_kind import module_kind, modules
from ragstack.reranking.model_prompts import YES_NO_PROMPTS, chat_prompt, given_template, with_instruction
from ragstack.reranking.prompt_template import PromptTemplate

_YES, _NO = "yes", "no"


def find_llm_yes_no(
    model: str,
    revision: str | None = None,
    *,
    max_tokens: int | None = None,
    instruction: str | None = None,
    prompt_template: str | None = None,
) -> CrossEncoderFiles:
    """The files of ``model``: a folder, or a registered name or Hugging Face id with its ``revision``.

    ``max_tokens`` is what it reads of prompt, query and passage together, ``instruction`` what it is asked,
    ``prompt_template`` another prompt than its files or its makers' card give. Raises InputError for a model that is no
    language model, for one whose prompt nobody gives, and for settings that do not fit it; RerankingError for files
    that are missing, damaged, not downloadable or of a kind that cannot be run.
    """
    found = find_reranker(model, revision, "language model", SAFETENSORS_PATTERNS)
    folder = found.folder
    weights = find_weights(folder, RERANKER)
    if "safetensors" not in weights.formats:
        raise RerankingError(
            f"{folder}: has no model.safetensors; of an ONNX graph a language model gives the logits of all words at"
            " every position.",
            hint="Use the repository with the original weights, or a version that was made a classifier, with type:"
            " cross_encoder.",
        )
    labels = _label_tokens(folder)
    files = CrossEncoderFiles(
        name=found.name,
        weights=weights,
        tokenizer_file=folder / "tokenizer.json",
        max_tokens=tokens_read(found, max_tokens),
        template=_template(folder, found.config, instruction, prompt_template),
        relevant=None if len(labels) == 1 else 1,
        pad_id=0,
        scales_with_its_batch=False,
        label_tokens=labels,
    )
    if max_tokens is not None:
        files.encoder(windows=True)  # which refuses a figure that the prompt alone takes
    return files


def _template(
    folder: Path, config: Mapping[str, Any], instruction: str | None, prompt_template: str | None
) -> PromptTemplate:
    if prompt_template is not None:
        return given_template(prompt_template, instruction)
    found = chat_prompt(folder, instruction)
    if found is not None:
        return found
    kind = str(config.get("model_type"))
    if kind not in YES_NO_PROMPTS:
        raise InputError(
            f"reranker.prompt_template: {folder} does not say how the model is asked; for {kind} no prompt is known.",
            hint="Set it to the prompt of the model's card, with {query} and {passage}.",
        )
    return PromptTemplate(with_instruction(YES_NO_PROMPTS[kind], instruction))


def _label_tokens(folder: Path) -> tuple[int, ...]:
    """The tokens that mean no and yes, in this order, or the one that means yes; sentence-transformers' LogitScore."""
    module = next((module for module in modules(folder) if module_kind(module) == "LogitScore"), None)
    if module is None:
        tokenizer, _ = read_tokenizer(folder / "tokenizer.json", None, RERANKER)
        no, yes = tokenizer.token_to_id(_NO), tokenizer.token_to_id(_YES)
        if no is None or yes is None:
            raise RerankingError(
                f"{folder / 'tokenizer.json'}: has no token {_NO!r} or {_YES!r}, by which the model would answer.",
                hint="Choose a model that was trained to answer yes or no, such as Qwen3-Reranker.",
            )
        return no, yes
    path = folder / str(module.get("path", "")) / "config.json"
    config = read_json(path, RERANKER)
    tokens: list[Any] = [config.get("true_token_id")]
    if config.get("false_token_id") is not None:
        tokens.insert(0, config["false_token_id"])
    if not all(isinstance(token, int) and token >= 0 for token in tokens):
        raise RerankingError(
            f"{path}: true_token_id and false_token_id must be tokens, got {tokens!r}.",
            hint="Download the model again.",
        )
    return tuple(tokens)
