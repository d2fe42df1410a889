"""Random models of true architectures, scaled down, in folders as the hub has them; no real weights are at hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer

from tests.decoder_tokenizer import tokenizer

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
QUERY = "how often is the pump checked"
TEXTS = {
    "a": "The log is in room 12.",
    "b": "The pump of line seven is checked every Monday.",
    "c": "",
    "d": "Rain falls " * 30,
    "e": "Grüße aus 東京 😀!\n\n  A valve, a seal; a valve.",
    "f": "The pump of line seven is checked every Monday.",
}


def fast(made: Tokenizer, **names: Any) -> transformers.PreTrainedTokenizerFast:
    """The same tokenizer as transformers has it."""
    return transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(made.to_str()), **names)


def write(folder: Path, model: transformers.PreTrainedModel, made: Tokenizer, **files: Any) -> Path:
    """A folder as the hub has it; ``files`` are further JSON files by their stems."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    made.save(str(folder / "tokenizer.json"))
    for stem, content in files.items():
        (folder / f"{stem}.json").write_text(json.dumps(content))
    return folder


def random_model(kind: type[transformers.PreTrainedModel], config: transformers.PretrainedConfig) -> Any:
    """A model whose scores differ well between texts: with the usual spread of weights they hardly do."""
    torch.manual_seed(3)
    made = kind(config).eval()
    with torch.no_grad():
        for name, weights in made.named_parameters():
            if weights.ndim > 1:
                weights.normal_(0.0, 0.15)
            elif "norm" not in name.lower():
                weights.normal_(0.0, 0.05)
    return made


def qwen3_yes_no(folder: Path, *, tied: bool = True, **files: Any) -> Path:
    """A Qwen3 that answers yes or no, as Qwen3-Reranker."""
    made = tokenizer(chat=True)
    config = transformers.Qwen3Config(
        vocab_size=made.get_vocab_size() + 5, head_dim=16, tie_word_embeddings=tied, pad_token_id=None, **SIZES
    )
    return write(folder, random_model(transformers.Qwen3ForCausalLM, config), made, **files)


def card_scores(folder: Path, query: str, passages: Sequence[str], instruction: str | None = None) -> list[float]:
    """Log-odds as the code of Qwen3-Reranker's card makes them: all logits, padding on the left."""
    tokens = fast(Tokenizer.from_file(str(folder / "tokenizer.json")), padding_side="left", pad_token="<|endoftext|>")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prefix = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct"
        ' provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    )
    suffix = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    asked = instruction or "Given a web search query, retrieve relevant passages that answer the query"
    pairs = [f"<Instruct>: {asked}\n<Query>: {query}\n<Document>: {passage}" for passage in passages]
    before = tokens.encode(prefix, add_special_tokens=False)
    after = tokens.encode(suffix, add_special_tokens=False)
    inputs = tokens(pairs, padding=False, return_attention_mask=False)
    ids = [before + found + after for found in inputs["input_ids"]]
    padded = tokens.pad({"input_ids": ids}, padding=True, return_tensors="pt")
    with torch.inference_mode():
        last = model(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]).logits[:, -1, :]
    yes, no = tokens.convert_tokens_to_ids("yes"), tokens.convert_tokens_to_ids("no")
    stacked = torch.nn.functional.log_softmax(torch.stack([last[:, no], last[:, yes]], dim=1), dim=1)
    return [float(p1 - p0) for p0, p1 in stacked.tolist()]
