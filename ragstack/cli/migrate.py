"""``ragstack migrate``: copy an index's vectors into another store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ragstack.cli.fsck import counter
from ragstack.cli.options import JsonOption, load, with_epilog
from ragstack.cli.output import print_json, print_table
from ragstack.errors import InputError

_Config = Annotated[Path, typer.Option("--from", metavar="FILE", help="Config of the store that is read.")]
_Target = Annotated[Path, typer.Option("--to", metavar="FILE", help="Config of the store that is written.")]


@with_epilog("""
Examples:
  ragstack migrate --from ragstack.yaml --to on-a-server.yaml

Nothing is embedded again, and nothing is deleted. Stopped or killed, the same command goes on where it was.
Both configs must agree on all but the store; afterwards use the second one, over the same state directory.
""")
def migrate(
    source: _Config,
    target: _Target,
    as_json: JsonOption = False,
) -> int:
    """Copy all vectors and payloads from one store into another one, and check them there."""
    one, other = load(source), load(target)
    if one.config.store == other.config.store:
        raise InputError(f"{source} and {target} name the same store.", hint="Change the store block of the second.")
    state_dir = Path(one.config.indexer.state_dir)
    if state_dir.resolve() != Path(other.config.indexer.state_dir).resolve():
        raise InputError(
            f"{source} and {target} have different state directories.",
            hint="Set indexer.state_dir alike: ledger and archive stay where they are.",
        )
    from ragstack.assembly import build_embedder, build_store
    from ragstack.indexer.migrate import migrate as migrate_store
    from ragstack.ledger.schema import LOCK_FILE
    from ragstack.process_lock import hold_lock

    wait_s = one.config.indexer.lock_timeout_s
    if not state_dir.is_dir():
        raise InputError(f"there is no index at {state_dir}.", hint="Index some sources first: ragstack index")
    with hold_lock(state_dir / LOCK_FILE, wait_s, f"the index {state_dir}"):
        reading = build_store(one.config.store, state_dir, wait_s)
        try:
            writing = build_store(other.config.store, state_dir, wait_s)
            try:
                done = migrate_store(
                    reading,
                    writing,
                    one.config.field_types(),
                    lambda: build_embedder(one.config.embedder).info.dim,
                    progress=counter("copied", quiet=as_json),
                )
            finally:
                writing.close()
        finally:
            reading.close()
    if as_json:
        print_json({"collections": [each.to_json() for each in done]})
        return 0
    rows = [(each.name, f"{each.records:,}", f"{each.copied:,}", each.checksum[:16]) for each in done]
    print_table(("collection", ">records", ">copied now", "checksum"), rows)
    print(f"Both stores hold the same. From now on: --config {target}")
    return 0
