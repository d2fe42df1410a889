"""``ragstack config``: check, show and document the config."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import print_json, printable

if TYPE_CHECKING:
    from ragstack.config.loader import LoadedConfig


@with_epilog("""
Examples:
  ragstack config check                  ./ragstack.yaml, or the built-in default
  ragstack config check staging.yaml
""")
def check(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The file to check.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> int:
    """Check a config file. Every mistake is named at once, by file, line, column and key; status 2 if there is one."""
    loaded = load(file)
    unchecked = _check_model(loaded)
    if unchecked:
        print(f"warning: chunker.max_tokens was not compared with what the model reads: {unchecked}", file=sys.stderr)
    if as_json:
        print_json({"ok": True, "origin": loaded.origin})
    else:
        print(f"{printable(loaded.origin)}: ok")
    return 0


def _check_model(loaded: LoadedConfig) -> str:
    """Raise ConfigError for chunks longer than the model reads; why that is unknown, where its files are not here."""
    from ragstack.assembly import build_embedder
    from ragstack.config.third_party import ThirdPartyConfig
    from ragstack.embedding.base import InfoWithoutAsking
    from ragstack.errors import EmbeddingError, RerankingError
    from ragstack.indexer.fingerprint import check_model_limits

    block = loaded.config.embedder
    if isinstance(block, ThirdPartyConfig):
        return ""
    try:
        embedder = build_embedder(block)
        try:
            # A check of a file reaches for no server.
            info = embedder.info_without_asking() if isinstance(embedder, InfoWithoutAsking) else embedder.info
            if info is None:
                return f"{getattr(block, 'base_url', '')} was not asked; embedder.max_tokens would say it"
            check_model_limits(loaded, info)
        finally:
            embedder.close()
    except (EmbeddingError, RerankingError) as error:
        return error.message
    return ""


@with_epilog("""
Examples:
  ragstack config show
  ragstack config show -c staging.yaml --json
""")
def show(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Print the config in effect, as YAML with the line that set each value, or as JSON. Secrets are masked."""
    from ragstack.config.show import effective_values, to_yaml

    loaded = load(config)
    if as_json:
        print_json({"origin": loaded.origin, "config": effective_values(loaded)})
    else:
        sys.stdout.write(to_yaml(loaded))
    return 0


@with_epilog("""
Example, so that an editor completes and checks keys:
  ragstack config schema > ragstack.schema.json
  and as the first line of ragstack.yaml:
  # yaml-language-server: $schema=ragstack.schema.json
""")
def schema(
    as_json: Annotated[bool, typer.Option("--json", help="The schema is JSON with and without this.")] = False,
) -> int:
    """Print the JSON Schema (draft 2020-12) of the config file."""
    from ragstack.config.show import schema_text

    sys.stdout.write(schema_text())
    return 0
