"""``ragstack key create``, ``list`` and ``revoke``: who may call the server."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import print_json, print_table, printable
from ragstack.errors import FilterError, InputError

if TYPE_CHECKING:
    from ragstack.api.keys import ApiKey, KeyFile
    from ragstack.config.loader import LoadedConfig

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@with_epilog("""
Examples:
  ragstack key create alice                        ask questions
  ragstack key create ingest --scope write         upload and erase documents, ask nothing
  ragstack key create ops --scope admin            everything
  ragstack key create acme --expires 90d --filter '{"field": "tenant", "op": "eq", "value": "acme"}'

The key is printed once and kept nowhere; the state directory holds its hash. A running server takes it at once.
Scopes: query (ask, read citations, list documents), write (upload, erase, index again), admin (all of it, and
paths of the server's machine). A filter holds for everything that the key reads and writes; no request widens it.
""")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; logs show this name.")],
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", metavar="SCOPE", help="query (default), write or admin; repeatable.")
    ] = None,
    filter: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help="What the key may see, as a filter of queries.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="WHEN", help="12h, 90d, 8w, or a date: 2027-01-31.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Make an API key and print it."""
    loaded = load(config)
    chosen: Any = scopes or ["query"]
    parsed = None if filter is None else _filter(filter, loaded)
    key, presented = _keys(loaded).create(name, chosen, parsed, _moment(expires))
    if as_json:
        print_json({**_shown(key), "key": presented})
        return 0
    print(presented)
    typer.echo("Keep it now: it is not shown again. Send it as `Authorization: Bearer KEY`.", err=True)
    return 0


@with_epilog("""
Examples:
  ragstack key list
  ragstack key list --json | jq -r '.keys[] | select(.state == "usable") | .name'
""")
def list_keys(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """List the API keys: names, scopes, filters, never the keys."""
    keys = [_shown(key) for key in _keys(load(config)).entries()]
    if as_json:
        print_json({"keys": keys})
        return 0
    if not keys:
        print("There are no API keys: the server answers this machine alone, without one.")
        return 0
    columns = ("id", "name", "state", "scopes", "filter", "created", "expires")
    print_table(
        columns,
        [
            (
                key["id"],
                key["name"],
                key["state"],
                " ".join(key["scopes"]),
                "" if key["filter"] is None else json.dumps(key["filter"]),
                key["created_at"],
                key["expires_at"] or "",
            )
            for key in keys
        ],
    )
    return 0


@with_epilog("""
Examples:
  ragstack key revoke alice         by name, or by the id that `key list` shows

A running server refuses the key from its next request on. When the last key is revoked, nobody is let in until
there is a new one: delete api-keys.json in the state directory, and restart the server, to serve without keys again.
""")
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Name or id of the key.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Revoke an API key, without a restart of the server."""
    revoked = _keys(load(config)).revoke(key)
    if as_json:
        print_json(_shown(revoked))
    else:
        print(f"Revoked {printable(revoked.name)} ({revoked.id}).")
    return 0


def _keys(loaded: LoadedConfig) -> KeyFile:
    from ragstack.api.keys import KeyFile

    return KeyFile(Path(loaded.config.indexer.state_dir))


def _shown(key: ApiKey) -> dict[str, Any]:
    shown = {name: value for name, value in asdict(key).items() if name != "sha256"}
    return {**shown, "state": key.state(datetime.now(timezone.utc))}


def _filter(text: str, loaded: LoadedConfig) -> dict[str, Any]:
    """The filter, checked against the fields that the config declares."""
    from ragstack.filters import bind_filter, parse_filter

    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FilterError(f"--filter is not JSON: {error}.") from error
    bind_filter(parse_filter(value, where="--filter"), loaded.config.field_types())
    return dict(value)


def _moment(text: str | None) -> datetime | None:
    from ragstack.filters import parse_datetime

    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,6})([hdw])", text)
    try:
        if found:
            return datetime.now(timezone.utc) + timedelta(**{_UNITS[found[2]]: int(found[1])})
        return parse_datetime(text)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"--expires {text!r} is no moment.", hint="Write 12h, 90d, 8w, a date (2027-01-31) or a date and time."
        ) from error
