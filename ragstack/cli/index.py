"""``ragstack index``: bring the index in line with files and folders."""

from __future__ import annotations

import glob
import json
import os
import stat
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import counted, error_json, print_error, print_json, printable, uses_color
from ragstack.cli.progress import NotesOnly, ProgressDisplay, QuietProgress, progress_display
from ragstack.errors import InputError, RagstackError
from ragstack.indexer.report import IndexReport

if TYPE_CHECKING:
    from ragstack.config.loader import LoadedConfig
    from ragstack.indexer.interruption import Interruption
    from ragstack.indexer.run import IndexRequest

_FAILURES_SHOWN = 20


@with_epilog("""
Examples:
  ragstack index docs/              index a folder; the index is ./.ragstack
  ragstack index docs/ notes.md     several roots; each is kept up to date on its own
  ragstack index                    everything indexed before (or sources.paths of the config)
  ragstack index 'docs/**/*.md'     a glob; quote it, or let the shell expand it
  git ls-files | ragstack index -   a list of files on standard input (lines, or NUL-separated)
  ragstack index --watch docs/      index, then follow the folder until Ctrl-C

Running it again does only what changed: new and changed files are indexed, deleted ones leave the
index, the rest is not read. A folder that is suddenly gone or empty is refused unless --prune is given.
With --watch, changes are indexed in batches as they happen; `ragstack query` works between batches.
Ctrl-C ends it with status 0, or 130 when a batch was under way (it is taken back or finished next time).
Exit status 3: some files could not be read; they are named, and their last good version is kept.
""")
def index(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Folders, files, globs, or - for a list on stdin.")
    ] = None,
    config: ConfigOption = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Allow a missing or emptied root to remove its sources from the index.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build a new index beside the old one, then switch to it.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on following the files and index what changes, until Ctrl-C.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Index files and folders; run it again after changes."""
    loaded = load(config)
    targets = [target for path in paths or () for target in _expanded(path)]
    from ragstack.cli.interrupt import stopping_on_signals
    from ragstack.indexer.interruption import Interruption
    from ragstack.indexer.run import IndexRequest
    from ragstack.indexer.run import index as run_index

    state_dir = Path(loaded.config.indexer.state_dir)
    leave_out = [loaded.path] if loaded.path is not None else []
    progress = progress_display(quiet=as_json)
    interruption = Interruption()
    request = IndexRequest(targets, prune, rebuild, leave_out)
    if watch:
        _require_no_server(state_dir)
        request = replace(request, leave_out=[*leave_out, *_own_output()])
        return _watch(loaded, state_dir, request, interruption, progress, as_json=as_json)
    with stopping_on_signals(interruption, as_json=as_json), progress:
        report = _through_server(state_dir, targets, request, interruption, progress)
        if report is None:
            report = run_index(loaded, state_dir, request, progress, interruption=interruption)
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(report)
    return report.exit_status


def _through_server(
    state_dir: Path,
    targets: list[str],
    request: IndexRequest,
    interruption: Interruption,
    progress: ProgressDisplay,
) -> IndexReport | None:
    """The report of the server that holds the index; None where no server does."""
    from ragstack.cli.forward import ServerGoneError, forward_index, server_of

    server = server_of(state_dir)
    if server is None:
        return None
    with suppress(ServerGoneError):  # it ended meanwhile: the index is free
        return forward_index(
            server,
            targets,
            prune=request.prune,
            rebuild=request.rebuild,
            progress=progress,
            interruption=interruption,
        )
    return None


def _watch(
    loaded: LoadedConfig,
    state_dir: Path,
    request: IndexRequest,
    interruption: Interruption,
    progress: ProgressDisplay,
    *,
    as_json: bool,
) -> int:
    """Follow the files until Ctrl-C; with ``as_json`` one line of JSON for each run and each error."""
    from ragstack.cli.interrupt import stopping_on_signals
    from ragstack.indexer.watch import watch

    reports = 0

    def on_report(report: IndexReport) -> None:
        nonlocal reports
        reports += 1
        if reports == 1:
            shown.close()
        if as_json:
            print(json.dumps(report.to_json()), flush=True)
        elif reports == 1:
            _print_report(report)
            print("Following the files; Ctrl-C ends it.", flush=True)
        elif report.added or report.changed or report.deleted:
            counts = f"{report.added} added, {report.changed} changed, {report.deleted} deleted"
            print(f"{time.strftime('%H:%M:%S')} {counts} in {report.seconds:.1f} s", flush=True)

    def on_error(error: RagstackError) -> None:
        if as_json:
            print(json.dumps(error_json(error)), flush=True)
        else:
            print_error(error)

    notes = QuietProgress() if as_json else NotesOnly()
    with stopping_on_signals(interruption, as_json=as_json), ExitStack() as shown:
        shown.enter_context(progress)
        totals = watch(
            loaded, state_dir, request, interruption, on_report, on_error, first_progress=progress, progress=notes
        )
    if not as_json:
        print(
            f"Ended after {totals.runs} runs: {totals.added} added, {totals.changed} changed, {totals.deleted} deleted."
            f" The index holds {totals.chunk_count:,} chunks."
        )
    return 0


def _require_no_server(state_dir: Path) -> None:
    from ragstack.cli.forward import held_by_server, server_of

    server = server_of(state_dir)
    if server is not None:
        raise held_by_server(server, "ragstack index --watch")


def _own_output() -> list[Path]:
    """The files that this command's output goes to: followed, each report of a run would cause the next run."""
    found = []
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or no file of the system
            number = stream.fileno()
            if stat.S_ISREG(os.fstat(number).st_mode):
                found.append(Path(os.path.realpath(f"/dev/fd/{number}")))
    return found


def _expanded(path: str) -> list[str]:
    if path == "-":
        data = sys.stdin.buffer.read()
        names = [name for name in (data.split(b"\0") if b"\0" in data else data.splitlines()) if name]
        if not names:
            raise InputError("the list on standard input is empty.", hint="Nothing was indexed and nothing deleted.")
        return [os.fsdecode(name) for name in names]
    if os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not found:
        raise InputError(f"no file matches {path}.", hint="Check the pattern; ** matches any number of folders.")
    return found


def _print_report(report: IndexReport) -> None:
    counts = [
        f"{number} {word}"
        for number, word in (
            (report.added, "added"),
            (report.changed, "changed"),
            (report.unchanged, "unchanged"),
            (report.deleted, "deleted"),
        )
        if number
    ]
    print(f"Sources: {', '.join(counts) or 'none'}.")
    if report.skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(report.skipped.items()))
        print(f"Skipped: {reasons}.")
    rate = f" at {report.tokens_embedded / report.seconds:,.0f} tokens/s" if report.seconds > 0 else ""
    written = (
        f"{report.chunks_written:,} chunks, {report.tokens_embedded:,} tokens" if report.chunks_written else "nothing"
    )
    print(f"Embedded: {written} in {report.seconds:.1f} s{rate if report.chunks_written else ''}.")
    print(f"The index holds {report.chunk_count:,} chunks.")
    if report.failed:
        print(
            f"Failed: {counted(len(report.failed), 'source')}; what was indexed of them before is kept:",
            file=sys.stderr,
        )
        for failure in report.failed[:_FAILURES_SHOWN]:
            print(f"  {printable(failure.path)}: {printable(failure.reason)}", file=sys.stderr)
        if len(report.failed) > _FAILURES_SHOWN:
            print(f"  … and {len(report.failed) - _FAILURES_SHOWN} more (see --json)", file=sys.stderr)
    elif report.chunk_count and uses_color(sys.stdout):
        print('Ask it: ragstack query "..."')
