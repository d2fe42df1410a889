"""Cross-encoders: files, pairs, scores. The model is that of tests.cross_encoder_kit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]
from tokenizers import Tokenizer

from ragstack.cancellation import Cancellation
from ragstack.errors import DeviceMemoryError, InputError, InterruptedRunError, RerankingError
from ragstack.inference.backend import TokenBatch
from ragstack.inference.onnx_backend import OnnxBackend
from ragstack.reranking.cascade import CascadeReranker, CascadeStage
from ragstack.reranking.cross_encoder import CrossEncoderReranker
from ragstack.reranking.cross_encoder_files import find_cross_encoder
from ragstack.reranking.none import NoReranker
from ragstack.reranking.pairs import PairEncoder
from ragstack.reranking.registry import RERANKERS
from tests.cross_encoder_kit import (
    POSITIONS,
    ask,
    by_id,
    candidate,
    plain_logit,
    tokenizer,
    vectors,
    write_cross_encoder,
)

QUERY = "how often is the pump checked"
TEXTS = {
    "a": "The log is in room 12.",
    "b": "The pump of line seven is checked every Monday.",
    "c": "How often? Every week the pump is checked.",
    "d": "Rain.",
    "e": "A valve is checked, and so is the pump; often the seal is replaced, too.",
}
VOCABULARY = ("the", "pump", "is", "checked", "often", "by", "a", "valve", "unbelievably", "12", "!", "über")
WORDS = st.lists(st.sampled_from(VOCABULARY), min_size=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("models") / "words-in-common")


@pytest.fixture(scope="module")
def reranker(folder: Path) -> CrossEncoderReranker:
    return CrossEncoderReranker(str(folder), max_batch_tokens=64, threads=2)


@pytest.fixture(scope="module")
def plain() -> tuple[NDArray[np.float32], Tokenizer]:
    return vectors(), tokenizer()


@pytest.fixture
def copy(tmp_path: Path, folder: Path) -> Path:
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


def test_scores_are_those_of_one_pair_at_a_time(
    reranker: CrossEncoderReranker, plain: tuple[NDArray[np.float32], Tokenizer]
) -> None:
    found = reranker.rerank(ask(QUERY), [candidate(name, text) for name, text in TEXTS.items()])
    expected = {name: plain_logit(*plain, QUERY, text) for name, text in TEXTS.items()}
    assert by_id(found) == pytest.approx(expected, abs=1e-4)
    assert [score.chunk_id for score in found] == sorted(expected, key=lambda name: -expected[name])
    assert found[0].chunk_id == "c"
    for score in found:
        assert score.relevance == pytest.approx(1 / (1 + math.exp(-score.score)))
        assert score.parts == {"cross_encoder": score.score}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WORDS, st.lists(WORDS, min_size=1, max_size=7), st.randoms(use_true_random=False), st.integers(1, 300))
def test_order_and_batch_do_not_matter(
    folder: Path, query: list[str], texts: list[list[str]], random: st.DataObject, budget: int
) -> None:
    query = query[:5]  # the longest word has five pieces and a query may take half of the positions
    chosen: dict[str, Any] = {"profile": "onnxruntime-cpu-fp32"}  # which opens quickest
    reranker = CrossEncoderReranker(str(folder), max_batch_tokens=64, threads=1, **chosen)
    candidates = [candidate(f"c{index}", " ".join(words)) for index, words in enumerate(texts)]
    expected = reranker.rerank(ask(" ".join(query)), candidates)
    random.shuffle(candidates)  # type: ignore[attr-defined]
    assert reranker.rerank(ask(" ".join(query)), candidates) == expected
    other = CrossEncoderReranker(str(folder), max_batch_tokens=budget, threads=2, **chosen)
    assert by_id(other.rerank(ask(" ".join(query)), candidates)) == pytest.approx(by_id(expected), abs=1e-5)
    assert [(-s.score, s.chunk_id) for s in expected] == sorted((-s.score, s.chunk_id) for s in expected)
    reranker.close()
    other.close()


def test_nothing_to_rank(reranker: CrossEncoderReranker) -> None:
    assert reranker.rerank(ask(QUERY), []) == []


def test_the_heading_path_is_read(reranker: CrossEncoderReranker) -> None:
    found = by_id(reranker.rerank(ask("pump"), [candidate("a", "Rain."), candidate("b", "Rain.", ("Pump",))]))
    assert found["b"] > found["a"] + 1


@settings(max_examples=50, deadline=None)
@given(WORDS, st.lists(WORDS, min_size=1, max_size=40))
def test_windows_hold_every_token_and_fit(query: list[str], text: list[list[str]]) -> None:
    made, most = tokenizer(), 40
    asked, words = " ".join(query[:9]), " ".join(word for part in text for word in part)
    encoder = PairEncoder(tokenizer(), most, "m", windows=True)
    whole = made.encode(words, add_special_tokens=False).ids
    query_ids = made.encode(asked, add_special_tokens=False).ids
    if len(query_ids) > (most - 3) // 2:
        with pytest.raises(InputError, match=rf"the query has {len(query_ids)} tokens; the reranker m reads 37"):
            encoder.pairs(asked, [candidate("a", words)])
        return
    room = most - 3 - len(query_ids)
    read: list[int] = []
    for pair in encoder.pairs(asked, [candidate("a", words)]):
        assert len(pair.ids) <= most
        ids = [id_ for id_, type_ in zip(pair.ids, pair.type_ids, strict=True) if type_ == 1][:-1]
        assert [id_ for id_, type_ in zip(pair.ids, pair.type_ids, strict=True) if type_ == 0][1:-1] == query_ids
        read = ids if not read else read[: len(read) - room // 4] + ids
    assert read == whole


def test_a_long_passage_counts_by_its_best_window(folder: Path, reranker: CrossEncoderReranker) -> None:
    far_end = "weather " * 150 + "the pump is checked often"
    found = reranker.rerank(ask(QUERY), [candidate("long", far_end), candidate("other", "weather " * 150)])
    assert [score.chunk_id for score in found] == ["long", "other"]
    alone = reranker.rerank(ask(QUERY), [candidate("short", "the pump is checked often")])
    assert found[0].score == pytest.approx(alone[0].score, abs=0.2)
    strict = CrossEncoderReranker(str(folder), long_passages="error")
    with pytest.raises(InputError, match=r"chunk long of root/a.txt has 155 tokens; beside this query .* reads 55"):
        strict.rerank(ask(QUERY), [candidate("long", far_end)])
    assert len(strict.rerank(ask(QUERY), [candidate("short", "the pump")])) == 1


def test_a_score_that_is_no_number_names_the_chunk(reranker: CrossEncoderReranker) -> None:
    with pytest.raises(RerankingError, match=r"cross_encoder:words-in-common gave nan for chunk b of root/a.txt"):
        reranker.rerank(ask(QUERY), [candidate("a", "the pump"), candidate("b", "a zebra")])


@pytest.mark.parametrize(
    ("labels", "wanted", "expected"),
    [
        (("LABEL_0", "LABEL_1"), None, lambda z: z),
        (("Irrelevant", "relevant"), None, lambda z: z),
        (("yes", "no"), None, lambda z: -z),
        (("a", "b", "c"), "c", lambda z: 2 * z - math.log(1 + math.exp(z))),
        (("a", "b", "c"), "a", lambda z: -math.log(math.exp(z) + math.exp(2 * z))),
    ],
)
def test_of_several_labels_the_relevant_one_counts_against_the_others(
    tmp_path: Path, plain: tuple[NDArray[np.float32], Tokenizer], labels: tuple[str, ...], wanted: str, expected: object
) -> None:
    made = CrossEncoderReranker(str(write_cross_encoder(tmp_path / "m", labels=labels)), label=wanted)
    [score] = made.rerank(ask(QUERY), [candidate("a", TEXTS["b"])])
    assert score.score == pytest.approx(expected(plain_logit(*plain, QUERY, TEXTS["b"])), abs=1e-4)  # type: ignore[operator]


def test_quantised_weights_give_a_passage_one_score_in_any_company(tmp_path: Path, folder: Path) -> None:
    """Their scales are taken from the whole batch."""
    made = write_cross_encoder(tmp_path / "int8")
    (made / "model.onnx").unlink()
    quantize_dynamic(folder / "model.onnx", made / "model.onnx", ["MatMul"], weight_type=QuantType.QInt8)
    reranker = CrossEncoderReranker(str(made), max_batch_tokens=4096)
    assert reranker._files.scales_with_its_batch
    together = by_id(reranker.rerank(ask(QUERY), [candidate(name, text) for name, text in TEXTS.items()]))
    for name, text in TEXTS.items():
        assert by_id(reranker.rerank(ask(QUERY), [candidate(name, text)])) == {name: together[name]}


def test_rerankers_of_the_same_weights_share_them(folder: Path, reranker: CrossEncoderReranker) -> None:
    reranker.preload()
    other = CrossEncoderReranker(str(folder))
    CascadeReranker([CascadeStage(NoReranker()), CascadeStage(other, 3)]).preload()
    assert other.__dict__["_engine"] is reranker._engine
    other.close()
    other.close()
    with pytest.raises(RerankingError, match="was closed"):
        other.rerank(ask(QUERY), [candidate("a", "a")])
    assert reranker.rerank(ask(QUERY), [candidate("a", "a")])


def test_a_query_can_be_given_up(reranker: CrossEncoderReranker) -> None:
    cancellation = Cancellation()
    cancellation.request()
    with pytest.raises(InterruptedRunError):
        reranker.rerank(ask(QUERY, cancellation), [candidate("a", "a")])


def test_how_much_is_read(copy: Path) -> None:
    assert find_cross_encoder(str(copy)).max_tokens == POSITIONS
    (copy / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 48}))
    assert find_cross_encoder(str(copy)).max_tokens == 48
    assert find_cross_encoder(str(copy), max_tokens=20).max_tokens == 20
    with pytest.raises(InputError, match=r"reranker.max_tokens: 49 is more than the 48 tokens that changed reads"):
        find_cross_encoder(str(copy), max_tokens=49)
    (copy / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}))
    assert find_cross_encoder(str(copy)).max_tokens == POSITIONS


@pytest.mark.parametrize(
    ("file", "content", "kind", "message"),
    [
        ("model.onnx", None, RerankingError, "neither model.onnx nor onnx/model.onnx"),
        ("config.json", None, RerankingError, r"config.json: cannot be read"),
        ("config.json", "{}", RerankingError, "max_position_embeddings must be a positive whole number"),
        ("config.json", '{"max_position_embeddings": 9, "id2label": {"0": "contradiction", "1": "neutral", "2": "x"}}',
         InputError, r"does not tell which label means relevant.*It has contradiction, neutral, x"),
        ("config.json", '{"max_position_embeddings": 9, "sentence_transformers": {"activation_fn": "torch.nn.Tanh"}}',
         RerankingError, "its scores go through torch.nn.Tanh"),
        ("config.json", '{"max_position_embeddings": 9, "sbert_ce_default_activation_function": "a.Softmax"}',
         RerankingError, r"its scores go through a.Softmax"),
    ],
)  # fmt: skip
def test_names_what_is_wrong_with_a_folder(
    copy: Path, file: str, content: str | None, kind: type[Exception], message: str
) -> None:
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_text(content)
    with pytest.raises(kind, match=message):
        find_cross_encoder(str(copy))


def test_known_activations_are_taken(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
    (copy / "config.json").write_text(json.dumps(config))
    assert find_cross_encoder(str(copy)).relevant is None


def test_weights_that_are_no_classifier_are_refused(copy: Path) -> None:
    from tests.unit.embedding.test_models import packaged_weights

    (copy / "model.onnx").unlink()
    (copy / "model.onnx").hardlink_to(packaged_weights())
    with pytest.raises(RerankingError, match=r"output of shape \(1, \d+, 384\) for 1 pairs; .* says one label"):
        CrossEncoderReranker(str(copy)).rerank(ask(QUERY), [candidate("a", "a")])
    (copy / "model.onnx").unlink()
    (copy / "model.onnx").write_bytes(b"no model")
    with pytest.raises(RerankingError, match="cannot load the model"):
        CrossEncoderReranker(str(copy)).rerank(ask(QUERY), [candidate("a", "a")])


def test_weights_changed_after_opening_are_refused(copy: Path) -> None:
    reranker = CrossEncoderReranker(str(copy))
    data = bytearray((copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.onnx").unlink()
    (copy / "model.onnx").write_bytes(data)
    with pytest.raises(RerankingError, match=r"SHA-256 is [0-9a-f]{64}, expected"):
        reranker.rerank(ask(QUERY), [candidate("a", "a")])


@pytest.mark.parametrize(
    ("model", "revision", "message"),
    [
        ("./nowhere", None, "reranker.model: there is no folder './nowhere'"),
        ("org/model", None, "reranker.model: the Hugging Face id 'org/model' must be pinned"),
        ("org/model", "main", "the branch 'main', which moves"),
        ("all-MiniLM", None, "unknown model 'all-MiniLM'.* Known: .*bge"),
        ("Qwen3-Reranker-0.6B", "v1", "reranker.type: Qwen3-Reranker-0.6B is no classifier.*type to llm_yes_no"),
        ("bge-reranker-v2-m3", None, "BAAI/bge-reranker-v2-m3.* must be pinned"),
        ("nv-rerankqa-mistral-4b-v3", None, "reranker.type to remote"),
        ("./nowhere", "v1", "reranker.revision: 'v1' was given"),
    ],
)
def test_models_that_are_not_named_rightly(model: str, revision: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CrossEncoderReranker(model, revision)


def test_registry() -> None:
    assert RERANKERS.load("cross_encoder") is CrossEncoderReranker
    with pytest.raises(InputError, match=r"reranker.threads: must be at least 1, got 0"):
        CrossEncoderReranker("x", threads=0)


def test_a_pinned_model_of_the_hub_is_run_from_its_cache(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--org--words-in-common" / "snapshots" / commit
    (snapshot / "onnx").mkdir(parents=True)
    (snapshot / "onnx" / "model.onnx").hardlink_to(folder / "model.onnx")
    for name in ("config.json", "tokenizer.json"):
        (snapshot / name).write_bytes((folder / name).read_bytes())
    reranker = CrossEncoderReranker("org/words-in-common", commit)
    assert reranker.name == "cross_encoder:org/words-in-common"
    assert reranker.rerank(ask(QUERY), [candidate("a", TEXTS["a"]), candidate("b", TEXTS["b"])])[0].chunk_id == "b"
    with pytest.raises(RerankingError, match=r"reranker\.model: 'org/other' at revision 'v1' could not be downloaded"):
        CrossEncoderReranker("org/other", "v1")


def test_a_batch_that_has_no_room_runs_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a pair that has none by itself is an error that names its chunk."""
    reranker = CrossEncoderReranker(str(folder), max_batch_tokens=4096, threads=2, profile="onnxruntime-cpu-fp32")
    candidates = [candidate(name, text) for name, text in TEXTS.items()]
    expected = by_id(reranker.rerank(ask(QUERY), candidates))
    given, most = OnnxBackend.run, 60

    def run(self: OnnxBackend, batch: TokenBatch, output: str) -> Any:
        if batch.ids.size > most:
            raise DeviceMemoryError(f"no room for {batch.ids.shape}")
        return given(self, batch, output)

    monkeypatch.setattr(OnnxBackend, "run", run)
    assert by_id(reranker.rerank(ask(QUERY), candidates)) == pytest.approx(expected, abs=1e-5)
    most = 20
    with pytest.raises(RerankingError, match=r"chunk [a-e] of root/a\.txt: .*memory"):
        reranker.rerank(ask(QUERY), candidates)
    reranker.close()


