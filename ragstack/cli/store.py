"""``ragstack store info`` and ``ragstack store drop``: for those who run the vector store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import print_json, print_table, printable
from ragstack.errors import InputError

if TYPE_CHECKING:
    from ragstack.adapters.base import VectorStore
    from ragstack.config.loader import LoadedConfig


@with_epilog("""
Examples:
  ragstack store info               engine, version, address, and what it holds
  ragstack store info --json        the same for other programs
""")
def info(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Say what answers behind the store, and which collections it holds."""
    store = _open(load(config))
    try:
        health = store.health()
        counts = {name: store.count(name) for name in store.collections()}
    finally:
        store.close()
    if as_json:
        told = {"engine": health.engine, "version": health.version, "address": health.address}
        print_json({**told, "collections": counts})
        return 0
    print(f"{health.engine} {health.version} at {printable(health.address)}")
    print_table(("collection", ">records"), [(name, f"{count:,}") for name, count in counts.items()])
    return 0


@with_epilog("""
Examples:
  ragstack store drop gen-3 --yes   delete one collection and all it holds

The index does not know of it afterwards: ragstack fsck finds out what is missing, ragstack index --rebuild
makes it anew. Meant for what a migration or an index of old left on a server.
""")
def drop(
    collections: Annotated[list[str], typer.Argument(metavar="COLLECTION...", help="Names, as `store info` shows.")],
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it only say what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Delete collections from the store."""
    store = _open(load(config))
    try:
        there = store.collections()
        unknown = [name for name in collections if name not in there]
        if unknown:
            raise InputError(
                f"the store has no collection {printable(', '.join(unknown))}.",
                hint=f"It has: {', '.join(there) or 'none'}.",
            )
        counts = {name: store.count(name) for name in collections}
        for name in counts if yes else ():
            store.drop(name)
    finally:
        store.close()
    if as_json:
        print_json({"deleted": yes, "collections": counts})
        return 0
    for name, count in counts.items():
        print(f"{'Deleted' if yes else 'Would delete'} {name}: {count:,} records.")
    if not yes:
        print("Nothing was deleted. Add --yes to do it.")
    return 0


def _open(loaded: LoadedConfig) -> VectorStore:
    from ragstack.assembly import build_store

    indexer = loaded.config.indexer
    return build_store(loaded.config.store, Path(indexer.state_dir), indexer.lock_timeout_s)
