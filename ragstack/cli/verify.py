"""``ragstack verify``: check a saved citation chain."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import print_json, printable
from ragstack.errors import InputError

if TYPE_CHECKING:
    from ragstack.citations.verify import Finding

_WORDS = {
    "verified": "verified",
    "source_changed": "source changed",
    "source_missing": "source missing",
    "wrong": "WRONG",
    "unverifiable": "unverifiable",
}


@with_epilog("""
Examples:
  ragstack query "..." --json > chain.json
  ragstack verify chain.json
  ragstack query "..." --json | ragstack verify -

Every citation and passage is read again from the archived text and from the file, byte for byte.
Exit status 0: all hold; 3: sources have changed or are missing, so that not all can be read again;
1: a citation is wrong, or cannot be tied to anything that was indexed; 2: the file is not a chain.
""")
def verify(
    chain: Annotated[
        str, typer.Argument(metavar="CHAIN.json", help="A chain as `query --json` printed it; - for stdin.")
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Check a saved citation chain against archive and sources."""
    loaded = load(config)
    from ragstack.citations.verify import MAX_CHAIN_BYTES, load_chain, verify_chain
    from ragstack.retrieval.evidence import open_evidence

    try:
        if chain == "-":
            data = sys.stdin.buffer.read(MAX_CHAIN_BYTES + 1)
        else:
            with Path(chain).open("rb") as file:
                data = file.read(MAX_CHAIN_BYTES + 1)
        if len(data) > MAX_CHAIN_BYTES:
            raise InputError(f"{chain}: larger than {MAX_CHAIN_BYTES // 2**20} MiB; this is not a chain.")
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{chain}: cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{chain}: not UTF-8 text, so not a chain (byte {error.start}).") from error
    parsed = load_chain(text, chain)
    with open_evidence(Path(loaded.config.indexer.state_dir)) as evidence:
        findings = verify_chain(parsed, evidence)
    status = _exit_status(findings)
    if as_json:
        print_json(
            {
                "chain": chain,
                "findings": [{"where": f.where, "status": f.status, "detail": f.detail} for f in findings],
                "counts": dict(Counter(f.status for f in findings)),
                "exit_status": status,
            }
        )
    else:
        _print(findings)
    return status


def _exit_status(findings: list[Finding]) -> int:
    statuses = {finding.status for finding in findings}
    if statuses & {"wrong", "unverifiable"}:
        return 1
    return 3 if statuses & {"source_changed", "source_missing"} else 0


def _print(findings: list[Finding]) -> None:
    for finding in findings:
        if finding.status != "verified":
            print(f"{finding.where}: {_WORDS[finding.status]}: {printable(finding.detail)}")
    counts = Counter(finding.status for finding in findings)
    print(", ".join(f"{count} {_WORDS[status]}" for status, count in counts.items()) or "the chain cites nothing")
