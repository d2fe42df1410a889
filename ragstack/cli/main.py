"""The ``ragstack`` command: finds the subcommand, runs it, and turns every error into a message and a status.

Each subcommand is one function in a module of its own, tied to its name by a line of ``COMMANDS``. A
module is imported when its command is run, so that ``ragstack --help`` starts at once. A command
returns its exit status (None: 0) and raises the errors of :mod:`ragstack.errors`.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from ragstack.cli.output import (
    drop_stdout,
    make_streams_tolerant,
    print_error,
    print_internal_error,
    replace_missing_streams,
    wants_debug,
)
from ragstack.errors import InputError, InterruptedRunError, RagstackError, StoreError, UserError

if TYPE_CHECKING:
    import typer


@dataclass(frozen=True, slots=True)
class Entry:
    """``target`` is ``module:function``; ``help`` the line shown by ``ragstack --help``."""

    target: str
    help: str


COMMANDS: dict[str, Entry] = {
    "init": Entry("ragstack.cli.init:init", "Write a commented ragstack.yaml to start from."),
    "index": Entry("ragstack.cli.index:index", "Index files and folders; run it again after changes."),
    "query": Entry("ragstack.cli.query:query", "Ask the index: an answer with citations."),
    "serve": Entry("ragstack.cli.serve:serve", "Serve the REST API."),
    "eval": Entry("ragstack.cli.eval:evaluate", "Measure a pipeline on questions whose answers are known."),
    "tune": Entry("ragstack.cli.tune:tune", "Choose chunk size, weights and depth on your own questions."),
    "bench embed": Entry("ragstack.cli.bench:embed", "Measure embedding: latency, tokens a second, cost."),
    "bench rerank": Entry("ragstack.cli.bench:rerank", "Measure reranking: latency, pairs a second, cost."),
    "bench query": Entry("ragstack.cli.bench:query", "Measure whole queries over an index."),
    "bench cost": Entry("ragstack.cli.bench:cost", "Say what tokens cost at a rate, and when that pays."),
    "status": Entry("ragstack.cli.status:status", "Say what the index holds."),
    "rm": Entry("ragstack.cli.rm:rm", "Erase sources from the index, down to the last byte."),
    "gc": Entry("ragstack.cli.gc:gc", "Delete what the index does not need any more."),
    "fsck": Entry("ragstack.cli.fsck:fsck", "Check the index; --repair mends it."),
    "migrate": Entry("ragstack.cli.migrate:migrate", "Copy the index's vectors into another store."),
    "store info": Entry("ragstack.cli.store:info", "Say what answers behind the store, and what it holds."),
    "store drop": Entry("ragstack.cli.store:drop", "Delete collections from the store."),
    "key create": Entry("ragstack.cli.key:create", "Make an API key for the server and print it."),
    "key list": Entry("ragstack.cli.key:list_keys", "List the API keys."),
    "key revoke": Entry("ragstack.cli.key:revoke", "Revoke an API key, also while the server runs."),
    "audit verify": Entry("ragstack.cli.audit:verify", "Check that the audit log is as it was written."),
    "verify": Entry("ragstack.cli.verify:verify", "Check a saved citation chain against archive and sources."),
    "config check": Entry("ragstack.cli.config:check", "Check a config file; name every mistake in it."),
    "config show": Entry("ragstack.cli.config:show", "Print the config in effect, and where each value is from."),
    "config schema": Entry("ragstack.cli.config:schema", "Print the JSON Schema of the config, for editors."),
    "models": Entry("ragstack.cli.models:models", "List the models that are known by name, or show one's card."),
    "profiles": Entry("ragstack.cli.profiles:profiles", "List how a model can run on this machine, or another."),
    "doctor": Entry("ragstack.cli.doctor:doctor", "Check this installation, the config and the index."),
}

_JSON_TO_A_FILE = ("eval", "tune", "bench embed", "bench rerank", "bench query")
"""Commands whose ``--json`` takes a file, or - for stdout."""

_GROUPS = {
    "audit": "Check the record of what the server answered.",
    "bench": "Measure speed and cost, of this machine or of any server.",
    "key": "API keys of the server.",
    "config": "Check, show and document the config.",
    "store": "Look into the vector store; delete collections.",
}

_STAND_ALONE = {"query": ("--explain",)}
"""Options, by command, whose value may be left out."""

_INTRO = "Retrieval-augmented generation whose every citation is a byte range you can check."

_EXAMPLES = """\
Start here:
  ragstack index docs/                  index a folder; the index is ./.ragstack
  ragstack query "How do I restart it?" an answer, each sentence with its source
  ragstack query "..." --json > c.json  the whole citation chain
  ragstack verify c.json                check that chain against the files
  ragstack init                         a config file with every setting explained

