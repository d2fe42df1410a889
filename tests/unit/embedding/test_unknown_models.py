"""Models that no registry knows, by their own files: the same vectors as sentence-transformers makes of the folder.

No hub is at hand, so the weights are random, of the true architectures, scaled down.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, processors

from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.embedding.model_files import resolve_model
from ragstack.embedding.models import MODELS
from ragstack.errors import EmbeddingError
from tests.torch_models_kit import SIZES, random_model, tokenizer, write

TEXTS = [
    "The pump of line seven is checked every Monday, and the log is kept in room twelve.",
    "a",
    "Grüße aus 東京 😀\n\n\ttabs  and   spaces",
    "rain falls on the valve. " * 30,
    "how often is it checked?",
]


def with_ends(made: Tokenizer, before: str | None, after: str | None) -> Tokenizer:
    """A tokenizer that puts tokens before and after a text, as ``tokenizer.json`` says it."""
    names = [name for name in (before, after) if name is not None]
    made.add_special_tokens(names)
    single = " ".join(part for part in (before, "$A", after) if part is not None)
    made.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(name, made.token_to_id(name)) for name in names]
    )
    return made


def sentence_transformer(folder: Path, *kinds: str, pooling: dict[str, Any], **files: Any) -> Path:
    """The files around an encoder that sentence-transformers reads."""
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    for stem, content in files.items():
        (folder / f"{stem}.json").write_text(json.dumps(content))
    return folder


def qwen3(folder: Path) -> Path:
    """As Qwen3-Embedding: the state of <|endoftext|> at the end, padding on the left, an instruction for queries."""
    made = with_ends(tokenizer(chat=True), None, "<|endoftext|>")
    config = transformers.Qwen3Config(vocab_size=made.get_vocab_size() + 3, head_dim=16, pad_token_id=None, **SIZES)
    write(folder, random_model(transformers.Qwen3Model, config), made)
    return sentence_transformer(
        folder,
        *("Transformer", "Pooling", "Normalize"),
        pooling={"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True, "include_prompt": True},
        config_sentence_transformers={
            "prompts": {"query": "Instruct: Find passages that answer\nQuery:", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        tokenizer_config={
            "tokenizer_class": "PreTrainedTokenizerFast",
            "padding_side": "left",
            "pad_token": "<|endoftext|>",
            "eos_token": "<|im_end|>",
            "model_max_length": 131072,
        },
    )


def xlm_roberta(folder: Path) -> Path:
    """As multilingual-e5: the mean between <s> and </s>, prompts on both sides, positions counted from 2."""
    made = with_ends(tokenizer(), "<s>", "</s>")
    config = transformers.XLMRobertaConfig(
        vocab_size=made.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
    )
    write(folder, random_model(transformers.XLMRobertaModel, config), made)
    return sentence_transformer(
        folder,
        *("Transformer", "Pooling", "Normalize"),
        pooling={"pooling_mode_mean_tokens": True},
        config_sentence_transformers={"prompts": {"query": "query: ", "document": "passage: "}},
        sentence_bert_config={"max_seq_length": 512, "do_lower_case": False},
        tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|pad|>"},
    )


def bert_with_cls(folder: Path) -> Path:
    """As bge-large-en: the state of the first token; no Normalize, texts in lower case, shorter than it could read."""
    made = with_ends(tokenizer(), "[CLS]", "[SEP]")
    config = transformers.BertConfig(
        vocab_size=made.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    )
    write(folder, random_model(transformers.BertModel, config), made)
    return sentence_transformer(
        folder,
        *("Transformer", "Pooling"),
        pooling={"pooling_mode": "cls"},
        sentence_bert_config={"max_seq_length": 300, "do_lower_case": True},
        tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|pad|>"},
    )


FOLDERS: dict[str, Callable[[Path], Path]] = {"qwen3": qwen3, "xlm-roberta": xlm_roberta, "bert": bert_with_cls}


@pytest.fixture(scope="module", params=FOLDERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """A folder, and what sentence-transformers makes of it."""
    folder = FOLDERS[request.param](tmp_path_factory.mktemp("models") / request.param)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sentence-transformers' own imports and of its tokenizers
        from sentence_transformers import SentenceTransformer

        made = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    yield folder, made


def theirs(made: Any, texts: list[str], kind: str, **options: Any) -> np.ndarray[Any, Any]:
    encode = made.encode_query if kind == "query" else made.encode_document
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        found: np.ndarray[Any, Any] = encode(texts, normalize_embeddings=True, show_progress_bar=False, **options)
    return found


@pytest.mark.parametrize("kind", ["query", "passage"])
@pytest.mark.parametrize("dimensions", [None, 12])
def test_vectors_are_those_of_sentence_transformers(model: tuple[Path, Any], kind: Any, dimensions: int | None) -> None:
    folder, made = model
    embedder = EncoderEmbedder(str(folder), dimensions=dimensions, max_batch_tokens=200)
    assert embedder.profile == "torch-cpu-fp32"
    found = embedder.embed(TEXTS, kind).dense
    expected = theirs(made, TEXTS, kind, truncate_dim=dimensions)
    assert found is not None and found.shape == expected.shape
    assert (found * expected).sum(axis=1).min() > 0.9999
    embedder.close()


def test_what_the_files_say_is_what_sentence_transformers_reads(model: tuple[Path, Any]) -> None:
    folder, made = model
    found = resolve_model(str(folder))
    assert found.card.max_tokens + found.tokenizer.specials == min(made.max_seq_length, 2048)
    for text in TEXTS:
        assert found.tokenizer.input_ids([text])[0] == made.tokenizer(text)["input_ids"]
    assert found.formats == {"safetensors"} and found.card.architecture.endswith("Model")


def test_a_registered_model_is_its_repository_and_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = qwen3(tmp_path / "qwen3")
    # What the card says goes before the repository's files, which may say nothing.
    shutil.rmtree(folder / "1_Pooling")
    for name in ("modules.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    name = "Qwen3-Embedding-0.6B"
    monkeypatch.setitem(MODELS, name, replace(MODELS[name], dim=32, matryoshka=range(8, 32)))
    commit = "0123456789abcdef0123456789abcdef01234567"
    embedder = EncoderEmbedder(name, revision=commit, dimensions=16, instruction="Find passages that answer")
    assert (embedder.info.name, embedder.info.pooling, embedder.info.dim) == (name, "last", 16)
    assert embedder.info.licence == "Apache-2.0" and "sv" in embedder.info.languages
    whole = EncoderEmbedder(str(qwen3(tmp_path / "whole")), dimensions=16)
    for kind in ("query", "passage"):
        found, expected = (made.embed(TEXTS, kind).dense for made in (embedder, whole))  # type: ignore[arg-type]
        assert found is not None and expected is not None and found == pytest.approx(expected, abs=1e-5)


def test_shards_are_one_model(tmp_path: Path) -> None:
    folder = xlm_roberta(tmp_path / "whole")
    whole = EncoderEmbedder(str(folder)).embed(TEXTS, "passage").dense
    split = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    split.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    found = EncoderEmbedder(str(folder)).embed(TEXTS, "passage").dense
    assert whole is not None and found is not None and found == pytest.approx(whole, abs=1e-6)


def test_a_decoder_must_say_how_it_pools(tmp_path: Path) -> None:
    folder = qwen3(tmp_path / "qwen3")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Qwen3ForCausalLM"]}))
    (folder / "modules.json").unlink()
    assert resolve_model(str(folder)).card.pooling == "last"
    (folder / "1_Pooling" / "config.json").unlink()
    (folder / "1_Pooling").rmdir()
    with pytest.raises(EmbeddingError, match=r"a decoder \(Qwen3ForCausalLM\) whose files do not say") as caught:
        resolve_model(str(folder))
    assert "1_Pooling/config.json" in caught.value.hint


def test_nvidias_decoders_say_it_in_their_config(tmp_path: Path) -> None:
    folder = qwen3(tmp_path / "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "modules.json").unlink()
    (folder / "1_Pooling" / "config.json").unlink()
    (folder / "1_Pooling").rmdir()
    for pooling, expected in (("avg", "mean"), ("last", "last"), ("cls", "cls")):
        told = {**config, "model_type": "llama_bidirec", "architectures": ["LlamaBidirectionalModel"]}
        (folder / "config.json").write_text(json.dumps({**told, "pooling": pooling}))
        assert resolve_model(str(folder)).card.pooling == expected


def test_a_text_without_tokens_is_refused_where_the_model_adds_none(tmp_path: Path) -> None:
    folder = qwen3(tmp_path / "qwen3")
    tokenizer(chat=True).save(str(folder / "tokenizer.json"))
    embedder = EncoderEmbedder(str(folder))
    with pytest.raises(EmbeddingError, match=r"text 1: .*no tokens, and qwen3 adds none"):
        embedder.embed(["fine", ""], "passage")
    embedder.close()


@pytest.mark.parametrize("name", ["document", "passage", "corpus"])
def test_the_prompt_of_passages_has_three_names(tmp_path: Path, name: str) -> None:
    # sentence-transformers reads the first alone: it has an empty prompt of that name where none is given.
    folder = xlm_roberta(tmp_path / "model")
    prompts = {"prompts": {"query": "", "document": "", name: "passage: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    card = resolve_model(str(folder)).card
    assert (card.query_prompt, card.passage_prompt) == ("", "passage: ")


@pytest.mark.parametrize("place", ["adapter_config.json", "adapters/adapter_config.json"])
def test_adapters_are_refused(tmp_path: Path, place: str) -> None:
    folder = bert_with_cls(tmp_path / "bert")
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_text("{}")
    with pytest.raises(EmbeddingError, match="adapters for its tasks, which cannot be run"):
        resolve_model(str(folder))


def test_vectors_that_are_compared_by_their_lengths_are_refused(tmp_path: Path) -> None:
    folder = bert_with_cls(tmp_path / "bert")
    config = folder / "config_sentence_transformers.json"
    config.write_text(json.dumps({"similarity_fn_name": "dot"}))
    with pytest.raises(EmbeddingError, match="to be compared by dot, lengths included"):
        resolve_model(str(folder))
    config.write_text(json.dumps({"similarity_fn_name": "cosine"}))
    resolve_model(str(folder))


@pytest.mark.parametrize(
    ("front", "languages", "licence"),
    [
        ("language: en\nlicense: mit", ("en",), "mit"),
        ("language: [en, no, zh]\nlicense: other\nlicense_name: acme", ("en", "no", "zh"), "acme"),
        ("language:\n- multilingual\n- en\n", (), "unknown"),
        ("language: {a: b}\nlicense: [x]", (), "unknown"),
        (": : [", (), "unknown"),
        ("- a", (), "unknown"),
    ],
)
def test_languages_and_licence_of_the_readme(
    tmp_path: Path, front: str, languages: tuple[str, ...], licence: str
) -> None:
    folder = bert_with_cls(tmp_path / "bert")
    (folder / "README.md").write_text(f"---\n{front}\n---\n# A model\n")
    found = resolve_model(str(folder)).card
    assert (found.languages, found.licence) == (languages, licence)
