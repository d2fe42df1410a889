"""``ragstack bench`` as typed: in this process, against our own server, and against one that fails."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

import ragstack
from ragstack.cli.main import main
from tests.cross_encoder_kit import write_cross_encoder
from tests.integration.api.live import live
from tests.integration.harness import SMALL_CONFIG
from tests.servers.rerank_replay import Answer, RerankReplay, Seen, running

CONFIG = {
    **SMALL_CONFIG,
    "retrieval": {"min_relevance": 0.0},
    "server": {"limits": {"requests_per_s": None}},
}
QUESTIONS = ["How often is the pump checked?", "Where is the log?", "When are valves replaced?"]
Bench = Callable[..., tuple[int, dict[str, Any]]]
SHAPE = "--tokens 20 --batch 4 --concurrency 1,3 --requests 6"
KEY = "sk-very-secret-key"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config, an index of its own, questions."""
    folder = tmp_path_factory.mktemp("bench")
    text = "The pump of line seven is checked every Monday.\n\nThe log is in room 12.\n\nValves last 300 hours.\n"
    (folder / "corpus").mkdir()
    (folder / "corpus" / "manual.txt").write_text(text, encoding="utf-8")
    config = {**CONFIG, "indexer": {**SMALL_CONFIG["indexer"], "state_dir": str(folder / "state")}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    empty = {**CONFIG, "indexer": {**SMALL_CONFIG["indexer"], "state_dir": str(folder / "no-state")}}
    (folder / "empty.yaml").write_text(yaml.safe_dump(empty), encoding="utf-8")
    (folder / "questions.txt").write_text("\n".join(QUESTIONS), encoding="utf-8")
    with ragstack.open(folder / "config.yaml") as pipeline:
        pipeline.index(folder / "corpus")
    return folder


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Our own server, with an index of the same corpus."""
    pipeline = ragstack.open(CONFIG, state_dir=tmp_path_factory.mktemp("served") / "state")
    pipeline.index(folder / "corpus")
    with live(pipeline) as url:
        yield url


@pytest.fixture
def bench(folder: Path, tmp_path: Path) -> Bench:
    """Run the command; its status, and the report it wrote."""

    def run(command: str, *more: str) -> tuple[int, dict[str, Any]]:
        file = tmp_path / "report.json"
        arguments = ["bench", *command.split(), *more, "-c", str(folder / "config.yaml"), "--json", str(file)]
        status = main(arguments)
        return status, json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    return run


def assert_sound(load: dict[str, Any], requests: int) -> None:
    """Every request counted once, all of them good, every figure in its range."""
    assert load["requests"] == load["good_requests"] == requests
    assert load["errors"] == {}
    assert load["most_in_flight"] == min(load["concurrency"], requests)
    order = [load["latency_ms"][name] for name in ("min", "p50", "p90", "p95", "p99", "max")]
    assert order == sorted(order)
    assert order[0] > 0
    assert load["requests_per_s"] == pytest.approx(requests / load["seconds"])


def test_embedding_in_this_process(bench: Bench) -> None:
    status, report = bench(f"embed {SHAPE}")
    assert status == 0
    assert [load["concurrency"] for load in report["loads"]] == [1, 3]
    for load in report["loads"]:
        assert_sound(load, 6)
        assert load["tokens"] == 6 * 4 * 20
        assert load["tokens_counted_by"] == "tokenizer"
        assert load["tokens_per_s"] == pytest.approx(480 / load["seconds"])
        assert load["client_limit"] == ""
    assert report["target"]["kind"] == "local"
    assert report["machine"]["cores"] >= 1


def test_the_engine_tells_of_its_padding(folder: Path, tmp_path: Path) -> None:
    config, file = tmp_path / "config.yaml", tmp_path / "report.json"
    config.write_text(yaml.safe_dump({"version": 1}), encoding="utf-8")
    arguments = [
        "embed",
        "--tokens",
        "12,5-40",
        "--batch",
        "6",
        "--concurrency",
        "1",
        "--requests",
        "2",
        "--warm-up",
        "1",
    ]
    assert main(["bench", *arguments, "-c", str(config), "--json", str(file)]) == 0
    even, mixed = json.loads(file.read_text(encoding="utf-8"))["loads"]
    assert (even["tokens"], even["tokens_counted_by"], even["padding_share"]) == (2 * 6 * 12, "model", 0)
    assert even["tokens_per_text"] == {"tokenizer": 12, "model": 12}  # special tokens are part of both
    assert mixed["tokens_per_text"]["model"] == mixed["tokens_per_text"]["tokenizer"]
    assert 0 <= mixed["padding_share"] < 0.5


@pytest.mark.parametrize("api", ["openai", "nim", "tei", "ragstack"])
def test_embedding_at_our_own_server(api: str, url: str, bench: Bench) -> None:
    model = ["--model", "hashing"] if api in ("openai", "nim") else []
    status, report = bench(f"embed {SHAPE} --api {api} --url {url}", *model)
    assert status == 0
    for load in report["loads"]:
        assert_sound(load, 6)
        assert load["tokens"] == 6 * 4 * 20
        assert load["tokens_counted_by"] == "server"
        assert load["client_cpu_share"] > 0
    assert report["target"]["url"].startswith(url)
    assert "uvicorn" in report["target"]["server"]


def test_base64_is_read_too(url: str, bench: Bench) -> None:
    options = "--tokens 9 --batch 2 --concurrency 1 --requests 2 --encoding-format base64"
    status, report = bench(f"embed {options} --api ragstack --url {url}")
    assert status == 0
    assert_sound(report["loads"][0], 2)


@pytest.mark.parametrize("api", ["nim", "tei", "ragstack"])
def test_reranking_at_our_own_server(api: str, url: str, bench: Bench) -> None:
    model = ["--model", "late_interaction"] if api == "nim" else []
    options = "--tokens 40 --passages 5,8 --concurrency 2 --requests 4"
    status, report = bench(f"rerank {options} --api {api} --url {url}", *model)
    assert status == 0
    for load, passages in zip(report["loads"], (5, 8), strict=True):
        assert_sound(load, 4)
        assert load["pairs_per_s"] == pytest.approx(4 * passages / load["seconds"])
        assert load["tokens"] == 4 * passages * 40


def test_reranking_in_this_process(bench: Bench) -> None:
    status, report = bench("rerank --tokens 40 --passages 5 --concurrency 1,2 --requests 3")
    assert status == 0
    for load in report["loads"]:
        assert_sound(load, 3)
    assert report["target"]["model"] == "late_interaction"


def test_a_cross_encoder_is_counted_by_its_own_batches(tmp_path: Path) -> None:
    config, file = tmp_path / "config.yaml", tmp_path / "report.json"
    profile = "onnxruntime-cpu-fp32"
    model = str(write_cross_encoder(tmp_path / "model"))
    reranker = {"type": "cross_encoder", "model": model, "profile": profile}
    config.write_text(yaml.safe_dump({**SMALL_CONFIG, "reranker": reranker}), encoding="utf-8")
    shape = ["--tokens", "48,24-60", "--query-tokens", "9", "--passages", "6", "--concurrency", "2", "--requests", "4"]
    assert main(["bench", "rerank", *shape, "-c", str(config), "--json", str(file)]) == 0
    report = json.loads(file.read_text(encoding="utf-8"))
    even, mixed = report["loads"]
    assert_sound(even, 4)
    assert (even["tokens"], even["tokens_counted_by"], even["padding_share"]) == (4 * 6 * 48, "model", 0)
    assert even["tokens_per_text"] == {"tokenizer": 48, "model": 48}  # [CLS], two [SEP] and the query are part of it
    assert even["pairs_per_s"] == pytest.approx(24 / even["seconds"])
    assert mixed["tokens_per_text"]["model"] == mixed["tokens_per_text"]["tokenizer"]
    assert report["target"]["profile"] == profile


def test_queries_here_and_at_our_own_server(url: str, folder: Path, bench: Bench) -> None:
    asked = ["--questions", str(folder / "questions.txt"), "--requests", "4", "--concurrency", "1,2"]
    for server in ([], ["--url", url, "--api", "ragstack"]):
        for without in ([], ["--no-answer"]):
            status, report = bench("query", *asked, *server, *without)
            assert status == 0
            for load in report["loads"]:
                assert_sound(load, 4)
                assert ("answer" in load["stages_ms"]) is not bool(without)
                assert load["stages_ms"]["total"]["p50"] <= load["latency_ms"]["max"]
                assert load["tokens_per_s"] is None


@pytest.fixture
def replies() -> Iterator[RerankReplay]:
    """A server that answers as a test says, and can fail in ways that ours cannot."""
    with running() as server:
        yield server


def embeddings(body: Any, *, count: int | None = None) -> dict[str, Any]:
    texts = len(body["input"]) if count is None else count
    data = [{"index": index, "embedding": [0.5, 0.25]} for index in range(texts)]
    return {"data": data, "usage": {"prompt_tokens": 21 * texts, "total_tokens": 21 * texts}}


def test_faults_are_counted_by_kind_and_leave_the_percentiles_alone(
    replies: RerankReplay, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = [
        Answer(stall_s=5.0),
        Answer({"error": {"message": f"busy; your key is {KEY}"}}, 503),
        Answer(b"<html>Too many</html>", 429),
        Answer({"data": []}, cut=True),
        Answer(b"{not json"),
        Answer({"data": [{"index": 0, "embedding": [0.5]}]}),
        Answer(status=307, headers={"Location": "/elsewhere"}),
    ]

    def respond(seen: Seen) -> Answer:
        kind = (len(replies.seen) - 2) % 8  # the first warms up
        return faults[kind] if 0 <= kind < len(faults) else Answer(embeddings(seen.body))

    replies.answering(respond)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_KEY", KEY)
        options = "--tokens 20 --batch 4 --concurrency 1 --requests 16 --timeout 1 --api openai --model m"
        status, report = bench(f"embed {options} --url {replies.url} --api-key-env BENCH_KEY")
    assert status == 0
    load = report["loads"][0]
    counts = {kind: error["count"] for kind, error in load["errors"].items()}
    assert counts == {
        "timeout": 2, "status 503": 2, "status 429": 2, "broken connection": 2, "unusable answer": 4, "status 307": 2,
    }  # fmt: skip
    assert (load["requests"], load["good_requests"], load["failed_requests"]) == (16, 2, 14)
    assert load["latency_ms"]["max"] < 1000  # the timeouts are not in it
    assert load["tokens"] == 2 * 4 * 21
    assert load["tokens_per_text"] == {"tokenizer": 20, "server": 21}
    assert len(replies.seen) == 17
    assert {seen.headers["authorization"] for seen in replies.seen} == {f"Bearer {KEY}"}
    printed = capsys.readouterr()
    assert "busy; your key is **********" in printed.out
    assert KEY not in printed.out + printed.err + json.dumps(report)


def test_the_concurrency_is_reached_and_never_exceeded(replies: RerankReplay, bench: Bench) -> None:
    changed = threading.Condition()
    under_way = most = 0

    def respond(seen: Seen) -> Answer:
        nonlocal under_way, most
        with changed:
            under_way += 1
            most = max(most, under_way)
            changed.notify_all()
            if len(replies.seen) > 3:  # after the warm-up all wait until as many are there as there should be
                changed.wait_for(lambda: most >= 7, 20)
        time.sleep(0.005)  # time for one too many
        with changed:
            under_way -= 1
        return Answer(embeddings(seen.body))

    replies.answering(respond)
    options = "--tokens 8 --batch 2 --concurrency 7 --requests 50 --warm-up 3"
    status, report = bench(f"embed {options} --api openai --model m --url {replies.url}/v1")
    assert status == 0
    assert_sound(report["loads"][0], 50)
    assert most == 7
    assert len(replies.seen) == 53
    assert {seen.path for seen in replies.seen} == {"/v1/embeddings"}
    texts = [text for seen in replies.seen for text in seen.body["input"]]
    assert len(set(texts)) == len(texts) == 106  # no cache can answer


def test_coheres_format(replies: RerankReplay, bench: Bench) -> None:
    def respond(seen: Seen) -> Answer:
        if "documents" in seen.body:
            places = reversed(range(len(seen.body["documents"])))
            results = [{"index": index, "relevance_score": 0.5} for index in places]
            return Answer({"results": results, "meta": {"tokens": {"input_tokens": 33}}})
        vectors = [[0.5, 1.5]] * len(seen.body["texts"])
        return Answer({"embeddings": {"float": vectors}, "meta": {"billed_units": {"input_tokens": 77}}})

    replies.answering(respond)
    server = f"--api cohere --model m --url {replies.url}/v2"
    status, report = bench(f"embed --tokens 8 --batch 3 --concurrency 1 --requests 2 {server}")
    assert (status, report["loads"][0]["tokens"]) == (0, 154)
    assert {seen.body["input_type"] for seen in replies.seen} == {"search_document"}
    status, report = bench(f"rerank --tokens 50 --passages 4 --concurrency 1 --requests 2 {server}")
    assert (status, report["loads"][0]["tokens"]) == (0, 66)
    assert {seen.path for seen in replies.seen} == {"/v2/embed", "/v2/rerank"}


@pytest.mark.parametrize(
    "found", [[{"index": 0, "score": 0.1}, {"index": 1, "score": None}], [{"index": 0, "score": 0.1}], {}]
)
def test_rankings_that_cannot_be_used_are_failures(found: Any, replies: RerankReplay, bench: Bench) -> None:
    replies.in_turn(Answer(found))
    server = f"--api tei --url {replies.url}"
    status, report = bench(f"rerank --tokens 50 --passages 2 --concurrency 1 --requests 2 {server}")
    assert status == 1
    assert report["loads"][0]["errors"]["unusable answer"]["count"] == 2


def test_a_run_without_a_good_request_ends_with_status_1(
    replies: RerankReplay, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        nobody = f"http://127.0.0.1:{listening.getsockname()[1]}"
    for url, kind in ((replies.url, "status 500"), (nobody, "no connection")):
        status, report = bench(f"embed {SHAPE} --gpu-hour 1 --api openai --model m --url {url}")
        assert status == 1
        assert len(report["loads"]) == 1  # the second load is not tried
        load = report["loads"][0]
        assert (load["good_requests"], load["latency_ms"], load["cost"]) == (0, {}, None)
        assert load["errors"][kind]["count"] == 6
        printed = capsys.readouterr()
        assert kind in printed.out
        assert "1 more loads were not tried" in printed.err


def test_the_page_stands_alone_and_shows_the_figures(bench: Bench, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    costs = "--gpu-hour 1.04 --price-per-million .02"
    status, report = bench(f"embed {SHAPE} {costs} --html {page}")
    assert status == 0
    text = page.read_text(encoding="utf-8")
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(text)
    assert {"svg", "table", "style"} <= set(tags)
    assert not {"script", "link", "img"} & set(tags)
    assert not re.search(r'(src|href)="http', text)
    assert f"{report['loads'][0]['latency_ms']['p99']:,.1f}" in text
    cost = report["loads"][0]["cost"]
    expected = 1.04e6 / (report["loads"][0]["tokens_per_s"] * 3600 * 0.5)
    assert float(cost["per_million_tokens"]) == pytest.approx(expected, rel=1e-9)
    assert cost["break_even_tokens"] == "37440000000"
    assert report["prices"] == {"hour": "1.04", "month": "748.8", "utilisation": "0.5", "price_per_million": "0.02"}


def test_costs_of_a_rate_measured_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["bench", "cost", "--tokens-per-s", "60000", "--card-month", "748.80", "--price-per-million", "0.020"])
        == 0
    )
    printed = capsys.readouterr().out
    assert "0.0096" in printed
    assert "37.44 billion" in printed
    assert main(["bench", "cost", "--tokens-per-s", "60000", "--gpu-hour", "1.04", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["per_million_tokens"] == "0.00962962962963"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("embed --tokens x", "--tokens 'x'"),
        ("embed --tokens 9000", "reads at most 8192"),
        ("embed --batch 0", "--batch '0'"),
        ("embed --concurrency 5-1", "--concurrency '5-1'"),
        ("embed --seconds 1 --requests 5", "exclude one another"),
        ("embed --api openai", "--api is about a server"),
        ("embed --dimensions 8", "--dimensions is about a server"),
        ("rerank --timeout 5", "--timeout is about a server"),
        ("embed --url http://127.0.0.1:1 --api tei --encoding-format base64", "tei has no --encoding-format"),
        ("embed --url http://127.0.0.1:1", "--url needs --api"),
        ("embed --url http://127.0.0.1:1 --api nim", "needs the name of the model"),
        ("embed --url ftp://x --api tei", "--url: expected http"),
        ("embed --url http://a\u200db.com --api tei", "--url: Invalid IDNA hostname"),
        ("embed --url http://me:pw@127.0.0.1:1 --api tei", "no user, password"),
        ("embed --url http://127.0.0.1:1 --api tei --api-key-env BENCH_NO_SUCH", "BENCH_NO_SUCH"),
        ("embed --tokenizer no-such-model", "--tokenizer 'no-such-model'"),
        ("embed --tokens 5 --added-tokens 5", "adds 5"),
        ("embed --gpu-hour free", "--gpu-hour 'free'"),
        ("embed --utilisation .5", "price of the machine"),
        ("embed --html /no/such/folder/report.html", "cannot be written"),
        ("rerank --url http://127.0.0.1:1 --api openai", "--api openai has no reranking"),
        ("rerank --tokens 20", "adds 20"),
        ("query --questions no-such-file", "no such file"),
        ("query", "--questions"),
        ("query --questions {folder}/questions.txt -c {folder}/empty.yaml", "no index"),
        ("cost --tokens-per-s 5", "price of the machine"),
        ("cost --tokens-per-s fast --gpu-hour 1", "--tokens-per-s 'fast'"),
        ("embed --api nemo", "nemo"),
    ],
)
def test_a_mistake_is_one_message_and_status_2(
    command: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = [] if command.startswith("cost") or " -c " in command else ["-c", str(folder / "config.yaml")]
    assert main(["bench", *command.format(folder=folder).split(), *config]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert said in printed.err
    assert "pw@" not in printed.err


def test_a_server_needs_the_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "ragstack.bench.remote", raising=False)
    monkeypatch.delitem(sys.modules, "ragstack.inference.http_errors", raising=False)
    server = ["--url", "http://127.0.0.1:1", "--api", "tei"]
    assert main(["bench", "embed", *server, "-c", str(folder / "config.yaml")]) == 2
    assert "ragstack[client]" in capsys.readouterr().err


def test_ctrl_c_shows_what_was_measured_until_then(folder: Path, tmp_path: Path, replies: RerankReplay) -> None:
    is_second_load = threading.Event()

    def respond(seen: Seen) -> Answer:
        if len(replies.seen) <= 2:
            return Answer(embeddings(seen.body))
        is_second_load.set()
        return Answer(stall_s=60.0)

    replies.answering(respond)
    file = tmp_path / "report.json"
    shape = ["--tokens", "5", "--batch", "1", "--concurrency", "1,2", "--requests", "2", "--warm-up", "0"]
    options = [*shape, "--json", str(file), "-c", str(folder / "config.yaml")]
    server = ["--url", replies.url, "--api", "openai", "--model", "m"]
    # Where a shell runs the tests in the background, what they start would ignore Ctrl-C.
    command = "import signal as s; s.signal(s.SIGINT, s.default_int_handler); from ragstack.cli.main import run; run()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "bench", "embed", *options, *server],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert is_second_load.wait(60)
        process.send_signal(signal.SIGINT)
        printed, told = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted after 1 of 2 loads" in told
    assert "passage 5 tokens × 1" in printed
    assert [load["good_requests"] for load in json.loads(file.read_text(encoding="utf-8"))["loads"]] == [2]


def test_questions_of_an_evaluation_will_do(
    folder: Path, tmp_path: Path, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "questions.jsonl"
    rows = [{"question": question, "relevant": []} for question in QUESTIONS]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    status, report = bench(f"query --questions {file} --requests 3 --concurrency 1")
    assert status == 0
    assert_sound(report["loads"][0], 3)
    file.write_text('{"question": "one?"}\n{"query": "two?"}\n', encoding="utf-8")
    assert bench(f"query --questions {file}")[0] == 2
    assert f"{file}:2" in capsys.readouterr().err


def test_json_on_stdout_is_one_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["-c", str(folder / "config.yaml")]
    shape = ["--tokens", "5", "--batch", "1", "--concurrency", "1", "--requests", "2", "--request-rate", "500"]
    assert main(["bench", "embed", *shape, "--json", "-", *config]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert (report["format"], report["settings"]["rate"], printed.err) == ("ragstack.bench/1", 500, "")
    assert main(["bench", "embed", "--tokens", "x", "--json", "-", *config]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "InputError"
