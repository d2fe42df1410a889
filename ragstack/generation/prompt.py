"""Puts a prompt together from templates, passages and a question, to fit a model's context. Pure.

Passages are data. Each stands between delimiters that carry the request's tag (see :mod:`ragstack.generation.markers`),
which no passage can hold, so none can close its block. What might still be read as a delimiter, or is a control token
of a model's chat template (servers may turn the characters ``<|im_start|>`` into the token itself, wherever they
stand), is changed in the prompt by one character for one: quotes are looked for in the passage as it is, so its
offsets are not touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ragstack.config.generators import MARKERS_SYSTEM, QUOTES_SYSTEM, OpenAIGeneratorConfig
from ragstack.config.prompt_template import fill
from ragstack.errors import GenerationError
from ragstack.generation.base import ContextPassage, Turn
from ragstack.generation.markers import MarkerForm, draw_tag
from ragstack.generation.packing import pack_widened, recent_turns

# ChatML, Llama 3, Phi, gpt-oss and DeepSeek; Gemma; Mistral and Llama 2; thinking and tool calls; our own delimiters.
_CONTROL = re.compile(
    r"<(?=[|｜]|/?(?:start_of_turn|end_of_turn|s|bos|eos|pad|unk|think|tool_call|tool_response|passage|conversation|"
    r"system|user|assistant)\b[^<>]{0,64}>|/?passage\b|/?conversation\b|</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])",
    re.IGNORECASE,
)
_SHOWN_AS = {"<": "‹", "[": "［"}
_NUMBER_IN_BRACKETS = re.compile(r"\[([\d\s,;，、；–—-]*\d[\d\s,;，、；–—-]*)\]")
# Tokens that a chat template puts around messages, and that begin the answer.
_TEMPLATE_TOKENS = 24
_CONDENSED_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: Literal["system", "user"]
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is asked, what it may cite, and what did not fit.

    ``form`` is how it is to cite. ``left_out`` are markers of passages.
    """

    messages: tuple[Message, ...]
    form: MarkerForm
    passages: tuple[ContextPassage, ...]
    left_out: tuple[int, ...]
    max_tokens: int


def neutral(text: str) -> str:
    """The text without what a model or its server might take for control tokens or delimiters; of the same length."""
    return _CONTROL.sub(lambda found: _SHOWN_AS[found[0]], text)


def answer_prompt(
    config: OpenAIGeneratorConfig, count: Callable[[str], int], question: str, passages: Sequence[ContextPassage]
) -> Prompt:
    """The prompt for an answer; ``count`` gives the tokens of a text.

    Raises GenerationError when not even the best passage fits beside the question.
    """
    templates = config.prompt
    held = [part for p in passages for part in (p.chunk.text, p.chunk.source_id, *p.chunk.heading_path)]
    tag = draw_tag([question, templates.system or "", templates.user, templates.passage, *held])
    form = MarkerForm(tag if config.marker_form == "tagged" else "")
    values = {
        "tag": tag,
        "marker": form.marker(1),
        "markers": form.marker(1, 3),
        "no_answer": form.no_answer,
        "question": neutral(question),
    }
    default = MARKERS_SYSTEM if config.mode == "markers" else QUOTES_SYSTEM
    system = fill(templates.system if templates.system is not None else default, values)
    room = config.max_context_tokens - config.max_tokens - _TEMPLATE_TOKENS - count(system)
    room -= count(fill(templates.user, values | {"passages": ""}))
    found = [passage.found or passage for passage in passages]
    whole_texts = [_shown_passage(templates.passage, tag, form, passage) for passage in passages]
    # Two texts joined may have a token or two more than both alone.
    whole_costs = [count(text) + 2 for text in whole_texts]
    texts = [
        text if passage is part else _shown_passage(templates.passage, tag, form, part)
        for text, passage, part in zip(whole_texts, passages, found, strict=True)
    ]
    costs = [
        cost if passage is part else count(text) + 2
        for cost, text, passage, part in zip(whole_costs, texts, passages, found, strict=True)
    ]
    taken = pack_widened(costs, whole_costs, room)
    if not taken:
        raise GenerationError(
            f"no passage fits the context of {config.model}: max_context_tokens is {config.max_context_tokens},"
            f" max_tokens {config.max_tokens}, and {max(0, room)} tokens are left for passages.",
            hint="Raise generator.max_context_tokens to what the model has, or lower generator.max_tokens.",
        )
    shown = [whole_texts[index] if is_whole else texts[index] for index, is_whole in taken]
    user = fill(templates.user, values | {"passages": "\n\n".join(shown)})
    indices = {index for index, _ in taken}
    return Prompt(
        (*([Message("system", system)] if system.strip() else []), Message("user", user)),
        form,
        tuple(passages[index] if is_whole else found[index] for index, is_whole in taken),
        tuple(passage.marker for index, passage in enumerate(passages) if index not in indices),
        config.max_tokens,
    )


def condense_prompt(
    config: OpenAIGeneratorConfig, count: Callable[[str], int], history: Sequence[Turn], text: str
) -> Prompt:
    """The prompt for a question that stands alone. Only the latest turns are shown, to fit ``max_history_tokens``."""
    template = config.prompt.condense
    tag = draw_tag([text, template, *(turn.text for turn in history)])
    values = {"tag": tag, "question": neutral(text)}
    max_tokens = min(_CONDENSED_TOKENS, config.max_tokens)
    room = config.max_context_tokens - max_tokens - _TEMPLATE_TOKENS - count(fill(template, values | {"history": ""}))
    turns = recent_turns(
        [Turn(turn.role, neutral(turn.text)) for turn in history], min(config.max_history_tokens, room), count
    )
    shown = "\n".join(f"{turn.role.capitalize()}: {turn.text}" for turn in turns)
    return Prompt((Message("user", fill(template, values | {"history": shown})),), MarkerForm(""), (), (), max_tokens)


def _shown_passage(template: str, tag: str, form: MarkerForm, passage: ContextPassage) -> str:
    chunk = passage.chunk
    text, heading = neutral(chunk.text), neutral(" > ".join(chunk.heading_path))
    if not form.tag:  # a plain marker must not be there to be copied
        text, heading = (_NUMBER_IN_BRACKETS.sub(r"(\1)", part) for part in (text, heading))
    if not heading:
        template = template.replace("{heading}\n", "")
    return fill(
        template,
        {
            "tag": tag,
            "number": str(passage.marker),
            "text": text,
            "heading": " ".join(heading.split()),
            "source": " ".join(neutral(chunk.source_id).split()),
        },
    )
