"""Data sets from files: what is read, what is left out and told, what is refused with file and line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import InputError
from ragstack.evaluation.corpus_files import document_ids, relative_path, source_id, write_corpus
from ragstack.evaluation.dataset import Corpus, DocumentSpan, byte_offsets
from ragstack.evaluation.datasets import asked_in, read_dataset

CORPUS = [
    {"_id": "d1", "title": "Pumps", "text": "The pump is primed with oil."},
    {"_id": "d2", "title": "", "text": "Gauges are read on Mondays."},
    {"_id": 3, "text": "Lamps go out."},
]
QUERIES = [{"_id": "q1", "text": "How is the pump primed?"}, {"_id": "q2", "text": "When are gauges read?"}]


def write_lines(path: Path, rows: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


@pytest.fixture
def beir(tmp_path: Path) -> Callable[..., Path]:
    """Makes a BEIR folder; ``qrels`` are lines by split."""

    def make(qrels: dict[str, str], corpus: Sequence[Any] = CORPUS, queries: Sequence[Any] = QUERIES) -> Path:
        folder = tmp_path / "beir"
        write_lines(folder / "corpus.jsonl", corpus)
        write_lines(folder / "queries.jsonl", queries)
        (folder / "qrels").mkdir()
        for split, text in qrels.items():
            (folder / "qrels" / f"{split}.tsv").write_text(text, "utf-8")
        return folder

    return make


def test_a_beir_folder(beir: Callable[..., Path]) -> None:
    dataset = read_dataset(beir({"test": "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\t3\t1\n"}))
    assert (dataset.name, dataset.format, dataset.split, dataset.warnings) == ("beir", "beir", "test", ())
    assert [(q.question_id, q.text, dict(q.relevant)) for q in dataset.questions] == [
        ("q1", "How is the pump primed?", {"d1": 2}),
        ("q2", "When are gauges read?", {"3": 1}),
    ]
    assert dataset.corpus is not None
    assert list(dataset.corpus.documents()) == list(dataset.corpus.documents()) == [
        ("d1", "Pumps\n\nThe pump is primed with oil."),
        ("d2", "Gauges are read on Mondays."),
        ("3", "Lamps go out."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "qrels", ["q1\td1\t1\n", "q1 0 d1 1\n", "q1\t0\td1\t1.0\n", "a b c\nq1\td1\t1\n", "\ufeffq1\td1\t1\r\n"]
)
def test_qrels_in_the_ways_they_are_found(qrels: str, beir: Callable[..., Path]) -> None:
    (question,) = read_dataset(beir({"train": qrels})).questions
    assert question.relevant == {"d1": 1}


def test_unknown_ids_are_left_out_counted_and_told_with_their_lines(beir: Callable[..., Path]) -> None:
    folder = beir({"test": "q1\td1\t1\nq9\td1\t1\nq1\td9\t1\nq2\td8\t1\nq2\td7\t1\n"})
    dataset = read_dataset(folder)
    assert [(q.question_id, dict(q.relevant)) for q in dataset.questions] == [("q1", {"d1": 1})]
    unknown_query, unknown_documents, nothing = dataset.warnings
    assert unknown_query.startswith("lines of the qrels that name a query not in queries.jsonl, left out: 1 (")
    assert f"{folder / 'qrels' / 'test.tsv'}:2 q9" in unknown_query
    assert unknown_documents.startswith("lines of the qrels that name a document not in corpus.jsonl, left out: 3 (")
    assert "test.tsv:3 d9" in unknown_documents
    assert nothing == "questions without a relevant document in the corpus, left out: 1 (q2)"


def test_splits(beir: Callable[..., Path]) -> None:
    folder = beir({"dev": "q1\td1\t1\n", "train": "q2\td2\t1\n"})
    with pytest.raises(InputError, match="several splits and none is called test"):
        read_dataset(folder)
    with pytest.raises(InputError, match=r"no qrels/test\.tsv"):
        read_dataset(folder, "test")
    assert [q.question_id for q in read_dataset(folder, "dev").questions] == ["q1"]
    (folder / "qrels" / "test.tsv").write_text("q2\td2\t1\n")
    assert read_dataset(folder).split == "test"


@pytest.mark.parametrize(
    ("qrels", "corpus", "queries", "message"),
    [
        ({}, CORPUS, QUERIES, "there are no qrels"),
        ({"test": "q1\td1\t1\nq1 d1\n"}, CORPUS, QUERIES, r"test\.tsv:2: expected query-id, corpus-id and score"),
        ({"test": "q1 d1\n"}, CORPUS, QUERIES, r"test\.tsv:1: expected query-id"),
        ({"test": "q1\td1\t1\nq1\td1\tyes\n"}, CORPUS, QUERIES, r"test\.tsv:2"),
        ({"test": "q7\td1\t1\n"}, CORPUS, QUERIES, "no question is left"),
        ({"test": ""}, CORPUS, QUERIES, "no question is left: it judges nothing"),
        ({"test": "q1\td1\t1\n"}, [*CORPUS, CORPUS[0]], QUERIES, r"corpus\.jsonl:4: the id 'd1' is on line 1 too"),
        ({"test": "q1\td1\t1\n"}, [{"text": "x"}], QUERIES, r"corpus\.jsonl:1: _id: expected a string, got nothing"),
        ({"test": "q1\td1\t1\n"}, [["x"]], QUERIES, r"corpus\.jsonl:1: expected a JSON object, got list"),
        ({"test": "q1\td1\t1\n"}, [], QUERIES, "holds no documents"),
        ({"test": "q1\td1\t1\n"}, CORPUS, [{"_id": "q1"}], r"queries\.jsonl:1: text"),
        ({"test": "q1\td1\t1\n"}, CORPUS, [QUERIES[0], QUERIES[0]], r"queries\.jsonl:2: the id 'q1' is there twice"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(
    qrels: dict[str, str], corpus: Sequence[Any], queries: Sequence[Any], message: str, beir: Callable[..., Path]
) -> None:
    with pytest.raises(InputError, match=message):
        read_dataset(beir(qrels, corpus, queries))


def test_the_corpus_digest_is_of_every_document(beir: Callable[..., Path]) -> None:
    folder = beir({"test": "q1\td1\t1\n"})
    before = read_dataset(folder).corpus
    write_lines(folder / "corpus.jsonl", [*CORPUS[:2], {"_id": 3, "text": "Lamps go out!"}])
    after = read_dataset(folder).corpus
    assert before is not None
    assert after is not None
    assert before.digest != after.digest


def squad(tmp_path: Path, paragraphs: Sequence[Any]) -> Path:
    file = tmp_path / "squad.json"
    file.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}), "utf-8")
    return file


def qa(number: int, start: int, text: str, **more: Any) -> dict[str, Any]:
    return {"id": f"q{number}", "question": "?", "answers": [{"text": text, "answer_start": start}], **more}


def test_squad_spans_are_bytes_of_the_context(tmp_path: Path) -> None:
    context = "👩‍🔧 prüft\r\ndie Pumpe 𝒳 täglich"
    answer = "Pumpe 𝒳"
    file = squad(tmp_path, [{"context": context, "qas": [qa(1, context.index(answer), answer)]}])
    dataset = read_dataset(file)
    (question,) = dataset.questions
    ((span,),) = question.pieces
    assert context.encode()[span.byte_start : span.byte_end].decode() == answer
    assert question.relevant == {span.document_id: 1}
    assert dataset.corpus is not None
    assert list(dataset.corpus.documents()) == [(span.document_id, context)]


def test_squad_2_impossible_questions_and_several_answers(tmp_path: Path) -> None:
    context = "Oil and water."
    both = {
        "id": "q1",
        "question": "?",
        "answers": [{"text": "Oil", "answer_start": 0}, {"text": "water", "answer_start": 8}],
    }
    qas = [both, qa(2, 0, "Oil", is_impossible=True), {"id": "q3", "question": "?", "answers": []}]
    questions = read_dataset(squad(tmp_path, [{"context": context, "qas": qas}])).questions
    assert [len(piece) for piece in questions[0].pieces] == [2]
    assert [q.is_answerable for q in questions] == [True, False, False]


def test_squad_answers_that_are_not_there_and_equal_paragraphs(tmp_path: Path) -> None:
    paragraphs = [
        {"context": "The pump.", "qas": [qa(1, 5, "pump")]},  # one too far
        {"context": "The lamp.", "qas": [qa(2, 4, "pump")]},
        {"context": "The pump.", "qas": [qa(3, 0, "The")]},
    ]
    dataset = read_dataset(squad(tmp_path, paragraphs))
    assert [question.pieces for question in dataset.questions] == [
        (),
        (),
        ((DocumentSpan("0000-000", 0, 3),),),
    ]
    assert dataset.warnings[0].startswith(
        "answers that do not stand in their paragraph at answer_start, which give no gold span: 2 ("
    )
    assert dataset.questions[1].relevant == {"0000-001": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not in the format of SQuAD"),
        ('{"data": 1}', "data: expected a list"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', r"data\[0\]\.paragraphs\[0\]: context: expected a string"),
        ('{"data": []}', "holds no questions"),
    ],
)
def test_what_is_no_squad(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_dataset(tmp_path / "x.json")


def test_own_questions(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [
        {"question": "a", "source_id": "docs/a.md", "quote": "the  pump"},
        {"id": "second", "question": "b", "relevant": ["docs/a.md", {"source_id": "docs/b.md", "grade": 2}]},
        {"question": "c", "relevant": [{"source_id": "docs/a.md", "byte_start": 3, "byte_end": 9}]},
        {"question": "d", "relevant": []},
    ]
    write_lines(file, rows)
    first, second, third, fourth = read_dataset(file).questions
    assert (first.question_id, first.relevant, first.quotes[0].text) == ("1", {"docs/a.md": 1}, "the  pump")
    assert (second.question_id, second.relevant) == ("second", {"docs/a.md": 1, "docs/b.md": 2})
    assert third.pieces == ((DocumentSpan("docs/a.md", 3, 9),),)
    assert not fourth.is_answerable
    assert third.where == f"{file}:3"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"source_id": "a"}, "question: expected a string"),
        ({"question": " ", "source_id": "a"}, "the question is empty"),
        ({"question": "a"}, "give either source_id or relevant"),
        ({"question": "a", "source_id": "a", "relevant": []}, "give either source_id or relevant"),
        ({"question": "a", "source": "a"}, "unknown key 'source'"),
        ({"question": "a", "relevant": ["a", 1]}, "relevant: expected a list"),
        ({"question": "a", "relevant": [{"source_id": "a", "score": 1}]}, "unknown key 'score'"),
        ({"question": "a", "source_id": "a", "grade": 0}, "grade: expected a whole number from 1 up"),
        ({"question": "a", "source_id": "a", "byte_start": 4}, "byte_start and byte_end"),
        ({"question": "a", "source_id": "a", "quote": ""}, "the quote is empty"),
    ],
)
def test_a_mistake_in_own_questions(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_lines(tmp_path / "mine.jsonl", [{"question": "fine", "relevant": []}, row])
    with pytest.raises(InputError, match=message) as caught:
        read_dataset(tmp_path / "mine.jsonl")
    assert "mine.jsonl:2: " in caught.value.message


def test_what_is_no_data_set(tmp_path: Path) -> None:
    for name in ("absent", "table.csv"):
        (tmp_path / "table.csv").write_text("a,b")
        with pytest.raises(InputError, match="data set"):
            read_dataset(tmp_path / name)
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "\xe9"}\n')
    with pytest.raises(InputError, match="not UTF-8"):
        read_dataset(tmp_path / "latin.jsonl")
    with pytest.raises(InputError, match="--split"):
        read_dataset(tmp_path / "latin.jsonl", "test")


def test_a_sample_is_the_same_for_the_same_seed_and_keeps_the_order(tmp_path: Path) -> None:
    write_lines(tmp_path / "q.jsonl", [{"question": f"{i}", "relevant": []} for i in range(50)])
    dataset = read_dataset(tmp_path / "q.jsonl")
    texts = [int(q.text) for q in dataset.sample(10, 7).questions]
    assert texts == sorted(texts) == [int(q.text) for q in dataset.sample(10, 7).questions]
    assert texts != [int(q.text) for q in dataset.sample(10, 8).questions]
    assert dataset.sample(90, 7) is dataset


def test_the_same_questions_in_another_language(tmp_path: Path) -> None:
    german = squad(
        tmp_path, [{"context": "Die Pumpe.", "qas": [{**qa(i, 4, "Pumpe"), "question": f"Was {i}?"} for i in (1, 2)]}]
    )
    write_lines(tmp_path / "english.jsonl", [{"id": "q1", "question": "What 1?", "relevant": []}])
    asked = asked_in(read_dataset(german), tmp_path / "english.jsonl")
    assert [(q.question_id, q.text, len(q.pieces)) for q in asked.questions] == [("q1", "What 1?", 1)]
    assert asked.warnings == (f"questions that are not in {tmp_path / 'english.jsonl'}, left out: 1 (q2)",)
    write_lines(tmp_path / "other.jsonl", [{"question": "?", "relevant": []}])
    with pytest.raises(InputError, match="has none of the questions"):
        asked_in(read_dataset(german), tmp_path / "other.jsonl")


ODD_IDS = [
    "a/b",
    "A/B",
    "../../etc/passwd",
    ".",
    "x" * 300,
    "naïve",
    "nai\u0308ve",
    "con",
    "a b",
    "a-b",
    "",
    "😀",
    "q\n",
]


def test_odd_ids_have_files_of_their_own_inside_the_folder(tmp_path: Path) -> None:
    corpus = Corpus(lambda: iter([(i, f"text {n}") for n, i in enumerate(ODD_IDS)]), frozenset(ODD_IDS), "0")
    folder = write_corpus(corpus, tmp_path)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == len({str(path).lower() for path in files}) == len(ODD_IDS)
    assert {path.resolve().is_relative_to(folder.resolve()) for path in files} == {True}
    assert {len(path.name) <= 80 for path in files} == {True}
    for n, document_id in enumerate(ODD_IDS):
        assert (folder / relative_path(document_id)).read_text() == f"text {n}"
    assert document_ids([source_id(i) for i in ODD_IDS], corpus) == {source_id(i): i for i in ODD_IDS}


def test_an_interrupted_corpus_is_written_anew(tmp_path: Path) -> None:
    def broken() -> Any:
        yield "a", "one"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_corpus(Corpus(broken, frozenset("ab"), "0"), tmp_path)
    assert list(tmp_path.iterdir()) == []
    folder = write_corpus(Corpus(lambda: iter([("a", "one"), ("b", "two")]), frozenset("ab"), "0"), tmp_path)
    assert len(list(folder.rglob("*.txt"))) == 2


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.data())
def test_byte_offsets_are_those_of_the_encoded_text(text: str, data: st.DataObject) -> None:
    positions = data.draw(st.lists(st.integers(0, len(text)), max_size=5))
    assert byte_offsets(text, positions) == [len(text[:p].encode()) for p in positions]
