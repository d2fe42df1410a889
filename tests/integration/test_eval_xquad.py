"""The default pipeline on a slice of XQuAD: the real model, figures that are known to be reached."""

from __future__ import annotations

import json
from pathlib import Path

from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.evaluation.datasets import read_dataset
from ragstack.evaluation.evaluate import EvaluationRequest, evaluate
from ragstack.evaluation.target import IndexPlace

ARTICLES = 8


def test_a_slice_of_xquad(data_dir: Path, tmp_path: Path) -> None:
    whole = json.loads((data_dir / "xquad" / "xquad.en.json").read_text("utf-8"))
    file = tmp_path / "slice.json"
    file.write_text(json.dumps({"data": whole["data"][:ARTICLES]}))
    dataset = read_dataset(file).sample(60, 7)
    assert dataset.corpus is not None
    assert len(dataset.corpus.ids) == 5 * ARTICLES
    report = evaluate(LoadedConfig(PipelineConfig()), dataset, EvaluationRequest(IndexPlace(tmp_path / "state")))
    assert report.warnings == []
    means = {stage: figures["MRR@10"].mean for stage, figures in report.stages.items()}
    assert means["reranked"] >= max(0.95, means["dense"] - 0.02)
    assert report.stages["fused"]["recall@10"].mean >= 0.97
    assert report.citations["passage_recall@5"].mean >= 0.9
    assert report.citations["cited_recall"].mean >= 0.75
    assert report.quotes.exact == 1.0
    assert report.index is not None
    assert report.index.tokens_embedded > 4000
