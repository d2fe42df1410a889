"""The report of a run: the JSON that ``ragstack bench --json`` writes, and what tables and pages show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from ragstack.bench.costs import Prices, cost_of, exact
from ragstack.bench.driver import Measured, Pace, limits
from ragstack.bench.plan import BenchKind, EmbedLoad, Load, RerankLoad
from ragstack.bench.statistics import METHOD, rate, summary_ms
from ragstack.bench.target import TargetFacts
from ragstack.version import __version__

REPORT_FORMAT: Literal["ragstack.bench/1"] = "ragstack.bench/1"
CountedBy: TypeAlias = Literal["server", "model", "tokenizer"]

_FEW = 100


class ReportModel(BaseModel):
    """Base of the report's parts: frozen, unknown keys rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ErrorReport(ReportModel):
    """Requests that failed in one way, and what the first of them said."""

    count: int
    example: str


class CostReport(ReportModel):
    """What tokens cost at the load's rate; decimal strings. ``break_even_tokens``: a month, against another price.

    ``month_tokens`` is what the machine makes a month; less than the break-even means that it is never reached.
    """

    per_million_tokens: str
    month_tokens: str
    break_even_tokens: str | None
    reaches_break_even: bool | None


class LoadReport(ReportModel):
    """One load. Latencies, rates and tokens are those of good requests alone; latencies are milliseconds.

    ``tokens`` were counted by what ``tokens_counted_by`` names; ``tokens_per_text`` are by the tokenizer that made the
    texts, and by the server or the model where one told. ``padding_share`` of the tokens that the model ran, in
    [0, 1]; None where it cannot be told. ``client_limit`` says why the load generator may have been the limit.
    """

    name: str
    shape: dict[str, Any]
    concurrency: int
    most_in_flight: int
    seconds: float
    requests: int
    good_requests: int
    failed_requests: int
    gave_up: bool
    errors: dict[str, ErrorReport]
    latency_ms: dict[str, float]
    stages_ms: dict[str, dict[str, float]]
    requests_per_s: float
    texts_per_s: float | None
    pairs_per_s: float | None
    tokens: int | None
    tokens_per_s: float | None
    tokens_counted_by: CountedBy | None
    tokens_per_text: dict[str, float]
    padding_share: float | None
    client_cpu_share: float | None
    client_lag_ms: float | None
    client_limit: str
    cost: CostReport | None


class CostBasis(ReportModel):
    """The prices given, as decimal strings, in whatever currency."""

    hour: str
    month: str
    utilisation: str
    price_per_million: str | None


class BenchReport(ReportModel):
    """One run of ``ragstack bench``."""

    format: Literal["ragstack.bench/1"]
    kind: BenchKind
    created_at: str
    ragstack_version: str
    config_origin: str
    target: dict[str, Any]
    machine: dict[str, Any]
    settings: dict[str, Any]
    percentiles: str
    prices: CostBasis | None
    loads: list[LoadReport]
    loads_planned: int

    @property
    def has_good_requests(self) -> bool:
        """True when anything was answered as it should be."""
        return any(load.good_requests for load in self.loads)

    @property
    def fastest(self) -> LoadReport | None:
        """The load with the most tokens a second."""
        counted = [load for load in self.loads if load.tokens_per_s]
        return max(counted, key=lambda load: load.tokens_per_s or 0.0, default=None)

    def to_json(self) -> dict[str, Any]:
        """JSON types only."""
        return self.model_dump(mode="json")


def build_report(
    kind: BenchKind,
    origin: str,
    facts: TargetFacts,
    machine: dict[str, Any],
    pace: Pace,
    measured: Sequence[Measured],
    planned: int,
    prices: Prices | None,
) -> BenchReport:
    """Sum up a run. ``planned``: how many loads were asked for."""
    return BenchReport(
        format=REPORT_FORMAT,
        kind=kind,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ragstack_version=__version__,
        config_origin=origin,
        target={"kind": facts.kind, "model": facts.model, "tokenizer": facts.tokenizer, **facts.facts},
        machine=machine,
        settings={
            "requests": pace.effort.requests,
            "seconds": pace.effort.seconds,
            "warm_up": pace.warm_up,
            "rate": pace.rate,
            "seed": pace.seed,
        },
        percentiles=METHOD,
        prices=None
        if prices is None
        else CostBasis(
            hour=exact(prices.hour),
            month=exact(prices.month),
            utilisation=exact(prices.utilisation),
            price_per_million=None if prices.per_million is None else exact(prices.per_million),
        ),
        loads=[load_report(one, prices) for one in measured],
        loads_planned=planned,
    )


