"""Cross-encoders of every architecture against transformers, in fp32, on small random models of the true shape."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer

from ragstack.errors import InputError
from ragstack.reranking.cross_encoder import CrossEncoderReranker
from ragstack.reranking.model_prompts import PROMPTS
from tests import cross_encoder_kit
from tests.cross_encoder_kit import ask, by_id, candidate
from tests.decoder_tokenizer import tokenizer
from tests.torch_models_kit import QUERY, SIZES, TEXTS, fast, random_model, write

CANDIDATES = [candidate(name, text) for name, text in TEXTS.items()]
ENCODER = {name: size for name, size in SIZES.items() if name != "num_key_value_heads"}
NVIDIA = PROMPTS["llama_bidirec"]


def bert(folder: Path) -> Path:
    made = cross_encoder_kit.tokenizer()
    config = transformers.BertConfig(vocab_size=made.get_vocab_size(), num_labels=1, **ENCODER)
    return write(folder, random_model(transformers.BertForSequenceClassification, config), made)


def xlm_roberta(folder: Path) -> Path:
    made = tokenizer(bos="<s>")
    config = transformers.XLMRobertaConfig(
        vocab_size=made.get_vocab_size(),
        num_labels=1,
        type_vocab_size=1,
        pad_token_id=made.token_to_id("<|pad|>"),
        **{**ENCODER, "max_position_embeddings": 1100},
    )
    return write(folder, random_model(transformers.XLMRobertaForSequenceClassification, config), made)


def modernbert(folder: Path) -> Path:
    made = tokenizer(bos="<s>")
    config = transformers.ModernBertConfig(
        vocab_size=made.get_vocab_size(),
        num_labels=1,
        classifier_pooling="mean",
        local_attention=16,
        global_attn_every_n_layers=2,
        pad_token_id=made.token_to_id("<|pad|>"),
        **ENCODER,
    )
    return write(folder, random_model(transformers.ModernBertForSequenceClassification, config), made)


def mistral(folder: Path) -> Path:
    made = tokenizer(bos="<s>")
    config = transformers.MistralConfig(
        vocab_size=made.get_vocab_size(),
        num_labels=1,
        sliding_window=None,
        pad_token_id=made.token_to_id("<|pad|>"),
        **SIZES,
    )
    return write(folder, random_model(transformers.MistralForSequenceClassification, config), made)


def llama_bidirec(folder: Path) -> Path:
    """As NVIDIA publishes it: a Llama with a type of its own, mean pooling and a temperature."""
    made = tokenizer(bos="<|begin_of_text|>")
    config = transformers.LlamaConfig(
        vocab_size=made.get_vocab_size(), num_labels=1, pad_token_id=made.token_to_id("<|pad|>"), **SIZES
    )
    write(folder, random_model(transformers.LlamaForSequenceClassification, config), made)
    told = json.loads((folder / "config.json").read_text())
    told |= {
        "model_type": "llama_bidirec",
        "architectures": ["LlamaBidirectionalForSequenceClassification"],
        "pooling": "avg",
        "temperature": 0.5,
        "auto_map": {"AutoModelForSequenceClassification": "elsewhere.LlamaBidirectionalForSequenceClassification"},
    }
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def classifier_logits(folder: Path, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    return model(**inputs).logits[:, 0]


def bidirectional_logits(folder: Path, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The published model's own code in short: no causal mask, the mean of the hidden states, a linear layer."""
    told = json.loads((folder / "config.json").read_text())
    known = {key: value for key, value in told.items() if key not in ("model_type", "architectures", "auto_map")}
    config = transformers.LlamaConfig(**known)
    model = transformers.LlamaForSequenceClassification.from_pretrained(
        folder, config=config, dtype=torch.float32
    ).eval()
    for layer in model.model.layers:
        layer.self_attn.is_causal = False
    mask = inputs["attention_mask"]
    ones = torch.zeros(mask.shape[0], 1, mask.shape[1], mask.shape[1]).masked_fill(mask[:, None, None] == 0, -1e9)
    hidden = model.model(input_ids=inputs["input_ids"], attention_mask=ones).last_hidden_state
    mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1)[:, None]
    return model.score(mean)[:, 0] / told["temperature"]


@pytest.mark.parametrize(
    ("make", "template", "logits"),
    [
        (bert, None, classifier_logits),
        (xlm_roberta, None, classifier_logits),
        (modernbert, None, classifier_logits),
        (mistral, NVIDIA, classifier_logits),
        (llama_bidirec, NVIDIA, bidirectional_logits),
    ],
)
def test_scores_are_those_of_transformers(
    tmp_path: Path, make: Callable[[Path], Path], template: str | None, logits: Callable[..., torch.Tensor]
) -> None:
    folder = make(tmp_path / "m")
    names: dict[str, Any] = {"pad_token": "<|pad|>"} if make is not bert else {"pad_token": "[PAD]"}
    tokens = fast(Tokenizer.from_file(str(folder / "tokenizer.json")), **names)
    texts = list(TEXTS.values())
    if template is None:
        inputs = tokens(
            [QUERY] * len(texts), texts, padding=True, return_tensors="pt", return_token_type_ids=make is bert
        )
    else:
        filled = [template.format(query=QUERY, passage=text) for text in texts]
        inputs = tokens(filled, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        expected = dict(zip(TEXTS, logits(folder, inputs).tolist(), strict=True))
    assert max(expected.values()) - min(expected.values()) > 0.01
    # Only a type of its own tells a model that it wants a prompt.
    given = template if make is mistral else None
    settings: dict[str, Any] = {"prompt_template": given, "profile": "torch-cpu-fp32", "threads": 1}
    for budget in (None, 1, 100_000):
        reranker = CrossEncoderReranker(str(folder), max_batch_tokens=budget, **settings)
        assert by_id(reranker.rerank(ask(QUERY), CANDIDATES)) == pytest.approx(expected, abs=1e-4)
        reranker.close()


def test_a_decoder_whose_prompt_nobody_gives_is_refused(tmp_path: Path) -> None:
    """Joined by nothing, a query and a passage would be one text, and the scores would mean nothing."""
    folder = mistral(tmp_path / "m")
    made = tokenizer()
    made.save(str(folder / "tokenizer.json"))
    with pytest.raises(InputError, match=r"reranker\.prompt_template: m does not say how query and passage are put"):
        CrossEncoderReranker(str(folder))
    CrossEncoderReranker(str(folder), prompt_template=NVIDIA)


def export(model: Any, path: Path) -> None:
    """As optimum does it, through the exporter that needs nothing but torch and onnx."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    example = tuple(torch.ones(2, 7, dtype=torch.int64) for _ in names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and traces Python's branches; the test compares the results
        torch.onnx.export(
            model,
            example,
            str(path),
            input_names=list(names),
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
            opset_version=17,
            dynamo=False,
        )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both forms of one model."""
    folder = bert(tmp_path_factory.mktemp("models") / "exported")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    export(model.eval(), folder / "model.onnx")
    return folder


@pytest.mark.parametrize("profile", ["onnxruntime-cpu-fp32", "openvino-cpu-fp32"])
def test_the_same_model_in_onnx_gives_the_same_scores(exported: Path, profile: str) -> None:
    of_torch = CrossEncoderReranker(str(exported), profile="torch-cpu-fp32", threads=1)
    of_graph = CrossEncoderReranker(str(exported), profile=profile, threads=1)
    expected = by_id(of_torch.rerank(ask(QUERY), CANDIDATES))
    assert by_id(of_graph.rerank(ask(QUERY), CANDIDATES)) == pytest.approx(expected, abs=1e-4)
    of_torch.close()
    of_graph.close()
