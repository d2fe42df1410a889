"""What ``bench`` prints: progress on stderr, tables on stdout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ragstack.bench.report import notes_of
from ragstack.bench.statistics import rate
from ragstack.bench.tables import (
    Table,
    cost_table,
    error_table,
    latency_table,
    machine_line,
    method_line,
    stage_table,
    target_line,
    token_table,
)
from ragstack.cli.output import print_table, printable

if TYPE_CHECKING:
    from ragstack.bench.driver import Measured
    from ragstack.bench.report import BenchReport


def print_report(report: BenchReport) -> None:
    """What was measured on what, the figures, and what to know of them."""
    print(printable(target_line(report)))
    print(printable(machine_line(report)))
    print(printable(method_line(report)))
    print()
    found = latency_table(report)
    print_table(found.columns, found.rows)
    for table in (stage_table(report), error_table(report), token_table(report), cost_table(report)):
        _print(table)
    for note in notes_of(report):
        print(f"note: {printable(note)}.", file=sys.stderr)


def print_progress(measured: Measured, left: int) -> None:
    """One line for a load that was measured."""
    load, tally = measured.load, measured.tally
    failed = f", {tally.failed:,} failed" if tally.failed else ""
    more = f"; {left} to go" if left else ""
    line = (
        f"{load.shape}, {load.concurrency} at a time: {rate(tally.good, tally.seconds):,.2f} requests/s{failed}{more}"
    )
    print(line, file=sys.stderr, flush=True)


def _print(table: Table) -> None:
    if table.rows:
        print(f"\n{printable(table.caption)}:")
        print_table(table.columns, table.rows)
