"""``ragstack gc``: delete what the index does not need any more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ragstack.cli.fsck import counter
from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import print_json, print_table, printable


@with_epilog("""
Examples:
  ragstack gc                       purge, tidy, optimise
  ragstack gc --compact             copy the index into fresh files as well: frees what deleted chunks take

Answers do not change. Indexing purges by itself; this is for after a stopped run, or to get space back.
""")
def gc(
    config: ConfigOption = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="Copy the index into fresh files; needs as much free space again.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Delete what no source needs any more, and give its space back."""
    loaded = load(config)
    from ragstack.indexer.collect import collect_garbage

    progress = counter("copied", quiet=as_json)
    report = collect_garbage(loaded, Path(loaded.config.indexer.state_dir), compact=compact, progress=progress)
    if as_json:
        print_json(report.to_json())
        return 0
    if report.recovered:
        print("Took back what a stopped run had left.")
    print(f"Purged: {report.purged_versions} replaced versions, {report.documents} documents.")
    if report.leftovers:
        print(f"Leftovers deleted: {printable(', '.join(report.leftovers))}")
    rows = [(part, _mb(before), _mb(report.after[part])) for part, before in report.before.items()]
    totals = ("total", _mb(sum(report.before.values())), _mb(sum(report.after.values())))
    print_table(("on disk", ">before", ">after"), [*rows, totals])
    return 0


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