def test_a_decoders_graph_that_cannot_tell_padding_gets_none(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks for a row's last token by the padding's id, which nobody gave it."""
    made = write_cross_encoder(tmp_path / "decoder", num_key_value_heads=2, pad_token_id=None)
    reranker = CrossEncoderReranker(str(made), max_batch_tokens=4096, threads=1, profile="onnxruntime-cpu-fp32")
    given, rows = OnnxBackend.run, []

    def run(self: OnnxBackend, batch: TokenBatch, output: str) -> Any:
        rows.append(batch.counts.tolist())
        return given(self, batch, output)

    monkeypatch.setattr(OnnxBackend, "run", run)
    texts = {**TEXTS, "f": TEXTS["a"], "g": TEXTS["d"]}
    found = by_id(reranker.rerank(ask(QUERY), [candidate(name, text) for name, text in texts.items()]))
    assert all(len(set(counts)) == 1 for counts in rows)
    assert sorted(len(counts) for counts in rows)[-1] >= 2
    plain = CrossEncoderReranker(str(folder), threads=1, profile="onnxruntime-cpu-fp32")
    expected = by_id(plain.rerank(ask(QUERY), [candidate(name, text) for name, text in texts.items()]))
    assert found == pytest.approx(expected, abs=1e-5)
    reranker.close()
    plain.close()
