"""Printing a config: YAML that loads back, secrets masked, schema and reference up to date."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml

from ragstack.config.loader import LoadedConfig, parse_config
from ragstack.config.models import PipelineConfig
from ragstack.config.show import MASK, SCHEMA_ID, effective_values, json_schema, to_yaml


def load(text: str, **env: str) -> LoadedConfig:
    return parse_config(text.encode(), "f.yaml", env, installed=lambda _: ("mine",))


def test_the_printed_yaml_loads_back_equal() -> None:
    loaded = load(
        'sources: {paths: [no, "a b", "$${HOME}", "é😀\\x1b\\u2028", {path: "010", label: "1e3"}], include: ["x: y"]}\n'
        "fields: {null: {type: keyword}, y: {type: float}}\n"
        "retrieval:\n"
        '  filter: {or: [{field: y, op: in, value: [1, 2.5, 1e300]}, {not: {field: "null", op: eq, value: ""}}]}\n'
    )
    assert load(to_yaml(loaded)).config == loaded.config
    # Any other YAML reader, with its own rules for `no` and `010`, reads the same.
    assert yaml.safe_load(to_yaml(loaded).replace("$${", "${")) == json.loads(loaded.config.model_dump_json())


def test_lines_of_the_file_are_named() -> None:
    text = to_yaml(load("# first\nchunker:\n  max_tokens: 300\n"))
    assert "  max_tokens: 300  # line 3\n" in text
    assert "  overlap_tokens: 0\n" in text


def test_secrets_of_third_parties_are_not_shown() -> None:
    loaded = load(
        "embedder:\n  type: mine\n"
        "  settings: {api_key: abc123, url: 'http://${USER}:${PASS}@h', auth: {token: 7}, dim: 3}\n",
        USER="ann", PASS="hunter2",
    )  # fmt: skip
    for text in (to_yaml(loaded), json.dumps(effective_values(loaded))):
        assert "abc123" not in text
        assert "hunter2" not in text
        assert "${PASS}" in text
        assert text.count(MASK) == 2
    assert loaded.config.model_dump()["embedder"]["settings"]["api_key"] == "abc123"


def test_the_schema_describes_every_key() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == SCHEMA_ID
    assert set(schema["properties"]) == set(PipelineConfig.model_fields)
    for definition in schema["$defs"].values():
        assert definition.get("additionalProperties") is False
        for name, described in definition.get("properties", {}).items():
            assert described.get("description"), (definition["title"], name)


def test_reference_and_published_schema_are_up_to_date(repository: Path) -> None:
    script = repository / "scripts" / "config_reference.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
