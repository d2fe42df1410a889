"""Writes docs/config.md and docs/config.schema.json from the config's models.

    python scripts/config_reference.py [--check]

With --check nothing is written; status 1 says that a file is out of date. Run it in an environment that
has ragstack installed.
"""

import json
import sys
from pathlib import Path
from typing import Any

from ragstack.config.block import ConfigBlock
from ragstack.config.blocks import blocks_in, types_of
from ragstack.config.models import BUILTIN_FIELDS, PipelineConfig
from ragstack.config.show import json_schema, schema_text
from ragstack.config.third_party import ThirdPartyConfig

OF_A_FAMILY = {
    block for key in PipelineConfig.FAMILIES for block in blocks_in(PipelineConfig.model_fields[key].annotation)
}
DOCS = Path(__file__).resolve().parents[1] / "docs"

INTRO = """\
# Config reference

One YAML file describes one pipeline. `ragstack` reads the file given with `-c FILE`, else
`./ragstack.yaml`, else takes the built-in default, which equals `ragstack/configs/default.yaml`. Every
block and every key is optional, save those marked *required*. `ragstack init` writes a commented file,
`ragstack config check` names every mistake in one by line and column, and `ragstack config show` prints
what is in effect. [config.schema.json](config.schema.json) is the JSON Schema, for editors.

- **Environment variables** stand in values: `${VAR}` must be set; `${VAR:-text}` takes the text when VAR
  is unset or empty; `$${` stands for `${`. A value without quotes takes its type after the variable is put
  in (`max_tokens: ${N}` is a number); in quotes it stays a string.
- **YAML** follows version 1.2: `on`, `off`, `yes` and `no` are strings, `true` and `false` are not.
  Anchors, aliases, merge keys and tags are refused, and so are a key given twice and a number with a
  leading zero.
- **Types are strict**: `"200"` is no integer. A block with nothing under it means its defaults.
- **Third-party parts**: `type:` may also be the name of an installed entry point of the group
  `ragstack.<family>` (FAMILIES); its settings stand under `settings:`.

This page is made from the models in `ragstack/config/models.py` by `scripts/config_reference.py`.
"""


def shown_type(schema: dict[str, Any]) -> str:
    """A JSON Schema type in a few words."""
    if "anyOf" in schema or "oneOf" in schema:
        return " or ".join(dict.fromkeys(shown_type(part) for part in schema.get("anyOf") or schema["oneOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "$ref" in schema or "allOf" in schema:
        return "mapping"
    if schema.get("type") == "array":
        return f"list of {shown_type(schema.get('items', {}))}"
    words = {"object": "mapping", "boolean": "true or false", "null": "null"}
    kind = schema.get("type", "any value")
    return words.get(kind, kind) + bounds(schema)


def bounds(schema: dict[str, Any]) -> str:
    """The limits of a number in mathematical signs."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return f" {', '.join(limits)}" if limits else ""


def default_of(block: type[ConfigBlock], name: str) -> str:
    """The default of a key, as YAML."""
    info = block.model_fields[name]
    if info.is_required():
        return "*required*"
    value = info.get_default(call_default_factory=True)
    if isinstance(value, ConfigBlock):
        return "see below"
    return f"`{json.dumps(value)}`"


def table(block: type[ConfigBlock], definitions: dict[str, Any]) -> list[str]:
    """The keys of one block, a row each."""
    if not block.model_fields:
        return ["It has no keys yet."]
    properties = definitions[block.__name__]["properties"]
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, info in block.model_fields.items():
        kind = shown_type(properties[name]).replace("|", "\\|")
        rows.append(f"| `{name}` | {kind} | {default_of(block, name)} | {info.description or ''} |")
    return rows


def sections(path: str, block: type[ConfigBlock], definitions: dict[str, Any], level: int) -> list[str]:
    """A block's table and those of the blocks inside it."""
    lines = [*table(block, definitions), ""]
    for name, info in block.model_fields.items():
        for inner in blocks_in(info.annotation):
            if inner in OF_A_FAMILY:  # it has its place in the reference already
                continue
            place = f"{path}.{name}" + ("[]" if "tuple" in str(info.annotation) else "")
            lines += [f"{'#' * level} {place}", "", " ".join((inner.__doc__ or "").split()), ""]
            lines += sections(place, inner, definitions, min(level + 1, 5))
    return lines


def reference() -> str:
    """The text of docs/config.md."""
    definitions = json_schema()["$defs"]
    families = ", ".join(f"`{family}`" for family in PipelineConfig.FAMILIES.values())
    lines = [INTRO.replace("FAMILIES", families)]
    for name, info in PipelineConfig.model_fields.items():
        blocks = [block for block in blocks_in(info.annotation) if block is not ThirdPartyConfig]
        lines += [f"## {name}", "", info.description or "", ""]
        if name == "version":
            lines += ["Only `1` so far.", ""]
        if name == "fields":
            built_in = ", ".join(f"`{field}` ({kind})" for field, kind in BUILTIN_FIELDS.items())
            lines += [f"A mapping from field name to its declaration. Always there: {built_in}.", ""]
        for block in blocks:
            types = types_of(block)
            if len(blocks) > 1 or (types and name in PipelineConfig.FAMILIES):
                lines += [f"### {name} of type {', '.join(f'`{value}`' for value in types)}", ""]
            lines += [" ".join((block.__doc__ or "").split()), ""]
            lines += sections(name, block, definitions, 4)
    return "\n".join(lines).rstrip("\n").replace("``", "`") + "\n"


def main() -> int:
    """Write or check the two files."""
    outdated = []
    for path, text in ((DOCS / "config.md", reference()), (DOCS / "config.schema.json", schema_text())):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        outdated.append(path.name)
        if "--check" not in sys.argv[1:]:
            DOCS.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    if outdated and "--check" in sys.argv[1:]:
        print(f"out of date: {', '.join(outdated)}; run: python scripts/config_reference.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
