"""Reading YAML: the values of YAML 1.2, the places of keys, and everything that is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ragstack.config.yaml_source import MAX_DEPTH, MAX_FILE_BYTES, YamlSource, dotted, read_yaml


def read(text: str | bytes, **env: str) -> YamlSource:
    return read_yaml(text.encode() if isinstance(text, str) else text, "f.yaml", env)


def value_of(scalar: str) -> Any:
    source = read(f"key: {scalar}\n")
    assert source.problems == []
    return source.values["key"]


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("no", "no"), ("true", True), ("False", False),
        ("null", None), ("~", None), ("", None), ("12", 12), ("-3", -3), ("0x1F", 31), ("0o17", 15), ("0", 0),
        ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("1_000", "1_000"), ("1:30", "1:30"), ("2024-01-31", "2024-01-31"),
        ('"12"', "12"), ("'true'", "true"), ('""', ""), ("=", "="), (".inf", math.inf), ("[1, a]", [1, "a"]),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema_of_yaml_1_2(scalar: str, value: Any) -> None:
    found = value_of(scalar)
    assert found == value
    assert type(found) is type(value)


def test_places_are_those_of_keys_and_values() -> None:
    source = read("a:\n  b: 1\n  c:\n    - x\n    - {d: y}\n")
    places = {dotted(path): place for path, place in source.places.items()}
    assert (places["a"].key_line, places["a"].key_column) == (1, 1)
    assert (places["a.b"].key_line, places["a.b"].key_column, places["a.b"].line, places["a.b"].column) == (2, 3, 2, 6)
    assert (places["a.c[0]"].line, places["a.c[0]"].column) == (4, 7)
    assert (places["a.c[1].d"].key_column, places["a.c[1].d"].column) == (8, 11)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_line_breaks_and_bom_do_not_shift_places(newline: str, bom: bytes) -> None:
    source = read(bom + f"a: 1{newline}b: é 2{newline}a: 3{newline}".encode())
    assert [(p.line, p.column) for p in source.problems] == [(3, 1)]


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "given twice; first on line 1"),
        ("a: &x 1\n", 1, 4, "anchors"),
        ("a: *x\n", 1, 4, "aliases"),
        ("a: {<<: {b: 1}}\n", 1, 5, "merge keys"),
        ("a: !!python/object:os.system x\n", 1, 4, "tags"),
        ("a: !!str 5\n", 1, 4, "quote the value"),
        ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
        ("- a\n", 1, 1, "expected 'key: value' lines"),
        ("word\n", 1, 1, 'got the text "word"'),
        ("a: [1, 2\n", 2, 1, "not YAML"),
        ("a:\n\tb: 1\n", 2, 1, "a tab stands where"),
        ("a: 1\n b: 2\n", 2, 3, "not YAML"),
        ("? [1]\n: 2\n", 1, 3, "a key must be a word, got a list"),
        ("a: 010\n", 1, 4, "starts with 0"),
        ('a: "\\ud800"\n', 1, 4, "surrogate"),
        ('a: "\\U99999999"\n', 1, 1, "not YAML"),
        ("a: b\x07c\n", 1, 5, "U+0007"),
        (f"a: {'9' * 5000}\n", 1, 4, "too long"),
        ("a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), 1, 3 + MAX_DEPTH, "nested deeper"),
        (b"a: 1\nb: \xff\n", 2, 4, "byte 0xff is not UTF-8"),
        ("a: 1".encode("utf-16"), 0, 0, "UTF-16"),
        (b"#" * (MAX_FILE_BYTES + 1), 0, 0, "larger than"),
    ],
)
def test_what_is_refused_is_named_with_its_place(text: str | bytes, line: int, column: int, words: str) -> None:
    problem = read(text).problems[0]
    assert (problem.line, problem.column) == (line, column)
    assert words in problem.message


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    levels = ["a: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    source = read("\n".join(levels))
    assert source.values == {}
    assert any("aliases" in problem.message for problem in source.problems)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null\n", "~"])
def test_an_empty_file_is_an_empty_config(text: str) -> None:
    source = read(text)
    assert (source.values, source.problems) == ({}, [])


def test_variables_are_put_into_values_and_never_into_keys() -> None:
    text = "a: ${N}\nb: '${N}'\n${N}: x\nc: p-${N}-${M:-d}\nd: $${N}\ne: ${E:-}\nf: ${E:-z}\ng: 5$\n"
    source = read(text, N="7", E="")
    assert source.problems == []
    assert source.values == {"a": 7, "b": "7", "${N}": "x", "c": "p-7-d", "d": "${N}", "e": None, "f": "z", "g": "5$"}
    assert source.places[("a",)].expression == "${N}"
    assert source.places[("d",)].expression is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("${GONE}", "GONE is not set"),
        ("x${", "never closed"),
        ("${1a}", "names no variable"),
        ("${}", "names no variable"),
    ],
)
def test_a_variable_that_cannot_be_put_in_is_a_problem(value: str, words: str) -> None:
    source = read(f"a:\n  b: '{value}'\n")
    assert [(p.line, p.column, p.key_path) for p in source.problems] == [(2, 6, "a.b")]
    assert words in source.problems[0].message


def test_a_variable_with_undecodable_bytes_is_a_problem() -> None:
    assert "not UTF-8" in read("a: ${X}\n", X="\udcff").problems[0].message
