"""The options that several commands share, and what they do."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, TypeVar

import typer

from ragstack.cli.log_format import log_formatter

if TYPE_CHECKING:
    from ragstack.config.loader import LoadedConfig

Command = TypeVar("Command", bound=Callable[..., object])

ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Pipeline config. Without it: ./ragstack.yaml if there is one, else the built-in default.",
        show_default=False,
    ),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for other programs.")]


def with_epilog(text: str) -> Callable[[Command], Command]:
    """Give a command the text that ends its ``--help``: examples, kept line by line."""

    def add(command: Command) -> Command:
        command.epilog = "\b\n" + text.strip("\n")  # type: ignore[attr-defined]
        return command

    return add


def load(path: Path | None) -> LoadedConfig:
    """Load the config that ``--config`` names, and set the log level that it asks for. Raises ConfigError."""
    from ragstack.config.loader import load_config

    loaded = load_config(path, os.environ)
    observability = loaded.config.observability
    configure_logging(observability.log_level, observability.log_format)
    return loaded


def configure_logging(level: str, format: Literal["text", "json"] = "text") -> None:
    """Write the log messages of ragstack of at least this level to stderr."""
    logger = logging.getLogger("ragstack")
    logger.setLevel(level.upper())
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(log_formatter(format))
        logger.addHandler(handler)
        logger.propagate = False
