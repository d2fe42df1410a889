"""The tables of a report, for the terminal and the page alike: columns, a name starting with ``>`` aligned right."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from ragstack.bench.costs import Cost, shown_price, shown_volume
from ragstack.bench.report import BenchReport, LoadReport
from ragstack.bench.statistics import PERCENTILES


class Table(NamedTuple):
    """What a table shows; no rows: nothing to be shown."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def latency_table(report: BenchReport) -> Table:
    """Latencies and rates of every load."""
    loads = report.loads
    with_tokens = any(load.tokens_per_s is not None for load in loads)
    with_pairs = any(load.pairs_per_s is not None for load in loads)
    columns = ["load", ">conc.", ">good", ">failed", *(f">p{percent} ms" for percent in PERCENTILES), ">req/s"]
    columns += [">pairs/s"] if with_pairs else []
    columns += [">tokens/s", ">padding"] if with_tokens else []
    rows = []
    for load in loads:
        row = [load.name, str(load.concurrency), f"{load.good_requests:,}", f"{load.failed_requests:,}"]
        row += [_ms(load.latency_ms.get(f"p{percent}")) for percent in PERCENTILES]
        row.append(_rate(load.requests_per_s if load.good_requests else None))
        row += [_rate(load.pairs_per_s if load.good_requests else None)] if with_pairs else []
        row += [_rate(load.tokens_per_s), _share(load.padding_share)] if with_tokens else []
        rows.append(row)
    return Table("Latency and throughput", columns, rows)


def stage_table(report: BenchReport) -> Table:
    """Where the time of queries goes."""
    rows = [
        [f"{load.name}, {load.concurrency} at a time", stage, *(_ms(found.get(f"p{p}")) for p in PERCENTILES)]
        for load in report.loads
        for stage, found in load.stages_ms.items()
    ]
    return Table("Latency by stage", ["load", "stage", *(f">p{percent} ms" for percent in PERCENTILES)], rows)


def error_table(report: BenchReport) -> Table:
    """What failed, by kind."""
    rows = [
        [load.name, str(load.concurrency), kind, f"{error.count:,}", error.example]
        for load in report.loads
        for kind, error in load.errors.items()
    ]
    return Table("Failed requests", ["load", ">conc.", "failed", ">count", "the first of them said"], rows)


def token_table(report: BenchReport) -> Table:
    """How many tokens a text had by each count, where counts differ; one row for each shape."""
    shapes = {load.name: load for load in report.loads if len(set(load.tokens_per_text.values())) > 1}
    names = list(dict.fromkeys(name for load in shapes.values() for name in load.tokens_per_text))
    rows = [
        [name, *(_rate(load.tokens_per_text.get(by)) for by in names), str(load.tokens_counted_by)]
        for name, load in shapes.items()
    ]
    return Table("Tokens of a text", ["load", *(f">by the {name}" for name in names), "tokens/s are by the"], rows)


def cost_table(report: BenchReport) -> Table:
    """What tokens cost at the rate of each load."""
    rows: list[Sequence[str]] = []
    for load in report.loads:
        if load.cost is None or load.tokens_per_s is None:
            continue
        cost = load.cost
        row = [
            load.name,
            str(load.concurrency),
            _rate(load.tokens_per_s),
            shown_price(Decimal(cost.per_million_tokens)),
        ]
        row.append(shown_volume(Decimal(cost.month_tokens)))
        if cost.break_even_tokens is not None:
            even = shown_volume(Decimal(cost.break_even_tokens))
            row.append(even if cost.reaches_break_even else f"{even}: more than a month brings")
        rows.append(row)
    columns = ["load", ">conc.", ">tokens/s", ">cost of a million tokens", ">tokens a month"]
    prices = report.prices
    if prices is not None and prices.price_per_million is not None:
        columns.append(f">breaks even with {prices.price_per_million} at, a month")
    caption = "" if prices is None else f"Costs at {prices.hour} an hour, {_percent(prices.utilisation)} used"
    return Table(caption, columns, rows)


def cost_lines(cost: Cost, utilisation: Decimal) -> list[tuple[str, str]]:
    """What one rate costs, as pairs of words and figure."""
    lines = [
        ("tokens/s", f"{cost.tokens_per_s:,f}"),
        ("utilisation", _percent(str(utilisation))),
        ("cost of a million tokens", shown_price(cost.per_million)),
        ("tokens a month", shown_volume(cost.month_tokens)),
    ]
    if cost.break_even_tokens is not None:
        lines.append(("breaks even at, a month", shown_volume(cost.break_even_tokens)))
        lines.append(("brought by the measured rate", "yes" if cost.reaches else "no: a month brings less"))
    return lines


def target_line(report: BenchReport) -> str:
    """What was measured, in a sentence."""
    target = report.target
    where = f"{target['api']} at {target['url']}" if target["kind"] == "remote" else "in this process"
    extras = [f"{key} {target[key]}" for key in ("profile", "device", "max_batch_tokens", "server") if key in target]
    return ", ".join([f"{report.kind}: {target['model'] or 'unnamed model'} {where}", *extras]) + "."


def machine_line(report: BenchReport) -> str:
    """GPUs, CPU and versions, in a sentence; of a server only its client's are known."""
    machine = report.machine
    asked_from = "asked from: " if report.target["kind"] == "remote" else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{asked_from}{'; '.join(machine['description'])}; Python {machine['python']}, {versions}."


def method_line(report: BenchReport) -> str:
    """How it was measured, in a sentence."""
    settings = report.settings
    effort = f"{settings['requests']:,} requests" if settings["requests"] else f"{settings['seconds']:g} s"
    loop = f"arrivals at {settings['rate']:g}/s" if settings["rate"] else "closed loop"
    return f"{effort} a load, {loop}, seed {settings['seed']}; percentiles by {report.percentiles}."


def short_name(load: LoadReport) -> str:
    """The load in a plot."""
    return f"{load.name.replace(' tokens', '')}, c {load.concurrency}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _rate(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _percent(share: str) -> str:
    return f"{(Decimal(share) * 100).normalize():f}%"
