"""Reranking by a language model that is asked whether a passage answers the query, such as Qwen3-Reranker."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.reranking.cross_encoder import CrossEncoderReranker, LongPassages, check_settings
from ragstack.reranking.llm_yes_no_files import find_llm_yes_no


class LlmYesNoReranker(CrossEncoderReranker):
    """A cross-encoder whose score is what a language model would answer.

    ``score`` is the logit of "yes" less that of "no" after the prompt, the log-odds between the two; ``relevance`` is
    its logistic function, the probability of "yes" between the two. Of a model that has a word for yes alone, it is
    that word's logit. A long passage is read in windows as by every cross-encoder; instruction and query are in each.

    ``model``, ``revision``, ``max_tokens``, ``instruction``, ``prompt_template``: see
    :func:`ragstack.reranking.llm_yes_no_files.find_llm_yes_no`.
    """

    kind = "llm_yes_no"

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        max_tokens: int | None = None,
        long_passages: LongPassages = "windows",
        instruction: str | None = None,
        prompt_template: str | None = None,
        max_batch_tokens: int | None = None,
        threads: int | None = None,
        profile: str | None = None,
        device: str | Sequence[str] | None = None,
    ) -> None:
        check_settings(max_batch_tokens, threads)
        files = find_llm_yes_no(
            model, revision, max_tokens=max_tokens, instruction=instruction, prompt_template=prompt_template
        )
        self._open(files, long_passages, max_batch_tokens, threads, profile, device)
