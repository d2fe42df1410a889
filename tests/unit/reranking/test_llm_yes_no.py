"""Language models that answer yes or no: scores as the model card's code makes them, on a small random Qwen3."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from ragstack.errors import InputError, RerankingError
from ragstack.inference.backend import TokenBatch
from ragstack.inference.opening import open_backend
from ragstack.inference.profile import Profile
from ragstack.inference.role import LLM_RERANKER
from ragstack.reranking.cross_encoder import CrossEncoderReranker
from ragstack.reranking.llm_yes_no import LlmYesNoReranker
from ragstack.reranking.llm_yes_no_files import find_llm_yes_no
from ragstack.reranking.registry import RERANKERS
from tests.cross_encoder_kit import ask, by_id, candidate
from tests.decoder_tokenizer import tokenizer
from tests.torch_models_kit import QUERY, SIZES, TEXTS, card_scores, qwen3_yes_no, random_model, write

TORCH = {"profile": "torch-cpu-fp32", "threads": 1}
CANDIDATES = [candidate(name, text) for name, text in TEXTS.items()]


CHAT_TEMPLATE = """<|im_start|>system
{% for message in messages if message['role'] == 'system' %}
{{ message['content'] }}
{% endfor %}<|im_end|>
<|im_start|>user
<Query>: {{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}
<Document>: {{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}<|im_end|>
<|im_start|>assistant

"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen3_yes_no(tmp_path_factory.mktemp("models") / "small-qwen3")


@pytest.fixture(scope="module")
def reranker(folder: Path) -> LlmYesNoReranker:
    return LlmYesNoReranker(str(folder), **TORCH)


@pytest.fixture
def changed(tmp_path: Path, folder: Path) -> Path:
    """The model's folder, to be changed; the weights are the same file."""
    made = tmp_path / "changed"
    made.mkdir()
    for file in folder.iterdir():
        (made / file.name).hardlink_to(file)
    for name in ("config.json", "tokenizer.json"):
        data = (folder / name).read_bytes()
        (made / name).unlink()
        (made / name).write_bytes(data)
    return made


def edit(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("tied", [True, False])
def test_scores_are_those_of_the_cards_code(tmp_path: Path, tied: bool) -> None:
    made = qwen3_yes_no(tmp_path / "m", tied=tied)
    expected = dict(zip(TEXTS, card_scores(made, QUERY, list(TEXTS.values())), strict=True))
    assert max(expected.values()) - min(expected.values()) > 0.05
    reranker = LlmYesNoReranker(str(made), **TORCH)
    found = reranker.rerank(ask(QUERY), CANDIDATES)
    assert by_id(found) == pytest.approx(expected, abs=1e-4)
    assert reranker.name == "llm_yes_no:m"
    for score in found:
        assert score.relevance == pytest.approx(1 / (1 + math.exp(-score.score)))
        assert score.parts == {"llm_yes_no": score.score}
    reranker.close()


def test_neither_order_nor_company_changes_a_score(folder: Path, reranker: LlmYesNoReranker) -> None:
    expected = by_id(reranker.rerank(ask(QUERY), CANDIDATES))
    shuffled = random.Random(1).sample(CANDIDATES, len(CANDIDATES))
    assert by_id(reranker.rerank(ask(QUERY), shuffled)) == expected
    for each in CANDIDATES:
        assert by_id(reranker.rerank(ask(QUERY), [each])) == pytest.approx(
            {each.chunk.chunk_id: expected[each.chunk.chunk_id]}, abs=1e-4
        )
    for budget in (1, 300, 100_000):
        other = LlmYesNoReranker(str(folder), max_batch_tokens=budget, **TORCH)
        assert by_id(other.rerank(ask(QUERY), CANDIDATES)) == pytest.approx(expected, abs=1e-4)
        other.close()
    assert expected["b"] == pytest.approx(expected["f"], abs=1e-5)


def test_the_instruction_is_asked(folder: Path) -> None:
    told = "Judge whether the passage names a room"
    expected = dict(zip(TEXTS, card_scores(folder, QUERY, list(TEXTS.values()), told), strict=True))
    reranker = LlmYesNoReranker(str(folder), instruction=told, **TORCH)
    assert by_id(reranker.rerank(ask(QUERY), CANDIDATES)) == pytest.approx(expected, abs=1e-4)
    reranker.close()


def test_a_long_passage_counts_by_its_best_window(folder: Path, reranker: LlmYesNoReranker) -> None:
    passage = " ".join(f"the pump of line {number} is checked" for number in range(60))
    narrow = LlmYesNoReranker(str(folder), max_tokens=200, **TORCH)
    windows = narrow._files.encoder(windows=True).pairs(QUERY, [candidate("a", passage)])
    assert len(windows) > 3
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    read = [made.decode(pair.ids, skip_special_tokens=False) for pair in windows]
    parts = [text.split("<Document>: ")[1].split("<|im_end|>")[0] for text in read]
    assert all(f"<Query>: {QUERY}\n" in text for text in read)
    [found] = narrow.rerank(ask(QUERY), [candidate("a", passage)])
    assert found.score == pytest.approx(max(card_scores(folder, QUERY, parts)), abs=1e-4)
    narrow.close()


def test_sentence_transformers_form_of_it_is_read(changed: Path) -> None:
    """LogitScore names the words, a chat template for the two roles the prompt, the default prompt the instruction."""
    from sentence_transformers import CrossEncoder

    (changed / "modules.json").write_text(
        json.dumps(
            [
                {
                    "idx": 0,
                    "name": "0",
                    "path": "",
                    "type": "sentence_transformers.base.modules.transformer.Transformer",
                },
                {
                    "idx": 1,
                    "name": "1",
                    "path": "1_LogitScore",
                    "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
                },
            ]
        )
    )
    (changed / "sentence_bert_config.json").write_text(
        json.dumps(
            {
                "transformer_task": "text-generation",
                "modality_config": {
                    "text": {"method": "forward", "method_output_name": "logits"},
                    "message": {"method": "forward", "method_output_name": "logits", "format": "flat"},
                },
                "module_output_name": "causal_logits",
            }
        )
    )
    (changed / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
        )
    )
    (changed / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (changed / "config_sentence_transformers.json").write_text(
        json.dumps(
            {
                "model_type": "CrossEncoder",
                "prompts": {"web": "Does it answer the query?"},
                "default_prompt_name": "web",
            }
        )
    )
    made = Tokenizer.from_file(str(changed / "tokenizer.json"))
    words = {"true_token_id": made.token_to_id("the"), "false_token_id": made.token_to_id("no")}
    (changed / "1_LogitScore").mkdir()
    (changed / "1_LogitScore" / "config.json").write_text(json.dumps(words))
    texts = [text for text in TEXTS.values() if text]
    reference = CrossEncoder(str(changed), device="cpu")
    expected = reference.predict([(QUERY, text) for text in texts], show_progress_bar=False)
    candidates = [each for each in CANDIDATES if each.chunk.text]
    reranker = LlmYesNoReranker(str(changed), **TORCH)
    found = {score.chunk_id: score.relevance for score in reranker.rerank(ask(QUERY), candidates)}
    assert [found[each.chunk.chunk_id] for each in candidates] == pytest.approx(expected.tolist(), abs=1e-4)
    (changed / "1_LogitScore" / "config.json").write_text(json.dumps({**words, "false_token_id": None}))
    alone = find_llm_yes_no(str(changed))
    assert (alone.label_tokens, alone.relevant) == ((words["true_token_id"],), None)


def test_only_two_logits_are_made(folder: Path, reranker: LlmYesNoReranker) -> None:
    """A vocabulary of 150,000 words at every position would take gigabytes."""
    assert reranker._files.label_tokens == tuple(
        Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(word) for word in ("no", "yes")
    )
    assert reranker._files.formats == {"safetensors"}
    reranker.preload()
    shapes = {tuple(backend.run(*_one_batch()).shape) for backend in reranker._engine._many}
    assert shapes == {(2, 2)}


def _one_batch() -> tuple[TokenBatch, str]:
    return TokenBatch(np.array([[5, 6, 7], [5, 6, 0]]), np.array([3, 2])), "logits"


def test_kinds_of_models_are_told_apart(folder: Path, changed: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"small-qwen3 is a language model \(Qwen3ForCausalLM\).* Set reranker\.type to llm_yes_no",
    ):
        CrossEncoderReranker(str(folder))
    (changed / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Pooling"}]))
    for kind in (CrossEncoderReranker, LlmYesNoReranker):
        with pytest.raises(InputError, match=r"reranker\.model: changed is an embedding model .*embedder\.model"):
            kind(str(changed))
    (changed / "modules.json").unlink()
    edit(changed, architectures=["BertForSequenceClassification"])
    with pytest.raises(
        InputError, match=r"is a classifier \(BertForSequenceClassification\).*reranker\.type to cross_encoder"
    ):
        LlmYesNoReranker(str(changed))
    for name in ("BertModel", "XLMRobertaForMaskedLM"):
        edit(changed, architectures=[name])
        with pytest.raises(InputError, match=rf"changed is an embedding model \({name}\)"):
            LlmYesNoReranker(str(changed))


def test_what_a_folder_lacks_is_named(changed: Path) -> None:
    edit(changed, model_type="qwen2")
    with pytest.raises(InputError, match=r"reranker\.prompt_template: .* for qwen2 no prompt is known"):
        find_llm_yes_no(str(changed))
    found = find_llm_yes_no(str(changed), prompt_template="{instruction}: {query} {passage}", instruction="Do it")
    assert found.template is not None and found.template.text == "Do it: {query} {passage}"
    tokens = json.loads((changed / "tokenizer.json").read_text())
    tokens["model"]["vocab"] = {("xes" if name == "yes" else name): at for name, at in tokens["model"]["vocab"].items()}
    tokens["model"]["merges"] = [merge for merge in tokens["model"]["merges"] if "".join(merge) != "yes"]
    (changed / "tokenizer.json").write_text(json.dumps(tokens))
    with pytest.raises(RerankingError, match="has no token 'no' or 'yes'"):
        find_llm_yes_no(str(changed), prompt_template="{query} {passage}")
    (changed / "model.safetensors").unlink()
    (changed / "model.onnx").write_bytes(b"graph")
    with pytest.raises(RerankingError, match=r"has no model\.safetensors; .* type: cross_encoder"):
        find_llm_yes_no(str(changed))


def test_how_much_is_read(changed: Path) -> None:
    assert find_llm_yes_no(str(changed)).max_tokens == 2048
    edit(changed, max_position_embeddings=40_960)
    assert find_llm_yes_no(str(changed)).max_tokens == 8192
    assert find_llm_yes_no(str(changed), max_tokens=32_768).max_tokens == 32_768
    with pytest.raises(InputError, match="50000 is more than the 40960 tokens"):
        find_llm_yes_no(str(changed), max_tokens=50_000)
    with pytest.raises(
        InputError, match=r"reranker\.max_tokens: of the 64 tokens that changed reads, its prompt takes"
    ):
        find_llm_yes_no(str(changed), max_tokens=64)


def test_registry() -> None:
    assert RERANKERS.load("llm_yes_no") is LlmYesNoReranker
    with pytest.raises(InputError, match=r"reranker.threads: must be at least 1, got 0"):
        LlmYesNoReranker("x", threads=0)


def test_a_model_that_holds_its_logits_below_a_cap(tmp_path: Path) -> None:
    made = tokenizer(bos="<bos>")
    config = transformers.Gemma2Config(
        vocab_size=made.get_vocab_size(), head_dim=8, final_logit_softcapping=1.5, pad_token_id=0, **SIZES
    )
    folder = write(tmp_path / "m", random_model(transformers.Gemma2ForCausalLM, config), made)
    template = "{instruction}\nQ: {query}\nP: {passage}\nA:"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    expected = {}
    for name, text in TEXTS.items():
        ids = made.encode(f"Say it\nQ: {QUERY}\nP: {text}\nA:").ids
        with torch.inference_mode():
            last = model(torch.tensor([ids])).logits[0, -1]
        expected[name] = float(last[made.token_to_id("yes")] - last[made.token_to_id("no")])
    reranker = LlmYesNoReranker(str(folder), instruction="Say it", prompt_template=template, **TORCH)
    assert by_id(reranker.rerank(ask(QUERY), CANDIDATES)) == pytest.approx(expected, abs=1e-4)
    reranker.close()


def test_the_answer_is_fp32_whatever_the_model_is_computed_in(folder: Path, reranker: LlmYesNoReranker) -> None:
    """A logit in bf16 has three digits, and the difference of two of them hardly any more."""
    batch, output = _one_batch()
    half = open_backend(reranker._files, Profile("torch", "cpu", "bf16"), "cpu", 1, "many_calls", LLM_RERANKER)
    logits = half.run(batch, output)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
    exact = open_backend(reranker._files, Profile("torch", "cpu", "fp32"), "cpu", 1, "many_calls", LLM_RERANKER)
    assert torch.allclose(logits, exact.run(batch, output), atol=0.1)
