"""``ragstack audit verify``: is the audit log as it was written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import counted, print_json, printable
from ragstack.errors import InputError


@with_epilog("""
Examples:
  ragstack audit verify             every line follows from the one before
  ragstack audit verify --head 3f…  and the line noted on another day is still there

It prints the hash of the newest line. Noted on another machine, it proves later that nothing up to it was changed;
without that, who can write to the folder can write a whole new log. Exit status 1: the log is not whole.
""")
def verify(
    config: ConfigOption = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="HASH", help="A hash that was printed before; it must be there.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Check that no line of the audit log was changed, added or removed."""
    loaded = load(config)
    from ragstack.api.audit_log import verify_audit_log
    from ragstack.config.server_audit import audit_dir

    folder = audit_dir(loaded.config.server.audit, Path(loaded.config.indexer.state_dir))
    if not folder.is_dir():
        raise InputError(f"there is no audit log in {folder}.", hint="`ragstack serve` writes one.")
    found, findings = verify_audit_log(folder, head)
    if as_json:
        print_json(
            {
                "lines": found.seq - found.first_seq + 1,
                "head": {"seq": found.seq, "hash": found.hash},
                "problems": [asdict(finding) for finding in findings],
            }
        )
    else:
        print(f"{counted(found.seq - found.first_seq + 1, 'line')}, the newest is {found.seq}: {found.hash}")
        for finding in findings:
            place = f"{finding.file}:{finding.line}: " if finding.file else ""
            print(f"{printable(place)}{printable(finding.problem)}")
        if not findings:
            print("The log is whole.")
    return 1 if findings else 0