def load_report(measured: Measured, prices: Prices | None) -> LoadReport:
    """Sum up one load."""
    load, tally = measured.load, measured.tally
    latency = summary_ms(tally.latencies_s)
    tokens, counted_by, per_text = _tokens(measured)
    per_s = None if tokens is None else rate(tokens, tally.seconds)
    run = measured.batch_tokens.run if measured.batch_tokens is not None else 0
    return LoadReport(
        name=load.shape,
        shape={key: str(value) if key == "tokens" else value for key, value in _shape(load).items()},
        concurrency=load.concurrency,
        most_in_flight=tally.most_in_flight,
        seconds=tally.seconds,
        requests=tally.good + tally.failed,
        good_requests=tally.good,
        failed_requests=tally.failed,
        gave_up=tally.gave_up,
        errors={kind: ErrorReport(count=e.count, example=e.example) for kind, e in sorted(tally.errors.items())},
        latency_ms=latency,
        stages_ms={stage: summary_ms(seconds) for stage, seconds in tally.stages_s.items()},
        requests_per_s=rate(tally.good, tally.seconds),
        texts_per_s=rate(tally.texts, tally.seconds) if isinstance(load, EmbedLoad) else None,
        pairs_per_s=rate(tally.pairs, tally.seconds) if isinstance(load, RerankLoad) else None,
        tokens=tokens,
        tokens_per_s=per_s,
        tokens_counted_by=counted_by,
        tokens_per_text=per_text,
        padding_share=1 - measured.batch_tokens.used / run if measured.batch_tokens is not None and run else None,
        client_cpu_share=None if measured.client is None else measured.client.cpu_share,
        client_lag_ms=None if measured.client is None else measured.client.lag_s * 1e3,
        client_limit=limits(measured.client, latency["p50"] / 1e3) if latency else "",
        cost=_cost(prices, per_s),
    )


def notes_of(report: BenchReport) -> list[str]:
    """What a reader must know to take the figures for what they are."""
    notes = []
    for load in report.loads:
        where = f"{load.name}, concurrency {load.concurrency}"
        if load.client_limit:
            notes.append(f"{where}: the load generator may be the limit, not the server: {load.client_limit}")
        wanted = report.settings["rate"]
        if wanted is not None and load.requests < 0.8 * wanted * load.seconds:
            notes.append(
                f"{where}: {rate(load.requests, load.seconds):.1f} requests/s were served of the {wanted:g} that were"
                " due; latencies count the wait for a place"
            )
        if load.gave_up:
            notes.append(f"{where}: given up, as nothing was answered")
    few = [load for load in report.loads if 0 < load.good_requests < _FEW]
    if few:
        notes.append(
            f"p99 of fewer than {_FEW} requests says little more than the longest of them: {len(few)} of"
            f" {len(report.loads)} loads; measure longer with --seconds or --requests"
        )
    left = report.loads_planned - len(report.loads)
    if left and not report.has_good_requests:
        notes.append(f"{left} more loads were not tried, as not one request of the first was answered")
    return notes


def _shape(load: Load) -> dict[str, Any]:
    if isinstance(load, (EmbedLoad, RerankLoad)):
        shape = {key: value for key, value in asdict(load).items() if key not in ("concurrency", "tokens")}
        return {"tokens": load.tokens, **shape}
    return {}


def _tokens(measured: Measured) -> tuple[int | None, CountedBy | None, dict[str, float]]:
    """All tokens of good requests, who counted them, and how many a text had by each count.

    The server's own count is the one to go by, then that of the batches which the model ran here.
    """
    tally = measured.tally
    if not tally.tokens:
        return None, None, {}
    per_text = {"tokenizer": tally.tokens / tally.texts}
    if tally.told == tally.good:
        per_text["server"] = tally.server_tokens / tally.texts
        return tally.server_tokens, "server", per_text
    if measured.batch_tokens is not None and measured.batch_tokens.used and not tally.failed:
        per_text["model"] = measured.batch_tokens.used / tally.texts
        return measured.batch_tokens.used, "model", per_text
    return tally.tokens, "tokenizer", per_text


def _cost(prices: Prices | None, tokens_per_s: float | None) -> CostReport | None:
    if prices is None or not tokens_per_s:
        return None
    cost = cost_of(prices, tokens_per_s)
    return CostReport(
        per_million_tokens=exact(cost.per_million),
        month_tokens=exact(cost.month_tokens),
        break_even_tokens=None if cost.break_even_tokens is None else exact(cost.break_even_tokens),
        reaches_break_even=cost.reaches,
    )