Exit status: 0 done; 1 failed; 2 a mistake in arguments or config; 3 some sources could not be read;
130 interrupted. Environment: NO_COLOR=1 for plain output, RAGSTACK_DEBUG=1 for tracebacks."""


def run() -> NoReturn:
    """The process ``ragstack``: run its command line and end with its status.

    SIGTERM ends a command as Ctrl-C does, with its message and status. Once the command has ended, neither
    signal can turn its outcome into another one while the interpreter shuts down.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = main()
    except KeyboardInterrupt:
        status = InterruptedRunError.exit_status
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (``sys.argv[1:]`` by default) and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    replace_missing_streams()
    make_streams_tolerant()
    # Tracebacks are for whoever asks; errors in JSON go where the result would have gone.
    before_separator = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = _prints_json(before_separator)
    try:
        status = _guarded(arguments, as_json=as_json)
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()
        return 1
    except OSError as error:
        # What reads or stores the output is full or gone.
        drop_stdout()
        print(f"error: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        return 1
    return status


def _prints_json(arguments: list[str]) -> bool:
    """True when the result would be JSON on stdout: `--json`, or `--json -` where the option names a file."""
    if arguments[:1] and {arguments[0], " ".join(arguments[:2])} & set(_JSON_TO_A_FILE):
        return "--json=-" in arguments or ("--json", "-") in zip(arguments, arguments[1:], strict=False)  # noqa: RUF007 - itertools takes time to import
    return "--json" in arguments


def _guarded(arguments: list[str], *, as_json: bool) -> int:
    """Run the command; every error becomes a message and a status. Raises OSError when printing fails."""
    try:
        return _dispatch(arguments)
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        return print_error(InterruptedRunError("interrupted."), as_json=as_json)
    except RagstackError as error:
        return print_error(error, as_json=as_json)
    except Exception as error:
        if wants_debug():
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return print_error(StoreError(f"no space is left: {error}."), as_json=as_json)
        return print_internal_error(error, as_json=as_json)


def _dispatch(arguments: list[str]) -> int:
    first = arguments[0] if arguments else "--help"
    completing = "_RAGSTACK_COMPLETE" in os.environ or first in ("--install-completion", "--show-completion")
    if completing:
        return _run(_app(COMMANDS, completion=True), arguments)
    if first in ("--help", "-h", "help"):
        print(root_help())
        return 0
    if first in ("--version", "-V"):
        from ragstack.version import __version__

        print(f"ragstack {__version__}")
        return 0
    if first in _GROUPS:
        chosen = {name: entry for name, entry in COMMANDS.items() if name.startswith(f"{first} ")}
        return _run(_app(chosen), arguments if len(arguments) > 1 else [first, "--help"])
    if first in COMMANDS:
        return _run(_app({first: COMMANDS[first]}), _with_left_out_values(arguments))
    raise _unknown(first)


def _with_left_out_values(arguments: list[str]) -> list[str]:
    """The arguments with an empty value for options that may stand alone, which Typer has no way to declare."""
    before_separator = arguments.index("--") if "--" in arguments else len(arguments)
    alone = [
        i
        for i, argument in enumerate(arguments[:before_separator])
        if argument in _STAND_ALONE.get(arguments[0], ())
        and (i + 1 == len(arguments) or arguments[i + 1].startswith("-"))
    ]
    return [f"{argument}=" if i in alone else argument for i, argument in enumerate(arguments)]


def _unknown(word: str) -> InputError:
    from ragstack.registry import known_names

    if word.startswith("-"):
        return InputError(
            f"no such option before a command: {word}",
            hint="Options follow the command, as in: ragstack query -c FILE TEXT. See: ragstack --help",
        )
    names = [name for name in COMMANDS if " " not in name] + list(_GROUPS)
    return InputError(f"no such command: {word}", hint=known_names(word, names))


def root_help() -> str:
    """What ``ragstack --help`` prints. Rendered here: importing typer alone takes most of the time allowed."""
    rows = {name: entry.help for name, entry in COMMANDS.items() if " " not in name} | _GROUPS
    width = max(map(len, rows)) + 2
    lines = ["Usage: ragstack COMMAND [OPTIONS] [ARGUMENTS]", "", *textwrap.wrap(_INTRO, 100), "", "Commands:"]
    lines += [f"  {name.ljust(width)}{line}" for name, line in rows.items()]
    lines += ["", "Options:", "  --version, -V   Print the version.", "  --help, -h      Print this text."]
    lines += ["", "'ragstack COMMAND --help' explains a command, with examples.", "", _EXAMPLES]
    return "\n".join(lines)


def _app(entries: dict[str, Entry], *, completion: bool = False) -> typer.Typer:
    """A Typer application with these commands; their modules are imported now."""
    import typer

    def new_app(help: str) -> typer.Typer:
        return typer.Typer(
            help=help,
            add_completion=completion,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["--help", "-h"]},
        )

    root = new_app(_INTRO)
    # A callback keeps a lone command a subcommand, so that its usage line reads "ragstack index ...".
    root.callback()(_nothing)
    groups: dict[str, typer.Typer] = {}
    for path, entry in entries.items():
        group, _, name = path.rpartition(" ")
        if group and group not in groups:
            groups[group] = new_app(_GROUPS[group])
            root.add_typer(groups[group], name=group)
        function = _load(entry.target)
        parent = groups[group] if group else root
        parent.command(name, help=function.__doc__, epilog=getattr(function, "epilog", None))(function)
    return root


def _nothing() -> None:
    """The root of the command line does nothing by itself."""


def _load(target: str) -> Callable[..., int | None]:
    from importlib import import_module

    module, _, attribute = target.partition(":")
    function: Callable[..., int | None] = getattr(import_module(module), attribute)
    return function


def _run(app: typer.Typer, arguments: list[str]) -> int:
    try:
        outcome: Any = app(args=arguments, prog_name="ragstack", standalone_mode=False)
    except SystemExit as error:
        outcome = error.code
    except RagstackError:
        raise
    except Exception as error:
        # Typer has carried its own copy of click's exceptions since 0.20, so they are known by what they offer.
        describe = getattr(error, "format_message", None)
        if describe is None or getattr(error, "exit_code", None) is None:
            raise
        raise _usage_error(describe(), getattr(error, "ctx", None)) from error
    return outcome if isinstance(outcome, int) else 0


def _usage_error(message: str, context: Any) -> UserError:
    command = getattr(context, "command_path", "ragstack")
    return UserError(message, hint=f"See: {command} --help")


if __name__ == "__main__":
    run()
