"""Programming languages by media type: name, tree-sitter grammar, and which syntax nodes are definitions.

To add a grammar: its wheel to the dependencies, one ``Grammar`` here, one row in the table. A language
without a grammar is cut at blank lines; its row only names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module

from tree_sitter import Language


@dataclass(frozen=True, slots=True)
class Grammar:
    """``module`` and ``function`` give the tree-sitter language.

    ``leaves`` and ``containers`` map node types to the keyword shown before the name; members of a
    container become blocks of their own. ``wrappers`` hold one definition together with its
    decorators or modifiers; ``transparent`` nodes only group members; ``imports`` stay together.
    """

    module: str
    leaves: Mapping[str, str]
    containers: Mapping[str, str] = field(default_factory=dict)
    wrappers: frozenset[str] = frozenset()
    transparent: frozenset[str] = frozenset()
    imports: frozenset[str] = frozenset()
    function: str = "language"


@dataclass(frozen=True, slots=True)
class CodeLanguage:
    """``name`` is the ``language`` of the blocks; ``grammar`` None where there is none."""

    name: str
    grammar: Grammar | None = None


_PYTHON = Grammar(
    "tree_sitter_python",
    leaves={"function_definition": "def"},
    containers={"class_definition": "class"},
    wrappers=frozenset({"decorated_definition"}),
    imports=frozenset({"import_statement", "import_from_statement", "future_import_statement"}),
)
_JS_LEAVES = {
    "function_declaration": "function",
    "generator_function_declaration": "function",
    "method_definition": "",
    "lexical_declaration": "const",
    "variable_declaration": "var",
}
_JAVASCRIPT = Grammar(
    "tree_sitter_javascript",
    leaves=_JS_LEAVES,
    containers={"class_declaration": "class", "class": "class"},
    wrappers=frozenset({"export_statement"}),
    imports=frozenset({"import_statement"}),
)
_TS_LEAVES = {
    **_JS_LEAVES,
    "function_signature": "function",
    "abstract_method_signature": "",
    "interface_declaration": "interface",
    "type_alias_declaration": "type",
    "enum_declaration": "enum",
}
_TS_CONTAINERS = {
    "class_declaration": "class",
    "abstract_class_declaration": "class",
    "internal_module": "namespace",
    "module": "module",
}
_TS_WRAPPERS = frozenset({"export_statement", "ambient_declaration", "expression_statement"})
_TYPESCRIPT = Grammar(
    "tree_sitter_typescript",
    leaves=_TS_LEAVES,
    containers=_TS_CONTAINERS,
    wrappers=_TS_WRAPPERS,
    imports=frozenset({"import_statement"}),
    function="language_typescript",
)
_TSX = Grammar(
    "tree_sitter_typescript",
    leaves=_TS_LEAVES,
    containers=_TS_CONTAINERS,
    wrappers=_TS_WRAPPERS,
    imports=frozenset({"import_statement"}),
    function="language_tsx",
)
_GO = Grammar(
    "tree_sitter_go",
    leaves={"function_declaration": "func", "method_declaration": "func", "type_declaration": "type"},
    imports=frozenset({"package_clause", "import_declaration"}),
)
_RUST = Grammar(
    "tree_sitter_rust",
    leaves={
        "function_item": "fn",
        "function_signature_item": "fn",
        "struct_item": "struct",
        "enum_item": "enum",
        "union_item": "union",
        "type_item": "type",
        "macro_definition": "macro",
    },
    containers={"impl_item": "impl", "trait_item": "trait", "mod_item": "mod"},
    imports=frozenset({"use_declaration", "extern_crate_declaration"}),
)
_JAVA = Grammar(
    "tree_sitter_java",
    leaves={"method_declaration": "", "constructor_declaration": "", "compact_constructor_declaration": ""},
    containers={
        "class_declaration": "class",
        "interface_declaration": "interface",
        "enum_declaration": "enum",
        "record_declaration": "record",
        "annotation_type_declaration": "@interface",
    },
    transparent=frozenset({"enum_body_declarations"}),
    imports=frozenset({"package_declaration", "import_declaration"}),
)
_C_TRANSPARENT = frozenset(
    {"preproc_ifdef", "preproc_if", "preproc_else", "preproc_elif", "linkage_specification", "declaration_list"}
)
_C_LEAVES = {
    "function_definition": "",
    "struct_specifier": "struct",
    "union_specifier": "union",
    "enum_specifier": "enum",
}
_C = Grammar(
    "tree_sitter_c",
    leaves=_C_LEAVES,
    transparent=_C_TRANSPARENT,
    imports=frozenset({"preproc_include"}),
)
_CPP = Grammar(
    "tree_sitter_cpp",
    leaves={**_C_LEAVES, "concept_definition": "concept"},
    containers={"class_specifier": "class", "struct_specifier": "struct", "namespace_definition": "namespace"},
    wrappers=frozenset({"template_declaration"}),
    transparent=_C_TRANSPARENT,
    imports=frozenset({"preproc_include", "using_declaration"}),
)
_C_SHARP = Grammar(
    "tree_sitter_c_sharp",
    leaves={
        "method_declaration": "",
        "constructor_declaration": "",
        "destructor_declaration": "",
        "operator_declaration": "operator",
        "enum_declaration": "enum",
        "delegate_declaration": "delegate",
        "local_function_statement": "",
    },
    containers={
        "namespace_declaration": "namespace",
        "class_declaration": "class",
        "interface_declaration": "interface",
        "struct_declaration": "struct",
        "record_declaration": "record",
    },
    wrappers=frozenset({"global_statement"}),
    imports=frozenset({"using_directive", "extern_alias_directive"}),
)
_RUBY = Grammar(
    "tree_sitter_ruby",
    leaves={"method": "def", "singleton_method": "def self."},
    containers={"class": "class", "module": "module"},
)
_BASH = Grammar("tree_sitter_bash", leaves={"function_definition": "function"})

_LANGUAGES: dict[str, CodeLanguage] = {
    "text/x-python": CodeLanguage("python", _PYTHON),
    "text/javascript": CodeLanguage("javascript", _JAVASCRIPT),
    "text/x-typescript": CodeLanguage("typescript", _TYPESCRIPT),
    "text/x-tsx": CodeLanguage("tsx", _TSX),
    "text/x-go": CodeLanguage("go", _GO),
    "text/x-rust": CodeLanguage("rust", _RUST),
    "text/x-java": CodeLanguage("java", _JAVA),
    "text/x-c": CodeLanguage("c", _C),
    "text/x-c++": CodeLanguage("cpp", _CPP),
    "text/x-csharp": CodeLanguage("csharp", _C_SHARP),
    "text/x-ruby": CodeLanguage("ruby", _RUBY),
    "text/x-shellscript": CodeLanguage("bash", _BASH),
}


def language_of(media_type: str) -> CodeLanguage:
    """The language of a media type; without a row, its name is what follows ``text/x-`` or the slash."""
    known = _LANGUAGES.get(media_type)
    return known or CodeLanguage(media_type.rpartition("/")[2].removeprefix("x-"))


@cache
def tree_sitter_language(module: str, function: str) -> Language:
    """Load a grammar once."""
    return Language(getattr(import_module(module), function)())
