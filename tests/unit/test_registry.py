"""Registries: names are found, refused, imported on first use; a registered name can be used in a config."""

from __future__ import annotations

import pytest

from ragstack.assembly import build_chunker
from ragstack.chunking.registry import CHUNKERS
from ragstack.config.loader import parse_config
from ragstack.errors import ConfigError, InputError, MissingExtraError
from ragstack.registry import Registry, registered_names


def test_every_family_has_its_registry() -> None:
    for family, name in {
        "parsers": "markdown",
        "chunkers": "recursive",
        "embedders": "local",
        "stores": "qdrant_edge",
        "rerankers": "late_interaction",
        "generators": "extractive",
    }.items():
        assert name in registered_names(family)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        CHUNKERS.load("recursiv")
    assert "Did you mean 'recursive'?" in caught.value.hint


def test_a_name_is_registered_once() -> None:
    registry = Registry("chunkers")
    registry.register("one", "a.b:C")
    registry.register("one", "a.b:C")
    with pytest.raises(ValueError, match="registered as"):
        registry.register("one", "a.b:D")


def test_a_missing_dependency_names_the_extra() -> None:
    registry = Registry("stores")
    registry.register("elsewhere", "a_package_that_is_not_here.store:Store", extra="elsewhere")
    with pytest.raises(MissingExtraError, match=r"ragstack\[elsewhere\]") as caught:
        registry.load("elsewhere")
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_registered_chunker_needs_no_more_than_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHUNKERS, "entries", dict(CHUNKERS.entries))
    CHUNKERS.register("mine", "ragstack.chunking.fixed:FixedChunker")
    text = b"chunker:\n  type: mine\n  settings: {max_tokens: 40}\n"
    chunker = build_chunker(parse_config(text, "test.yaml", {}).config.chunker)
    assert chunker.fingerprint == CHUNKERS.load("fixed")(max_tokens=40).fingerprint


def test_settings_that_do_not_fit_are_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHUNKERS, "entries", dict(CHUNKERS.entries))
    CHUNKERS.register("mine", "ragstack.chunking.fixed:FixedChunker")
    config = parse_config(b"chunker: {type: mine, settings: {colour: red}}\n", "test.yaml", {}).config
    with pytest.raises(InputError, match="colour"):
        build_chunker(config.chunker)
    with pytest.raises(ConfigError, match="unknown"):
        parse_config(b"chunker: {type: theirs}\n", "test.yaml", {})
