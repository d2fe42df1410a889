"""The tables that ``eval`` prints."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ragstack.cli.output import counted, print_table, printable

if TYPE_CHECKING:
    from ragstack.evaluation.comparison import ComparisonReport
    from ragstack.evaluation.report import EvaluationReport, Figure

_CHANGED_SHOWN = 5
_TEXT_SHOWN = 60


def print_warnings(warnings: Iterable[str]) -> None:
    """What could not be used, on stderr, each once."""
    for warning in dict.fromkeys(warnings):
        print(f"note: {printable(warning)}.", file=sys.stderr)


def print_evaluation(report: EvaluationReport) -> None:
    """Measures by stage, citations, refusals, latency."""
    print(data_line(report))
    if report.index is not None:
        print(index_line(report))
    print()
    measures = list(dict.fromkeys(name for figures in report.stages.values() for name in figures))
    print_table(
        ["stage", *(f">{name}" for name in measures)],
        [[stage, *(_mean(figures.get(name)) for name in measures)] for stage, figures in report.stages.items()],
    )
    headline = report.stages.get("reranked", {}).get("nDCG@10")
    if headline is not None:
        print(f"nDCG@10 after reranking: {headline.mean:.3f}, 95% interval {headline.low:.3f} to {headline.high:.3f}.")
    _print_citations(report)
    if report.latency_ms:
        print()
        percentiles = list(next(iter(report.latency_ms.values())))
        rows = [[stage, *(f"{row[p]:.1f}" for p in percentiles)] for stage, row in report.latency_ms.items()]
        print_table(["latency, ms", *(f">{p}" for p in percentiles)], rows)
    for message, count in report.errors.items():
        print(f"{counted(count, 'question')} failed: {printable(message)}", file=sys.stderr)


def data_line(report: EvaluationReport) -> str:
    """What was asked, in a sentence."""
    data = report.dataset
    split = f", split {data.split}" if data.split else ""
    documents = "" if data.documents is None else f" over {counted(data.documents, 'document')}"
    unanswerable = f", {data.unanswerable:,} of them without an answer" if data.unanswerable else ""
    return printable(
        f"{data.name} ({data.format}{split}): {counted(data.questions, 'question')}{documents}{unanswerable}."
    )


def index_line(report: EvaluationReport) -> str:
    """How the index was made, in a sentence."""
    index = report.index
    if index is None:
        return "The index that the config has."
    earlier = ", by an earlier run" if index.reused else ""
    return (
        f"Index: {counted(index.chunk_count, 'chunk')}, {index.tokens_embedded:,} tokens in {index.seconds:.1f} s"
        f" at {index.tokens_per_second:,.0f} tokens/s{earlier}."
    )


def print_comparison(report: ComparisonReport) -> None:
    """The config's changes, each measure with its test, and the questions that changed most."""
    print(data_line(report.a))
    print(f"A: {printable(report.a.config_origin)}, B: {printable(report.b.config_origin)}")
    for change in report.config_changes:
        print(f"  {printable(f'{change.key}: {change.a} → {change.b}')}")
    if not report.config_changes:
        print("  The configs are the same.")
    print()
    rows = [
        [
            row.stage, row.measure, f"{row.a:.4f}", f"{row.b:.4f}", f"{row.difference:+.4f}",
            f"{row.low:+.4f} to {row.high:+.4f}", f"{row.p_value:.4f}", f"{row.p_holm:.4f}",
            f"{row.wins}/{row.losses}/{row.ties}", "yes" if row.is_significant else "no",
        ]
        for row in report.measures
    ]  # fmt: skip
    columns = (
        "stage", "measure", ">A", ">B", ">B − A", ">95% interval", ">p", ">p (Holm)", ">B better/worse/equal",
        "significant",
    )  # fmt: skip
    print_table(columns, rows)
    totals = [r.latency_ms.get("total", {}).get("p50") for r in (report.a, report.b)]
    if None not in totals:
        print(f"Latency p50: A {totals[0]:.1f} ms, B {totals[1]:.1f} ms, measured one after the other.")
    if report.changed:
        print(f"\n{counted(len(report.changed), 'question')} changed; the most:")
        print_table(
            ["question", ">nDCG A", ">nDCG B", ">rank A", ">rank B"],
            [
                [_cut(q.text), f"{q.a:.3f}", f"{q.b:.3f}", _rank(q.rank_a), _rank(q.rank_b)]
                for q in report.changed[:_CHANGED_SHOWN]
            ],
        )


def _print_citations(report: EvaluationReport) -> None:
    rows: list[Sequence[str]] = [
        [name, _mean(figure), f"{figure.low:.3f} to {figure.high:.3f}"] for name, figure in report.citations.items()
    ]
    if report.quotes.exact is not None:
        rows.append(["quote_exactness", f"{report.quotes.exact:.4f}", f"of {report.quotes.checked:,} places"])
    for kind in ("answerable", "unanswerable"):
        share = getattr(report.refusals, kind)
        if share is not None:
            rows.append([f"refused_{kind}", f"{share:.3f}", ""])
    if rows:
        print()
        print_table(["citations", ">mean", "95% interval"], rows)


def _mean(figure: Figure | None) -> str:
    return "–" if figure is None else f"{figure.mean:.3f}"


def _rank(rank: int | None) -> str:
    return "–" if rank is None else str(rank)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_SHOWN else f"{line[: _TEXT_SHOWN - 1]}…"
