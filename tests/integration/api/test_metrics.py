"""Metrics, spans and log lines of a server, and the rules and the board that rest on them."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import ragstack
from ragstack.api.app import create_app
from ragstack.api.gpu_metrics import GPU_METRICS, GpuCollector
from ragstack.api.tracing import open_tracing
from ragstack.citations.chain import Chain
from ragstack.cli.log_format import log_formatter
from ragstack.errors import InputError

ROOT = Path(__file__).parents[3]
OBSERVABILITY = ROOT / "deploy" / "observability"
_METRIC = re.compile(r"\b(?:ragstack|process|python)_[a-z_]+")


def samples(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = client.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(client: TestClient, name: str, **labels: str) -> float:
    return samples(client).get((name, frozenset(labels.items())), 0.0)


def names_in(expressions: list[str]) -> set[str]:
    return {name for expression in expressions for name in _METRIC.findall(expression)}


def board_expressions() -> list[str]:
    board = json.loads((OBSERVABILITY / "dashboards" / "ragstack.json").read_text())
    variables = [variable["query"]["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    return variables + [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]


def rule_expressions() -> list[str]:
    rules = yaml.safe_load((OBSERVABILITY / "alerts.yaml").read_text())
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def test_every_metric_of_the_rules_and_the_board_exists(client: TestClient, pipeline: ragstack.Pipeline) -> None:
    client.post("/embed", json={"inputs": ["a pump", "a valve"]})
    client.get("/nowhere")
    client.post("/v1/query", json={"query": "How often is the pump checked?"})
    known = {name for name, _ in samples(client)} | set(GPU_METRICS)
    used = names_in(rule_expressions()) | names_in(board_expressions())
    assert len(used) > 15
    assert used <= known, used - known
    documented = set(_METRIC.findall((ROOT / "docs" / "observability.md").read_text()))
    ours = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in known if name.startswith("ragstack_")}
    ours = {name for name in ours if f"{name}_total" not in known}
    assert ours <= documented, ours - documented


def test_the_four_alerts_that_were_asked_for() -> None:
    rules = " ".join(rule_expressions())
    for condition in (
        r"histogram_quantile\(0.99.*> 0\.1",
        r"ragstack_queue_requests > 20",
        r"ragstack_gpu_utilization_ratio\) < 0\.2.*ragstack_queue_requests > 5",
        r"ragstack_gpu_memory_used_bytes / ragstack_gpu_memory_total_bytes > 0\.9",
    ):
        assert re.search(condition, rules), condition


def test_labels_are_templates_of_routes_never_paths(client: TestClient) -> None:
    before = len(samples(client))
    for number in range(20):
        client.get(f"/nowhere/{number}")
        client.get(f"/metrics?{number}")
        client.request(f"VERB{number}", "/embed")
    client.get("/v1/health/live")
    found = samples(client)
    routes = {dict(labels).get("route") for name, labels in found if name.endswith("duration_seconds_count")}
    assert {"unmatched", "/metrics", "/v1/health/live"} <= routes
    assert {dict(labels).get("method") for _, labels in found} <= {None, "GET", "POST", "other"}
    assert len(found) < before + 150


def test_requests_batches_and_errors_are_counted(client: TestClient) -> None:
    client.post("/v1/embeddings", json={"input": ["a pump", "a valve and a seal"]})
    client.post("/v1/embeddings", json={"input": []})
    route = {"route": "/v1/embeddings"}
    for status in ("200", "400"):
        assert value(client, "ragstack_request_duration_seconds_count", **route, method="POST", status=status) == 1
    for stage in ("tokenize", "queue", "embed"):
        assert value(client, "ragstack_stage_duration_seconds_count", **route, stage=stage) == 1
    assert value(client, "ragstack_embedded_tokens_total") == 7
    assert (value(client, "ragstack_batch_texts_sum"), value(client, "ragstack_batch_tokens_sum")) == (2, 7)
    assert value(client, "ragstack_errors_total", type="empty") == 1
    assert value(client, "ragstack_queue_requests") == 0


def test_a_chain_is_counted_and_two_servers_count_apart(client: TestClient, pipeline: ragstack.Pipeline) -> None:
    chain = client.post("/v1/query", json={"query": "How often is the pump checked?"}).json()
    cited = len(chain["answer"]["citations"])
    assert value(client, "ragstack_citations_total", outcome="verified") == cited > 0
    assert value(client, "ragstack_answers_total", outcome="answered") == 1
    for stage in ("embed", "retrieve", "rerank", "cite", "answer"):
        assert value(client, "ragstack_stage_duration_seconds_count", route="/v1/query", stage=stage) == 1
    whole = Chain.model_validate_json(json.dumps(chain))
    assert whole.answer is not None
    dropped = whole.answer.model_copy(update={"dropped_markers": 2, "dropped_quotes": 3, "prompt_tokens": 40})
    state = client.app.state.ragstack  # type: ignore[attr-defined]
    state.metrics.observe_chain(whole.model_copy(update={"answer": dropped}), ["source_changed"])
    assert value(client, "ragstack_citations_total", outcome="verified") == cited
    assert value(client, "ragstack_citations_total", outcome="source_changed") == 1
    assert value(client, "ragstack_citations_total", outcome="dropped_marker") == 2
    assert value(client, "ragstack_citations_total", outcome="dropped_quote") == 3
    assert value(client, "ragstack_llm_tokens_total", kind="prompt") == 40
    other = create_app(pipeline)
    assert other is not client.app


class FakeNvml:
    """The calls of pynvml that are used, for a machine without a GPU; the second GPU tells no utilisation."""

    class NVMLError(Exception):
        pass

    @staticmethod
    def nvmlDeviceGetCount() -> int:  # noqa: N802 - pynvml's name
        return 2

    @staticmethod
    def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802
        return index

    @classmethod
    def nvmlDeviceGetUtilizationRates(cls, handle: int) -> SimpleNamespace:  # noqa: N802
        if handle:
            raise cls.NVMLError
        return SimpleNamespace(gpu=35, memory=1)

    @staticmethod
    def nvmlDeviceGetMemoryInfo(handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=10 + handle, total=100)


def test_gpus_are_told_where_there_are_any() -> None:
    registry = CollectorRegistry()
    registry.register(GpuCollector(FakeNvml()))
    assert registry.get_sample_value("ragstack_gpu_utilization_ratio", {"gpu": "0"}) == 0.35
    assert registry.get_sample_value("ragstack_gpu_utilization_ratio", {"gpu": "1"}) is None
    assert registry.get_sample_value("ragstack_gpu_memory_used_bytes", {"gpu": "1"}) == 11
    assert registry.get_sample_value("ragstack_gpu_memory_total_bytes", {"gpu": "1"}) == 100


def test_a_lost_gpu_driver_costs_the_gpus_metrics_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Lost(FakeNvml):
        @classmethod
        def nvmlDeviceGetHandleByIndex(cls, index: int) -> int:  # noqa: N802
            raise cls.NVMLError("GPU is lost")

    registry = CollectorRegistry()
    registry.register(GpuCollector(Lost()))
    assert registry.get_sample_value("ragstack_gpu_memory_used_bytes", {"gpu": "0"}) is None
    assert "GPU is lost" in caplog.text


class Sink(HTTPServer):
    """A collector of OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SinkHandler)
        self.spans: list[Span] = []


class SinkHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
        server: Any = self.server
        server.spans += [s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_spans_reach_a_collector_that_the_environment_names(
    sink: Sink, pipeline: ragstack.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{sink.server_port}")
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    app = create_app(pipeline)
    with TestClient(app) as client:
        headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
        client.post("/v1/embeddings", json={"input": "a private text"}, headers=headers)
        answered = client.post("/v1/query", json={"query": "How often is the pump checked?"}, headers=headers)
    chain = Chain.model_validate_json(answered.text)
    by_name = {span.name: span for span in sink.spans}
    request = by_name["POST /v1/embeddings"]
    assert request.trace_id.hex() == trace_id
    assert request.parent_span_id.hex() == "00f067aa0ba902b7"
    embed = by_name["ragstack.embed"]
    assert embed.parent_span_id == request.span_id
    assert {s.name for s in sink.spans if s.parent_span_id == embed.span_id} == {
        f"ragstack.embed.{stage}" for stage in ("tokenize", "queue", "embed")
    }
    query = by_name["ragstack.query"]
    attributes = {a.key: a.value for a in query.attributes}
    assert attributes["ragstack.chain.digest"].string_value == chain.digest
    assert attributes["ragstack.index.generation"].int_value == chain.index.generation
    assert chain.answer is not None
    cited = [v.string_value for v in attributes["ragstack.citation_ids"].array_value.values]
    assert cited == [citation.citation_id for citation in chain.answer.citations]
    stages = [span for span in sink.spans if span.parent_span_id == query.span_id]
    assert [span.name for span in sorted(stages, key=lambda span: span.start_time_unix_nano)] == [
        f"ragstack.query.{stage}" for stage in ("embed", "retrieve", "rerank", "cite", "answer")
    ]
    for span in stages:
        assert query.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= query.end_time_unix_nano
    everything = b"".join(span.SerializeToString() for span in sink.spans)
    assert b"private" not in everything
    assert b"pump" not in everything


@pytest.mark.parametrize(
    "environ", [{}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}]
)
def test_no_tracing_unless_asked_for(environ: dict[str, str]) -> None:
    tracing = open_tracing(environ)
    with tracing.request({"type": "http", "method": "GET", "headers": []}) as span:
        assert tracing.trace_id(span) == ""
    tracing.close()


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OTEL_TRACES_EXPORTER": "carrier-pigeon"}, "carrier-pigeon"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}, "smoke"),
    ],
)
def test_an_exporter_that_is_not_there_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(InputError, match=named):
        open_tracing(environ)


def test_no_exporter_is_imported_unless_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys, ragstack\n"
        "from ragstack.api.app import create_app\n"
        f"create_app(ragstack.open({{'embedder': {{'type': 'hashing'}}}}, state_dir={str(tmp_path)!r}))\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_one_line_a_request_without_what_was_asked(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ragstack.requests"):
        client.post("/v1/embeddings", json={"input": "a private text"})
        client.get("/v1/citations/private-id")
    records = [record for record in caplog.records if record.name == "ragstack.requests"]
    assert len(records) == 2
    lines = [json.loads(log_formatter("json").format(record)) for record in records]
    assert set(lines[0]) == {
        "timestamp", "level", "logger", "message",
        "request_id", "method", "route", "status", "duration_ms", "caller", "trace_id",
    }  # fmt: skip
    assert (lines[0]["route"], lines[0]["status"], lines[0]["level"]) == ("/v1/embeddings", 200, "info")
    assert lines[0]["duration_ms"] > 0
    text = log_formatter("text").format(records[0])
    assert re.fullmatch(r"INFO ragstack\.requests: POST /v1/embeddings 200 [0-9.]+ ms.*", text)
    assert "private" not in json.dumps(lines) + text
