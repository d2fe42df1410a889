"""``ragstack init``: a config file to start from."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from ragstack.cli.options import JsonOption, with_epilog
from ragstack.cli.output import print_json, printable
from ragstack.errors import InputError
from ragstack.registry import known_names


@with_epilog("""
Examples:
  ragstack init                     writes ./ragstack.yaml, which the other commands then use
  ragstack init --output team.yaml  use it with: ragstack index -c team.yaml docs/
  ragstack init --template multilingual    for documents and questions in many languages
""")
def init(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")] = Path(
        "ragstack.yaml"
    ),
    template: Annotated[
        str, typer.Option("--template", "-t", metavar="NAME", help="The ready-made config to begin with.")
    ] = "default",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Write a config file: by default with every setting, its default and what it does."""
    folder = resources.files("ragstack.configs")
    templates = sorted(file.name[: -len(".yaml")] for file in folder.iterdir() if file.name.endswith(".yaml"))
    if template not in templates:
        raise InputError(f"there is no template {template!r}.", hint=known_names(template, templates))
    text = (folder / f"{template}.yaml").read_text(encoding="utf-8")
    if os.path.lexists(output) and not force:
        raise InputError(
            f"{output} exists already.", hint="Give --force to overwrite it, or --output for another file."
        )
    try:
        output.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(
            f"{output} cannot be written: {error.strerror or error}.", hint="Give another file with --output."
        ) from error
    if as_json:
        print_json({"written": str(output)})
    else:
        name = printable(str(output))
        print(f"Wrote {name}. Change what you need, then: ragstack config check {name}")
    return 0
