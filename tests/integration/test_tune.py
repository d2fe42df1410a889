"""``ragstack tune`` on a small data set, with the real index and query path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ragstack.cli.main import main
from ragstack.config.loader import load_config
from ragstack.errors import InputError, InterruptedRunError
from ragstack.evaluation.datasets import read_dataset
from ragstack.evaluation.evaluate import SilentEvaluation
from ragstack.evaluation.target import IndexPlace
from ragstack.evaluation.tuning.search import TuneRequest, tune
from ragstack.indexer.interruption import Interruption
from tests.evaluation_kit import facts, write_beir, write_config, write_questions

POOR = """\
# My pipeline, which leans on hashed words alone.
version: 1
chunker: {type: recursive, max_tokens: 40}
embedder: {type: hashing, dim: 16}
retrieval:
  min_relevance: 0.0   # answer everything
reranker:
  sparse_weight: 0     # no words
  maxsim_weight: 0
indexer: {min_free_bytes: 0}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, a poor config, and the indexes that the tests share."""
    folder = tmp_path_factory.mktemp("tune")
    write_beir(folder / "beir", documents=60, questions=30)
    (folder / "poor.yaml").write_text(POOR)
    return folder


@pytest.fixture(autouse=True)
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def test_a_poor_config_becomes_better_and_keeps_its_comments(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tune", "-c", "poor.yaml", "--dataset", "beir", "--chunk-size", "16", "-o", "tuned.yaml"]
    assert main([*arguments, "--json", "t.json"]) == 0
    out, _ = capsys.readouterr()
    report = json.loads((home / "t.json").read_text())
    assert report["is_better"]
    assert report["held_out"] > report["own"] + 0.1
    assert 0 < report["low"] < report["held_out"] - report["own"] < report["high"]
    assert report["chunk_sizes"] == [40, 16]
    assert (report["questions"], report["folds"], len(report["fold_choices"])) == (30, 5, 5)
    # What was recorded at another depth and with other weights foretells what the query path does.
    assert report["confirmed"]["chosen"] == pytest.approx(report["best"], abs=1e-9)
    assert report["confirmed"]["own"] == pytest.approx(report["own"], abs=1e-9)
    text = (home / "tuned.yaml").read_text()
    assert text.startswith("# ragstack tune: held-out nDCG@10 ")
    for kept in ("# My pipeline, which leans on hashed words alone.\n", "  min_relevance: 0.0   # answer everything\n"):
        assert kept in text
    tuned = load_config(home / "tuned.yaml", {}).config
    for key, value in report["values"].items():
        found: Any = tuned
        for name in key.split("."):
            found = getattr(found, name)
        assert found == value
    assert "Wrote tuned.yaml." in out
    assert main(arguments) == 2, "the file is there already"
    assert "--force" in capsys.readouterr().err
    assert main(["eval", "--dataset", "beir", "--compare", "poor.yaml", "tuned.yaml", "--json", "c.json"]) == 0
    rows = json.loads((home / "c.json").read_text())["measures"]
    ranked = next(row for row in rows if (row["stage"], row["measure"]) == ("reranked", "nDCG@10"))
    assert ranked["b"] == pytest.approx(report["best"], abs=1e-9)
    assert ranked["p_holm"] < 0.05


def test_the_same_seed_gives_the_same_choice(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = []
    for number in range(2):
        arguments = ["--dataset", "beir", "--chunk-size", "40", "--limit", "15", "--seed", "3", "--json", "-"]
        assert main(["tune", "-c", "poor.yaml", *arguments, "-o", f"s{number}.yaml"]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    for report in reports:
        del report["seconds"]
    assert reports[0] == reports[1]
    assert (home / "s0.yaml").read_bytes() == (home / "s1.yaml").read_bytes()


def test_a_config_that_cannot_be_beaten_stays_as_it_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = POOR.replace("sparse_weight: 0 ", "sparse_weight: 3 ")
    (home / "good.yaml").write_text(good)
    assert main(["tune", "-c", "good.yaml", "--dataset", "beir", "--budget", "0", "-o", "same.yaml"]) == 0
    out, err = capsys.readouterr()
    assert "Nothing is better than the config beyond noise" in out
    assert "the time was up before chunks of 100 tokens were tried" in err
    first, *rest = (home / "same.yaml").read_text().splitlines(keepends=True)
    assert first.startswith("# ragstack tune: nothing is better")
    assert "".join(rest) == good


def test_ctrl_c_keeps_what_was_found(home: Path) -> None:
    class Stopping(SilentEvaluation):
        def asked(self, done: int, total: int) -> None:
            seen.append(done)
            if len(seen) == total + 3:  # in the midst of the second chunk size
                interruption.request()

    seen: list[int] = []
    interruption = Interruption()
    request = TuneRequest(IndexPlace(home / ".ragstack-eval"), chunk_sizes=[16, 24])
    loaded = load_config(home / "poor.yaml", {})
    report = tune(loaded, read_dataset(home / "beir"), request, Stopping(), interruption)
    assert report.interrupted
    assert report.chunk_sizes == [40]
    assert report.is_better
    assert report.values
    assert report.confirmed is None
    with pytest.raises(InterruptedRunError):
        tune(loaded, read_dataset(home / "beir"), request, SilentEvaluation(), interruption)


def test_a_threshold_is_chosen_where_some_questions_have_no_answer(home: Path) -> None:
    docs = home / "docs"
    rows = []
    for number, (name, (text, question, answer)) in enumerate(list(facts().items())[::3]):
        file = docs / f"{name.replace('/', '-')}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        rows.append({"question": question, "source_id": f"docs/{file.name}", "quote": answer})
        rows.append({"question": f"Zürich {number} opera Mongolia?", "relevant": []})
    write_questions(home / "own.jsonl", rows)
    loaded = load_config(write_config(home / "own.yaml"), {})
    request = TuneRequest(IndexPlace(home / ".ragstack-eval", (docs,)), "passage_recall@5", [40])
    report = tune(loaded, read_dataset(home / "own.jsonl"), request, SilentEvaluation())
    assert report.refusal is not None
    assert (report.refusal.own, report.refusal.is_better) == (0.5, True)
    assert report.refusal.held_out > 0.9
    assert report.values["retrieval.min_relevance"] == report.refusal.min_relevance > 0


@pytest.mark.parametrize(
    ("rows", "measure", "message"),
    [
        ([{"question": f"q{i}", "source_id": "docs/a.txt"} for i in range(5)], "nDCG@10", "tuning needs 10"),
        ([{"question": f"q{i}", "source_id": "docs/a.txt"} for i in range(12)], "nDCG@10", "about one document"),
        ([{"question": f"q{i}", "source_id": "docs/a.txt"} for i in range(12)], "passage_recall@5", "0 questions"),
        ([{"question": f"q{i}", "relevant": []} for i in range(12)], "nDCG@10", "0 questions"),
    ],
)
def test_too_little_to_tune_by(rows: list[Any], measure: str, message: str, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.txt").write_text("Some text.")
    file = write_questions(tmp_path / "few.jsonl", rows)
    loaded = load_config(write_config(tmp_path / "c.yaml"), {})
    request = TuneRequest(IndexPlace(tmp_path / "state", (docs,)), measure, [40])
    with pytest.raises(InputError, match=message):
        tune(loaded, read_dataset(file), request, SilentEvaluation())


@pytest.mark.parametrize(
    "option", [["--measure", "accuracy"], ["--folds", "1"], ["--chunk-size", "3"], ["--json", "no/x"]]
)
def test_the_users_mistakes(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "-c", "poor.yaml", "--dataset", "beir", "-o", "m.yaml", *option]) == 2
    assert capsys.readouterr().err.startswith("error: ")
