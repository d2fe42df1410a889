"""Source code: definitions with their comments, enclosing names, and code that is none."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ragstack.parsing.code as code_module
from ragstack.types import Document


def outline(document: Document) -> list[tuple[tuple[str, ...], str]]:
    data = document.canonical_bytes
    return [(b.scope, data[b.byte_start : b.byte_end].decode("utf-8")) for b in document.blocks]


def test_python(parse) -> None:
    code = (
        '# licence é\n\n"""Module."""\nimport os\nfrom a import b\n\nX = 1  # one\n\n# about f\n@deco\ndef f(x):\n'
        "    def inner(): pass\n    return 1  # end\n\n\nclass A(B):\n    y = 1\n\n    # about m\n"
        "    async def m(self):\n        pass\n\n    class I:\n        def n(self): pass\n\n\nif X:\n    f(X)\n"
    )
    document = parse(code.encode(), "a.py")
    assert outline(document) == [
        ((), '# licence é\n\n"""Module."""'),
        ((), "import os\nfrom a import b"),
        ((), "X = 1  # one"),
        (("def f",), "# about f\n@deco\ndef f(x):\n    def inner(): pass\n    return 1  # end"),
        (("class A",), "class A(B):\n    y = 1"),
        (("class A", "def m"), "# about m\n    async def m(self):\n        pass"),
        (("class A", "class I"), "class I:"),
        (("class A", "class I", "def n"), "def n(self): pass"),
        ((), "if X:\n    f(X)"),
    ]
    assert document.metadata == {"language": "python"}
    assert {b.language for b in document.blocks} == {"python"}


@pytest.mark.parametrize(
    ("path", "code", "scopes"),
    [
        ("a.js", "export class A { m() {} }\nconst f = () => 1;\nvar x = 2;", ["class A", "class A/m", "const f", ""]),
        ("a.ts", "interface I { x: number }\nnamespace N { export function f() {} }",
         ["interface I", "namespace N", "namespace N/function f"]),
        ("a.tsx", "export function V() { return <p/>; }", ["function V"]),
        ("a.go", "package p\n\n// d\nfunc (r *R) M() {}\nfunc F() {}\ntype T struct{}",
         ["", "func (r *R) M", "func F", "type T"]),
        ("a.rs", "use a;\n/// d\n#[x]\nfn f() {}\nimpl T for S { fn m(&self) {} }",
         ["", "fn f", "impl T for S", "impl T for S/fn m"]),
        ("A.java", "import a.b;\nclass A { int x; A() {} void m() {} }\nenum E { X; void z() {} }",
         ["", "class A", "class A/A", "class A/m", "enum E", "enum E/z"]),
        ("a.c", "#include <a>\nstatic int *f(int a) { return 0; }\n#ifdef A\nint g(void) {}\n#endif",
         ["", "f", "", "g"]),
        ("a.h", "namespace n { class A { void m() {} }; }\ntemplate <class T> T f(T a) { return a; }",
         ["namespace n", "namespace n/class A", "namespace n/class A/m", "f"]),
        ("a.cs", "using A;\nnamespace N { class B { void M() {} } }",
         ["", "namespace N", "namespace N/class B", "namespace N/class B/M"]),
        ("a.rb", "module M\n  class A\n    def m; end\n    def self.n; end\n  end\nend",
         ["module M", "module M/class A", "module M/class A/def m", "module M/class A/def self.n"]),
        ("a.sh", "#!/bin/bash\nset -e\nf() { echo; }", ["", "function f"]),
    ],
)  # fmt: skip
def test_languages(parse, path: str, code: str, scopes: list[str]) -> None:
    assert ["/".join(block.scope) for block in parse(code.encode(), path).blocks] == scopes


def test_no_grammar_is_cut_at_blank_lines(parse) -> None:
    document = parse(b"fun a() {\r\n}\r\n\r\nfun b() {}\n", "a.kt")
    assert outline(document) == [((), "fun a() {\r\n}"), ((), "fun b() {}")]
    assert document.metadata["language"] == "kotlin"


def test_code_that_takes_too_long_is_cut_at_blank_lines(parse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_module, "_PARSE_SECONDS", -1e9)
    document = parse(b"def f():\n    pass\n\n" * 2000, "a.py")
    assert "too long" in document.metadata["structure"]
    assert len(document.blocks) == 2000


MARKS = [
    "def f(x):\n",
    "class A:\n",
    "    ",
    "\n",
    "\r\n",
    "\r",
    "pass\n",
    "# c\n",
    "@d\n",
    "import a\n",
    "{",
    "}",
    "(",
    ")",
    "'",
    '"""',
    "\\",
    "é",
    "😀",
    "\x00",
    "if x:\n",
    "function f() {",
    ";",
    "//c\n",
    "/*",
    "*/",
    "<",
    "=>",
    "#if A\n",
    "#endif\n",
    "<<A\n",
    "class B {",
    "fn x() {",
    "end\n",
    "\u2028",
    "\x0c",
]


@given(
    st.lists(st.sampled_from(MARKS), max_size=50).map("".join),
    st.sampled_from(["py", "js", "ts", "tsx", "go", "rs", "java", "c", "cpp", "cs", "rb", "sh", "kt"]),
)
def test_broken_code_still_gives_sorted_complete_blocks(parse, text: str, extension: str) -> None:
    data = b"text that is surely no UTF-16\n" + text.encode("utf-8")
    document = parse(data, f"a.{extension}")
    outside = bytearray(data)
    position = 0
    for block in document.blocks:
        assert position <= block.byte_start < block.byte_end <= len(data)
        data[block.byte_start : block.byte_end].decode("utf-8")
        outside[block.byte_start : block.byte_end] = b" " * (block.byte_end - block.byte_start)
        position = block.byte_end
    assert not outside.strip(b" \t\r\n\f\v")


@pytest.mark.parametrize("name", ["a.cs", "a.java", "a.cpp", "a.ts"])
def test_open_generics_do_not_take_the_machine(parse, name: str) -> None:
    document = parse(b"a<" * 50_000, name)
    assert document.metadata["structure"].startswith("cut at blank lines")
    assert document.blocks


def test_the_text_is_let_go_after_parsing(parse) -> None:
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(20):
            parse((f"x = {number}\n" + "def f(a):\n    return a\n" * 2_000).encode(), "a.py")
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 300_000, "20 texts of 50 kB each were parsed"
