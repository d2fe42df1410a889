"""``ragstack eval`` on small data sets, with the real index, query path and command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ragstack.cli.main import main
from ragstack.config.loader import load_config
from ragstack.errors import InterruptedRunError
from ragstack.evaluation.dataset import Question
from ragstack.evaluation.datasets import read_dataset
from ragstack.evaluation.evaluate import EvaluationRequest, SilentEvaluation, evaluate
from ragstack.evaluation.target import IndexPlace
from ragstack.indexer.interruption import Interruption
from tests.evaluation_kit import CONFIG, facts, write_beir, write_config, write_questions, write_squad


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BEIR data set, a config, and the indexes that the tests share."""
    folder = tmp_path_factory.mktemp("eval")
    write_beir(folder / "beir")
    write_config(folder / "c.yaml")
    return folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs ``ragstack eval``; gives status, stdout and stderr, or the report of ``--json -``."""
    monkeypatch.chdir(home)

    def run(*arguments: str, status: int = 0, config: str = "c.yaml") -> Any:
        chosen = [] if "--compare" in arguments else ["-c", config]
        assert main(["eval", *chosen, *arguments]) == status
        out, err = capsys.readouterr()
        return json.loads(out) if "-" in arguments and not status else (out, err)

    return run


def test_a_beir_folder_by_stage(run: Callable[..., Any], home: Path) -> None:
    out, err = run("--dataset", "beir", "--json", "r.json", "--html", "r.html")
    report = json.loads((home / "r.json").read_text())
    assert "beir (beir, split test): 40 questions over 100 documents." in out
    assert re.search(r"^reranked +[01]\.\d{3}", out, re.M)
    assert "100 files to read" in err
    assert not (home / ".ragstack").exists(), "the user's own index is never touched"
    assert report["index"]["documents"] == 100
    assert report["index"]["tokens_embedded"] > 0
    assert not report["index"]["reused"]
    assert list(report["stages"]) == ["dense", "sparse", "fused", "reranked", "passages"]
    assert report["stages"]["sparse"]["nDCG@10"]["count"] == 40
    assert report["stages"]["sparse"]["recall@100"]["mean"] > 0.95
    assert "recall@100" not in report["stages"]["reranked"], "50 are reranked"
    assert list(report["stages"]["passages"]) == ["nDCG@10", "MRR@10", "recall@5"]
    assert report["quotes"]["exact"] == 1.0
    assert report["quotes"]["checked"] > 100
    assert {"embed", "retrieve", "rerank", "cite", "answer", "total"} == set(report["latency_ms"])
    for row in report["latency_ms"].values():
        assert 0 < row["p50"] <= row["p90"] <= row["p95"] <= row["p99"]
    assert report["refusals"] == {"answerable": 0.0, "unanswerable": None}
    question = report["questions"][0]
    assert question["relevant"][0] in facts(), "documents have the ids of the data set"
    for stage, rank in question["ranks"].items():
        expected = 1 / rank if rank and rank <= 10 else 0
        assert question["stages"][stage]["MRR@10"] == pytest.approx(expected), stage
    page = (home / "r.html").read_text()
    assert not re.search(r"<script|https?://(?!www\.w3\.org)|<link|@import|url\(", page)


def test_a_second_run_finds_the_index_and_gives_the_same_figures(run: Callable[..., Any]) -> None:
    first = run("--dataset", "beir", "--json", "-")
    second = run("--dataset", "beir", "--json", "-")
    assert second["index"]["reused"]
    assert second["index"]["tokens_embedded"] == first["index"]["tokens_embedded"] > 0
    for key in ("stages", "citations", "refusals", "quotes"):
        assert first[key] == second[key]


def test_a_limit_asks_fewer_questions_of_the_same_documents(run: Callable[..., Any]) -> None:
    report = run("--dataset", "beir", "--limit", "5", "--no-answer", "--json", "-")
    assert (report["dataset"]["questions"], report["dataset"]["documents"]) == (5, 100)
    assert "answer" not in report["latency_ms"]
    assert "cited_document_precision" not in report["citations"]


def test_another_config_has_an_index_of_its_own_where_it_must(run: Callable[..., Any], home: Path) -> None:
    indexes = home / ".ragstack-eval" / "indexes"
    run("--dataset", "beir", "--limit", "2")
    before = set(indexes.iterdir())
    write_config(
        home / "weights.yaml", reranker={"maxsim_weight": 2.0}, retrieval={"top_k": 20, "rerank_k": 10, "top_n": 2}
    )
    report = run("--dataset", "beir", "--limit", "2", "--json", "-", config="weights.yaml")
    assert report["index"]["reused"]
    assert list(report["stages"]["passages"]) == ["nDCG@10", "MRR@10"]
    write_config(home / "chunks.yaml", chunker={"type": "recursive", "max_tokens": 16})
    assert not run("--dataset", "beir", "--limit", "2", "--json", "-", config="chunks.yaml")["index"]["reused"]
    assert len(set(indexes.iterdir()) - before) == 1


def test_what_a_config_says_about_the_users_files_is_left_out(run: Callable[..., Any], home: Path) -> None:
    write_config(
        home / "mine.yaml",
        sources={"include": ["*.md"], "exclude": ["corpus"], "max_file_bytes": 1},
        fields={"team": {"type": "keyword"}},
        retrieval={"min_relevance": 0.0, "filter": {"field": "team", "op": "eq", "value": "a"}},
        store={"type": "qdrant", "uri": "http://127.0.0.1:1"},
    )
    report = run("--dataset", "beir", "--limit", "3", "--json", "-", config="mine.yaml")
    assert report["index"]["documents"] == 100
    assert report["stages"]["sparse"]["recall@100"]["mean"] == 1.0
    assert any(warning.startswith("measured in the embedded store") for warning in report["warnings"])
    assert any(warning.startswith("retrieval.filter is left out") for warning in report["warnings"])


ODD = {
    "Antwort 😀": "Windows lines\r\n\r\nDie 𝒳-Pumpe 👩‍🔧 gibt die Antwort 😀 heraus.\r\nMore.",
    "in the middle": "\ufeffA mark at the start.\n\nThe answer is in the middle of it.",
    "e\u0301tage": "Combining marks\n\nLe troisie\u0300me e\u0301tage est ferme\u0301.",
    "水泵每年": "水泵 question\n\n水泵每年检查一次。",
}


def test_gold_spans_are_exact_in_any_text(run: Callable[..., Any], home: Path) -> None:
    write_squad(home / "odd.json", ODD, impossible=2)
    report = run("--dataset", "odd.json", "--json", "-")
    assert report["citations"]["passage_recall@5"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "count": 4}
    assert report["citations"]["cited_recall"]["count"] == 4
    assert report["quotes"]["exact"] == 1.0
    assert "cited_recall" not in run("--dataset", "odd.json", "--no-answer", "--json", "-")["citations"]
    assert report["dataset"]["unanswerable"] == 2
    assert report["refusals"]["unanswerable"] is not None
    assert len(report["questions"]) == 6
    assert [q["stages"] for q in report["questions"] if q["question_id"].startswith("i")] == [{}, {}]


def test_refusals_are_counted_by_kind(run: Callable[..., Any], home: Path) -> None:
    write_squad(home / "odd.json", ODD, impossible=2)
    write_config(home / "strict.yaml", retrieval={"min_relevance": 1.0})
    report = run("--dataset", "odd.json", "--json", "-", config="strict.yaml")
    assert report["refusals"] == {"answerable": 1.0, "unanswerable": 1.0}
    assert report["stages"]["passages"]["nDCG@10"]["mean"] == 0
    assert report["stages"]["reranked"]["nDCG@10"]["mean"] > 0, "the order before the refusal"
    out, _ = run("--dataset", "odd.json", "--html", "strict.html", config="strict.yaml")
    assert re.search(r"refused_unanswerable +1\.000", out)


def test_documents_that_cannot_be_indexed_are_told(run: Callable[..., Any], home: Path) -> None:
    folder = write_beir(home / "holes", documents=6, questions=6)
    with (folder / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "empty", "text": ""}\n{"_id": "binary", "text": "a\\u0000b\\u0001"}\n')
        file.write('{"_id": "half", "text": "\\ud800 x"}\n')
    _, err = run("--dataset", "holes")
    assert "documents without an index entry" in err


def own_files(home: Path) -> Path:
    docs = home / "docs"
    docs.mkdir(exist_ok=True)
    (docs / "pump.md").write_text("# Pump\n\nThe pump is primed\nwith oil. The pump is primed with oil.\n")
    (docs / "gauge.txt").write_bytes("Die Anzeige steht auf 40\u202fbar.\r\n".encode())
    return docs


OWN = [
    {"question": "How is the pump primed?", "source_id": "docs/pump.md", "quote": "primed with oil"},
    {
        "question": "Was zeigt die Anzeige?",
        "relevant": [{"source_id": "docs/gauge.txt", "byte_start": 22, "byte_end": 30}],
    },
    {"id": "none", "question": "Who is the king?", "relevant": []},
]


def test_own_questions_about_own_files(run: Callable[..., Any], home: Path) -> None:
    own_files(home)
    write_questions(home / "own.jsonl", OWN)
    report = run("--dataset", "own.jsonl", "--corpus", "docs", "--json", "-")
    assert report["warnings"] == []
    assert report["citations"]["passage_recall@5"]["mean"] == 1.0
    assert report["stages"]["sparse"]["MRR@10"]["mean"] == 1.0
    assert [q["question_id"] for q in report["questions"]] == ["1", "2", "none"]


def test_questions_of_the_index_that_is_there(run: Callable[..., Any], home: Path) -> None:
    docs = own_files(home)
    write_questions(home / "own.jsonl", OWN)
    write_config(home / "own.yaml", indexer={**CONFIG["indexer"], "state_dir": str(home / "own-state")})
    assert main(["index", "-c", "own.yaml", str(docs)]) == 0
    files = {path: path.stat().st_mtime_ns for path in (home / "own-state").rglob("*.db")}
    run("--dataset", "own.jsonl", config="own.yaml", status=2)  # neither --corpus nor sources.paths
    report = run("--dataset", "own.jsonl", "--no-index", "--json", "-", config="own.yaml")
    assert report["index"] is None
    assert report["citations"]["passage_recall@5"]["mean"] == 1.0
    assert {path: path.stat().st_mtime_ns for path in files} == files, "nothing is written"
    (docs / "pump.md").write_text("Something else.\n")
    report = run("--dataset", "own.jsonl", "--no-index", "--json", "-", config="own.yaml")
    assert report["quotes"]["outcomes"]["source_changed"] > 0


def test_unknown_sources_and_lost_quotes_are_told_with_their_lines(run: Callable[..., Any], home: Path) -> None:
    own_files(home)
    rows = [
        *OWN,
        {"question": "a", "source_id": "docs/absent.md"},
        {"question": "b", "source_id": "docs/gauge.txt", "quote": "50 bar"},
        {"question": "c", "relevant": [{"source_id": "docs/gauge.txt", "byte_start": 10, "byte_end": 999}]},
    ]
    file = write_questions(home / "doubtful.jsonl", rows)
    report = run("--dataset", "doubtful.jsonl", "--corpus", "docs", "--json", "-")
    assert report["warnings"] == [
        f"relevant sources that are not in the index: 1 ({file.name}:4 docs/absent.md)",
        f"questions left out, for none of their relevant sources is in the index: 1 ({file.name}:4)",
        "quotes and byte ranges that do not stand in their source, which give no gold span:"
        f" 2 ({file.name}:5, {file.name}:6)",
    ]
    assert report["dataset"]["questions"] == 5


def test_a_beir_folder_asked_of_an_index_that_somebody_made(
    run: Callable[..., Any], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = home / "by-id"
    files.mkdir()
    folder = write_beir(home / "plain", documents=10, questions=10)
    for name in ("corpus.jsonl", "qrels/test.tsv"):
        path = folder / name
        path.write_text(path.read_text().replace("/", "-"))
    (folder / "queries.jsonl").write_text((folder / "queries.jsonl").read_text().replace("/", "-"))
    for document, (text, _, _) in list(facts().items())[:9]:
        (files / f"{document.replace('/', '-')}.txt").write_text(text)
    write_config(home / "by.yaml", indexer={**CONFIG["indexer"], "state_dir": str(home / "by-state")})
    assert main(["index", "-c", "by.yaml", str(files), "--json"]) == 0
    capsys.readouterr()
    report = run("--dataset", "plain", "--no-index", "--json", "-", config="by.yaml")
    assert report["warnings"] == ["1 of the data set's 10 documents are not in the index"]
    assert report["stages"]["sparse"]["recall@5"]["mean"] == pytest.approx(0.9, abs=0.11)
    _, err = run("--dataset", "beir", "--no-index", config="by.yaml", status=2)
    assert "holds none of the documents" in err


def test_a_comparison(run: Callable[..., Any], home: Path) -> None:
    write_config(home / "dense.yaml", retrieval={"mode": "dense", "min_relevance": 0.0}, reranker={"type": "none"})
    out, _ = run("--dataset", "beir", "--compare", "dense.yaml", "c.yaml", "--json", "x.json", "--html", "x.html")
    report = json.loads((home / "x.json").read_text())
    assert "retrieval.mode: dense → hybrid" in out
    rows = {(row["stage"], row["measure"]): row for row in report["measures"]}
    row = rows["reranked", "nDCG@10"]
    assert row["b"] - row["a"] == pytest.approx(row["difference"])
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["wins"] + row["losses"] + row["ties"] == row["count"] == 40
    assert all(r["p_value"] <= r["p_holm"] <= 1 for r in rows.values())
    # Hashed words have no meaning: BM25 must help, and 40 questions must show it.
    assert row["difference"] > 0
    assert row["p_holm"] < 0.05
    gaps = [abs(q["a"] - q["b"]) for q in report["changed"]]
    assert gaps == sorted(gaps, reverse=True)
    assert len(gaps) == row["wins"] + row["losses"]
    assert [c["key"] for c in report["config_changes"]][:2] == ["retrieval.mode", "reranker.type"]


def test_a_config_against_itself_differs_in_nothing(run: Callable[..., Any]) -> None:
    out, _ = run("--dataset", "beir", "--limit", "8", "--compare", "c.yaml", "c.yaml")
    assert "The configs are the same." in out
    assert "yes" not in out.split()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "absent"], "there is no such data set"),
        (["--dataset", "c.yaml"], "not a data set"),
        (["--dataset", "beir", "--split", "dev"], "no qrels/dev.tsv"),
        (["--dataset", "beir", "--corpus", "beir"], "has documents of its own"),
        (["--dataset", "beir", "--corpus", "absent"], "no such file or folder"),
        (["--dataset", "beir", "--no-index", "--state-dir", "x"], "--no-index"),
        (["--dataset", "beir", "--html", "absent/x.html"], "cannot be written"),
        (["--dataset", "beir", "--json", "absent/x.json"], "cannot be written"),
        (["--dataset", "beir", "--no-index"], "no index"),
        (["--dataset", "beir", "--limit", "0"], "--limit"),
        ([], "--dataset"),
    ],
)
def test_the_users_mistakes(arguments: list[str], message: str, run: Callable[..., Any]) -> None:
    out, err = run(*arguments, status=2)
    assert err.startswith("error: ")
    assert message in err
    assert out == ""


def test_two_configs_by_two_options_are_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "-c", "c.yaml", "--dataset", "beir", "--compare", "a.yaml", "b.yaml"]) == 2
    assert "--compare names both configs" in capsys.readouterr().err


def test_an_error_is_json_where_the_result_would_be(run: Callable[..., Any]) -> None:
    out, err = run("--dataset", "absent", "--json", "-", status=2)
    assert (json.loads(out)["error"]["type"], err) == ("InputError", "")
    out, err = run("--dataset", "absent", "--json", "file.json", status=2)
    assert out == ""
    assert err.startswith("error: ")


def test_a_question_that_cannot_be_asked_counts_as_missed_and_is_told(home: Path) -> None:
    loaded = load_config(home / "c.yaml", {})
    dataset = read_dataset(home / "beir").sample(3, 0)
    first = dataset.questions[0]
    spoiled = dataset.__class__(**{**dataset.__dict__, "questions": (Question("x", " ", first.relevant), first)})
    report = evaluate(loaded, spoiled, EvaluationRequest(IndexPlace(home / ".ragstack-eval")))
    assert len(report.errors) == 1
    assert report.stages["sparse"]["nDCG@10"].count == 2
    assert report.questions[0].stages["sparse"]["nDCG@10"] == 0


def test_it_stops_where_it_is_asked_to(home: Path) -> None:
    class Stopping(SilentEvaluation):
        def asked(self, done: int, total: int) -> None:
            seen.append(done)
            if done == 2:
                interruption.request()

    seen: list[int] = []
    interruption = Interruption()
    loaded = load_config(home / "c.yaml", {})
    request = EvaluationRequest(IndexPlace(home / ".ragstack-eval"))
    with pytest.raises(InterruptedRunError, match="stopped after 2 of 40 questions"):
        evaluate(loaded, read_dataset(home / "beir"), request, Stopping(), interruption)
    assert seen == [1, 2]
