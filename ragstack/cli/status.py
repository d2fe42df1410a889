"""``ragstack status``: what the index holds."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import print_json, printable


@with_epilog("""
Examples:
  ragstack status
  ragstack status --json | jq .sources.indexed
""")
def status(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Say what the index holds: generations, sources, pending work, the last run."""
    loaded = load(config)
    from ragstack.indexer.status import index_status

    state = index_status(Path(loaded.config.indexer.state_dir))
    if as_json:
        print_json(state)
    else:
        _print(state)
    return 0


def _print(state: dict[str, Any]) -> None:
    active = state["active"]
    print(f"Index: {printable(state['state_dir'])} ({state['size_bytes'] / 1e6:.1f} MB)")
    if active is None:
        print("No generation answers yet: the first run has not ended. Run `ragstack index` again.")
    else:
        print(f"Model: {printable(str(active['embedder']))}, generation {active['generation']}")
        print(f"Chunks: {active['chunk_count']:,} of {state['sources']['indexed']:,} sources")
    if state["sources"]["languages"]:
        print("Languages: " + ", ".join(_languages(state["sources"])))
    skipped: Counter[str] = Counter(state["sources"]["skipped"])
    if skipped:
        print("Skipped: " + ", ".join(f"{count} {printable(reason)}" for reason, count in sorted(skipped.items())))
    for root in state["roots"]:
        print(f"Root: {printable(root['label'])} = {printable(root['path'])}{'' if root['exists'] else '  (missing)'}")
    if len(state["generations"]) > 1 or active is None:
        for generation in state["generations"]:
            _print_generation(generation)
    if state["pending"]:
        print("Pending: an earlier run was stopped; the next `ragstack index` finishes it.")
    if state["superseded_versions"]:
        print(f"Pending: {state['superseded_versions']:,} replaced versions wait to be purged.")
    if state["erasing"]:
        print("Pending: an erasure was stopped; run the same `ragstack rm` again.")
    if state["repairing"]:
        print("Pending: a repair was stopped; run `ragstack fsck --repair` again.")
    if state["last_run"] is not None:
        _print_run(state["last_run"])


def _languages(sources: dict[str, Any]) -> list[str]:
    from ragstack.languages import NAMES

    unread = sources["unread_languages"]
    return [
        f"{NAMES.get(language, language)} {count:,}{' (not read by the model)' if language in unread else ''}"
        for language, count in sources["languages"].items()
    ]


def _print_generation(generation: dict[str, Any]) -> None:
    words = {
        "active": "answers",
        "building": "is being built; `ragstack index` goes on with it",
        "retired": "was replaced; the next command deletes it",
    }
    pending = f", {generation['pending_purges']:,} versions to purge" if generation["pending_purges"] else ""
    print(
        f"Generation {generation['generation']} {words[generation['state']]}: {generation['chunk_count']:,} chunks,"
        f" {printable(str(generation['embedder']))}, begun {_moment(generation['created_at'])}{pending}"
    )


def _print_run(run: dict[str, Any]) -> None:
    report = run["report"] or {}
    ended = "did not end" if run["ended_at"] is None else f"exit status {run['exit_status']}"
    did = [f"{report[word]:,} {word}" for word in ("added", "changed", "deleted", "unchanged") if report.get(word)]
    if report.get("chunks_written"):
        did.append(f"{report['chunks_written']:,} chunks written in {report['seconds']:.1f} s")
    print(f"Last run: {_moment(run['started_at'])}, {ended}{': ' if did else ''}{', '.join(did)}")
    if report.get("rebuilt_because"):
        print(f"  a new generation was built: {printable(report['rebuilt_because'])}")
    for failure in report.get("failed", []):
        print(f"  failed: {printable(failure['path'])}: {printable(failure['reason'])}")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")
