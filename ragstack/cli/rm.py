"""``ragstack rm``: erase sources from the index."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragstack.cli.fsck import counter
from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import print_json, printable
from ragstack.errors import InputError

if TYPE_CHECKING:
    from ragstack.indexer.erase import ErasedSource, EraseReport

_SHOWN = 20


@with_epilog("""
Examples:
  ragstack rm docs/old.md           by source id (root label / path below the root) or by path
  ragstack rm docs/drafts           everything below a folder
  ragstack rm --dry-run docs        say what would be erased
  cat list.txt | ragstack rm -      names on standard input (lines, or NUL-separated)

The file itself is not touched. What remains is copied into fresh files, so that no byte of the source is
left in the index: this takes time and free disk space in proportion to the index. Answers saved before,
backups and other copies are not reached. Killed or stopped, the same command finishes the work.
""")
def rm(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Source ids, paths, folders; - for stdin.")],
    config: ConfigOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be erased.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Erase sources from store, archive, token vectors and ledger, down to the last byte."""
    loaded = load(config)
    targets = [target for source in sources for target in _expanded(source)]
    if not targets:
        raise InputError("no source was named.", hint="Name sources: ragstack rm SOURCE... (see `ragstack status`)")
    from ragstack.cli.forward import ServerGoneError, forward_erase, held_by_server, server_of
    from ragstack.indexer.erase import erase

    progress = counter("copied", quiet=as_json)
    state_dir = Path(loaded.config.indexer.state_dir)
    server = server_of(state_dir)
    report = None
    if server is not None and dry_run:
        raise held_by_server(server, "ragstack rm --dry-run")
    if server is not None:
        with suppress(ServerGoneError):  # it ended meanwhile: the index is free
            report = forward_erase(server, targets)
    if report is None:
        report = erase(loaded, state_dir, targets, dry_run=dry_run, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)
    return 0


def _expanded(source: str) -> list[str]:
    if source != "-":
        return [source]
    data = sys.stdin.buffer.read()
    names = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(name) for name in names if name]


def _print(report: EraseReport) -> None:
    word = "Would erase" if report.dry_run else "Erased"
    chunks = sum(source.chunks for source in report.erased)
    print(f"{word}: {len(report.erased)} sources, {chunks:,} chunks. The index holds {report.chunk_count:,} chunks.")
    _print_some("", [_line(source) for source in report.erased])
    shared = [source for source in report.erased if source.same_text_in]
    _print_some(
        "The same text stays in the index under another name:",
        [f"{source.source_id} = {', '.join(source.same_text_in[:3])}" for source in shared],
    )
    returning = [source for source in report.erased if source.returns]
    if returning:
        print(
            f"{len(returning)} of the files exist: the next `ragstack index` indexes them again. To keep them out,"
            " delete them, or name them in sources.exclude of the config or in a .gitignore."
        )


def _line(source: ErasedSource) -> str:
    return f"{source.source_id} ({source.chunks:,} chunks)"


def _print_some(title: str, lines: list[str]) -> None:
    if lines and title:
        print(title)
    for line in lines[:_SHOWN]:
        print(f"  {printable(line)}")
    if len(lines) > _SHOWN:
        print(f"  … and {len(lines) - _SHOWN} more (see --json)")
