"""OpenTelemetry spans, when the environment asks for them the way OpenTelemetry documents.

``OTEL_TRACES_EXPORTER`` (``otlp``, ``console``, or the name of any installed exporter) or an OTLP endpoint turns them
on; ``OTEL_SDK_DISABLED=true`` and ``OTEL_TRACES_EXPORTER=none`` turn them off; sampler, service name and resource are
read by the SDK itself (``OTEL_TRACES_SAMPLER``, ``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``). A provider that
the process has set already is used as it is. Nothing of OpenTelemetry is imported otherwise.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

from starlette.types import Scope

from ragstack.citations.chain import Chain
from ragstack.errors import InputError, MissingExtraError
from ragstack.version import __version__

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_NANOSECONDS = 1_000_000_000


class Tracing:
    """Writes spans with ``tracer``; does nothing without one."""

    def __init__(self, tracer: Any = None, provider: Any = None) -> None:
        """``provider`` is one that was made here and is flushed by :meth:`close`."""
        self._tracer = tracer
        self._provider = provider

    @contextmanager
    def request(self, scope: Scope) -> Iterator[Any]:
        """A block that is the span of one request, a child of the caller's where it sent a W3C ``traceparent``."""
        if self._tracer is None:
            yield None
            return
        from opentelemetry import context, propagate, trace  # noqa: PLC0415 - loaded already: there is a tracer

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        token = context.attach(propagate.extract(headers))
        try:
            with self._tracer.start_as_current_span(
                scope["method"], kind=trace.SpanKind.SERVER, attributes={"http.request.method": scope["method"]}
            ) as span:
                yield span
        finally:
            context.detach(token)

    def finish_request(self, span: Any, scope: Scope, route: str, status: int, request_id: str) -> None:
        """What is known of a request once it was answered. The path is left out: it may name documents."""
        if span is None:
            return
        span.update_name(f"{scope['method']} {route}")
        attributes = {"http.route": route, "http.response.status_code": status, "ragstack.request_id": request_id}
        span.set_attributes(attributes)
        if status >= 500:
            from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

            span.set_status(Status(StatusCode.ERROR))

    def chain(self, chain: Chain) -> None:
        """A span of one chain with its ids, and below it one of each stage."""
        cited = () if chain.answer is None else tuple(citation.citation_id for citation in chain.answer.citations)
        attributes: dict[str, Any] = {
            "ragstack.chain.digest": chain.digest,
            "ragstack.index.generation": chain.index.generation,
            "ragstack.index.committed_seq": chain.index.committed_seq,
            "ragstack.chunk_ids": tuple(chunk_id for passage in chain.passages for chunk_id in passage.chunk_ids),
            "ragstack.citation_ids": cited,
        }
        stages = {name: seconds for name, seconds in chain.timings_s.items() if name != "total"}
        self.stages("ragstack.query", stages, attributes, chain.timings_s.get("total"))

    def stages(
        self, name: str, seconds: Mapping[str, float], attributes: Mapping[str, Any], total_s: float | None = None
    ) -> None:
        """A span that ends now, and one below it for each stage; these ran one after another, ``seconds`` each."""
        if self._tracer is None:
            return
        from opentelemetry import trace  # noqa: PLC0415

        end = time.time_ns()
        at = end - int((sum(seconds.values()) if total_s is None else total_s) * _NANOSECONDS)
        parent = self._tracer.start_span(name, start_time=at, attributes=dict(attributes))
        below = trace.set_span_in_context(parent)
        for stage, spent in seconds.items():
            child = self._tracer.start_span(f"{name}.{stage}", context=below, start_time=at)
            at = min(end, at + int(spent * _NANOSECONDS))
            child.end(at)
        parent.end(end)

    def trace_id(self, span: Any) -> str:
        """The id of the trace in hex; empty without one."""
        context = None if span is None else span.get_span_context()
        return f"{context.trace_id:032x}" if context is not None and context.is_valid else ""

    def close(self) -> None:
        """Send what was not sent yet."""
        if self._provider is not None:
            self._provider.shutdown()


def open_tracing(environ: Mapping[str, str]) -> Tracing:
    """Tracing as the environment asks for it.

    Raises MissingExtraError when it asks for tracing and the SDK is not installed, and InputError for an exporter or
    protocol that is not.
    """
    names = _exporters(environ)
    if not names and "opentelemetry.trace" not in sys.modules:
        return Tracing()
    try:
        from opentelemetry import trace  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise MissingExtraError("tracing, which OTEL_TRACES_EXPORTER or an OTLP endpoint asks for,", "otel") from error
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return Tracing(trace.get_tracer("ragstack", __version__))
    if not names:
        return Tracing()
    try:
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("tracing, which OTEL_TRACES_EXPORTER or an OTLP endpoint asks for,", "otel") from error
    provider = TracerProvider()
    for name in names:
        provider.add_span_processor(BatchSpanProcessor(_exporter(name, environ)))
    return Tracing(provider.get_tracer("ragstack", __version__), provider)


def _exporters(environ: Mapping[str, str]) -> list[str]:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    named = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if not named and any(environ.get(name) for name in _ENDPOINTS):
        named = "otlp"
    return [name.strip() for name in named.split(",") if name.strip() not in ("", "none")]


def _exporter(name: str, environ: Mapping[str, str]) -> Any:
    entry = name
    if name == "otlp":
        protocol = next((environ[key] for key in _PROTOCOLS if environ.get(key)), "http/protobuf")
        if protocol not in _OTLP:
            raise InputError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol!r} is not supported.", hint=f"Known: {', '.join(_OTLP)}."
            )
        entry = _OTLP[protocol]
    found = list(entry_points(group="opentelemetry_traces_exporter", name=entry))
    if not found:
        raise InputError(
            f"OTEL_TRACES_EXPORTER: no exporter {entry!r} is installed.",
            hint="Install it: pip install 'ragstack[otel]' brings otlp over HTTP; console comes with the SDK.",
        )
    return found[0].load()()
