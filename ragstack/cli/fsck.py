"""``ragstack fsck``: check the index, and mend it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import print_json, printable

if TYPE_CHECKING:
    from ragstack.indexer.findings import Difference
    from ragstack.indexer.repair import FsckReport, Repair

_SHOWN = 20
_IDS_SHOWN = 3


@with_epilog("""
Examples:
  ragstack fsck                     compare ledger, archive, token vectors and store
  ragstack fsck --repair            mend what differs, then read damaged sources again
  ragstack fsck --json | jq .differences

What a stopped run left to be done is reported as pending; it is no damage. A repair deletes what is extra,
drops sources whose chunks or documents are damaged and indexes their files again; it may be killed and run
again. A damaged ledger cannot be mended: the message says how to start afresh.
Exit status 0: sound, or mended; 1: differences are left; 2: no index, or its ledger is damaged.
""")
def fsck(
    config: ConfigOption = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what differs.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Check that ledger, archive, token vectors and store agree; with --repair, mend them."""
    loaded = load(config)
    from ragstack.indexer.repair import fsck as run_fsck

    leave_out = [loaded.path] if loaded.path is not None else []
    report = run_fsck(
        loaded,
        Path(loaded.config.indexer.state_dir),
        repair=repair,
        progress=counter("checked", quiet=as_json),
        leave_out=leave_out,
    )
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)
    return report.exit_status


def counter(done: str, *, quiet: bool) -> Callable[[int, int], None] | None:
    """A line on a terminal's stderr that counts chunks; None where nobody looks."""
    if quiet or not sys.stderr.isatty():
        return None
    last = [-1]

    def show(count: int, total: int) -> None:
        percent = 100 * count // max(total, 1)
        if percent != last[0]:
            last[0] = percent
            end = "\n" if count >= total else ""
            print(f"\r{done} {count:,} of {total:,} chunks ({percent} %)", end=end, file=sys.stderr, flush=True)

    return show


def _print(report: FsckReport) -> None:
    findings = report.findings
    print(
        f"Checked generation {report.generation}: {findings.sources:,} sources, {findings.chunks:,} chunks,"
        f" {findings.documents:,} documents."
    )
    for line in findings.pending:
        print(f"Pending: {printable(line)}.")
    _print_differences(findings.differences)
    if report.repair is not None:
        _print_repair(report.repair)
    if report.exit_status == 0:
        print("The index is sound.")
    elif report.repair is None:
        print("To mend it: ragstack fsck --repair", file=sys.stderr)


def _print_differences(differences: list[Difference]) -> None:
    from ragstack.indexer.findings import KINDS

    for kind, meaning in KINDS.items():
        found = [difference for difference in differences if difference.kind == kind]
        if not found:
            continue
        print(f"{kind}: {meaning}")
        for difference in found[:_SHOWN]:
            ids = ", ".join(difference.chunk_ids[:_IDS_SHOWN])
            more = ", …" if len(difference.chunk_ids) > _IDS_SHOWN else ""
            tail = f" [{ids}{more}]" if ids else ""
            print(f"  {printable(difference.where)}: {printable(difference.detail)}{tail}")
        if len(found) > _SHOWN:
            print(f"  … and {len(found) - _SHOWN} more (see --json)")


def _print_repair(repair: Repair) -> None:
    if repair.method == "rebuild":
        print("Repair: a file could not be read, so a new generation was built from the sources.")
    elif repair.dropped:
        print(f"Repair: {len(repair.dropped)} damaged sources were dropped and are read again:")
        for source_id in repair.dropped[:_SHOWN]:
            print(f"  {printable(source_id)}")
        if len(repair.dropped) > _SHOWN:
            print(f"  … and {len(repair.dropped) - _SHOWN} more (see --json)")
    else:
        print("Repair: done; no source has to be read again.")
    if repair.dropped:
        print(f"Read again: {len(repair.read_again)} of {len(repair.dropped)} sources.")
    for source_id in repair.gone:
        print(f"  gone: {printable(source_id)}: its file does not exist any more")
    for failure in repair.failed:
        print(f"  failed: {printable(failure.path)}: {printable(failure.reason)}", file=sys.stderr)
    if repair.error:
        print(f"The sources could not be read again: {printable(repair.error)}", file=sys.stderr)
        print("When that is mended, run: ragstack index", file=sys.stderr)
    if repair.left:
        print("Still different:")
        _print_differences(repair.left)
