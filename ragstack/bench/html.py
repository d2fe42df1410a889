"""The report as one HTML page: plots, tables, what it was taken on."""

from __future__ import annotations

from html import escape

from ragstack.bench.report import BenchReport, LoadReport, notes_of
from ragstack.bench.tables import (
    Table,
    cost_table,
    error_table,
    latency_table,
    machine_line,
    method_line,
    short_name,
    stage_table,
    target_line,
    token_table,
)
from ragstack.evaluation import svg
from ragstack.evaluation.html_page import notes, page, table


def bench_html(report: BenchReport) -> str:
    """The page of one run."""
    good = [load for load in report.loads if load.good_requests]
    body = [
        f"<h1>{escape(report.kind)}: {escape(report.target['model'] or 'unnamed model')}</h1>",
        f'<p class="about">{escape(target_line(report))} {escape(report.created_at)}</p>',
        f'<p class="about">{escape(machine_line(report))}</p>',
        f'<p class="about">{escape(method_line(report))}</p>',
        notes(f"{note}." for note in notes_of(report)),
        _cards(report),
        *_section("Failed requests", error_table(report)),
        *_section("Latency and throughput", latency_table(report)),
        *_latency_plots(good),
        *_rate_plots(good),
        *_section("Latency by stage", stage_table(report)),
        *_section("Tokens", token_table(report)),
        *_section("Costs", cost_table(report)),
    ]
    return page(f"{report.kind}: {report.target['model']}", body)


def _cards(report: BenchReport) -> str:
    items = []
    fastest = report.fastest
    if fastest is not None and fastest.tokens_per_s is not None:
        items.append((f"{fastest.tokens_per_s:,.0f}", f"tokens/s, {short_name(fastest)}"))
    pairs = max((load.pairs_per_s or 0.0 for load in report.loads), default=0.0)
    items += [(f"{pairs:,.1f}", "pairs/s, most")] if pairs else []
    quickest = min((load.latency_ms["p50"] for load in report.loads if load.latency_ms), default=None)
    items += [(f"{quickest:,.1f} ms", "median latency, least")] if quickest is not None else []
    failed = sum(load.failed_requests for load in report.loads)
    items.append((f"{failed:,}", "failed requests"))
    return f'<ul class="cards">{"".join(f"<li><b>{escape(a)}</b>{escape(b)}</li>" for a, b in items)}</ul>'


def _section(title: str, found: Table) -> list[str]:
    return [f"<h2>{escape(title)}</h2>", table(found.columns, found.rows, found.caption)] if found.rows else []


def _latency_plots(loads: list[LoadReport]) -> list[str]:
    """One plot for each shape: shapes may differ by orders of magnitude."""
    parts = ["<p>Milliseconds of good requests. Bar: median; line: 95th percentile; dot: 99th.</p>"] if loads else []
    for name in dict.fromkeys(load.name for load in loads):
        rows = [
            (f"{load.concurrency} at a time", load.latency_ms["p50"], load.latency_ms["p95"], load.latency_ms["p99"])
            for load in loads
            if load.name == name
        ]
        parts += [f"<h3>{escape(name)}</h3>", svg.percentiles(f"Latency of {name}, ms", rows, "ms")]
    return parts


def _rate_plots(loads: list[LoadReport]) -> list[str]:
    for title, key in (("Pairs a second", "pairs_per_s"), ("Tokens a second", "tokens_per_s")):
        rates = [(short_name(load), getattr(load, key)) for load in loads if getattr(load, key)]
        if rates:
            decimals = 0 if max(rate for _, rate in rates) >= 100 else 1
            rows = [(name, rate, rate, rate) for name, rate in rates]
            plot = svg.bars(title, rows, max(rate for _, rate in rates), decimals=decimals)
            return [f"<h2>{title}</h2>", plot]
    return []
