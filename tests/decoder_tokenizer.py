"""Tokenizers of the kinds that decoders have, trained on a few lines here: byte-level BPE of Qwen's form.

They have the special tokens of the real ones, and words for yes and no.
"""

from __future__ import annotations

from functools import lru_cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

WORDS = (
    "the pump of line seven is checked every monday and the log is kept in room twelve. how often is it checked? "
    "a valve, a seal; rain falls; user assistant system query document question passage instruct judge whether meets "
    "requirements based on provided note that answer can only be über Grüße 東京 😀 line break tab given web search "
)
# Of Qwen2 and Qwen3.
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@lru_cache(maxsize=4)
def _trained(specials: tuple[str, ...], plain: tuple[str, ...], bos: str | None) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([WORDS, WORDS.title(), "yes\nno\n" * 9], trainer)
    tokenizer.add_special_tokens(list(specials))
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=False) for name in plain])
    if bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return tokenizer.to_str()


def tokenizer(*, chat: bool = False, bos: str | None = None) -> Tokenizer:
    """Of a chat model, with its turns and thoughts; or one that puts ``bos`` first."""
    specials = CHAT_TOKENS if chat else ("<|pad|>", *(() if bos is None else (bos,)))
    return Tokenizer.from_str(_trained(specials, ("<think>", "</think>") if chat else (), bos))
