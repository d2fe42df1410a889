"""Source code: the whole file is the canonical text; its blocks are definitions found by tree-sitter.

Each top-level definition is a block, with the comments directly above it and its decorators. A class
gives one block for its header and one for each method; imports are one block, and so is each run of
other statements. ``Block.scope`` is the chain of enclosing definitions, the block's own included.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tree_sitter import Node, Parser, Tree

from ragstack.parsing.base import RawSource
from ragstack.parsing.code_languages import Grammar, language_of, tree_sitter_language
from ragstack.parsing.encoding import decode
from ragstack.parsing.lines import paragraph_ranges
from ragstack.types import Block, Document

# Larger files are generated data; a syntax tree takes about 50 bytes for each byte of text.
MAX_TREE_BYTES = 8_000_000
# Grammars with generics keep every reading of an open "<" alive: 10 KB of "a<" in C# takes 300 MB, 100 KB
# more than a machine has. Comparisons leave "<" open too, but not this many in code that people write.
_MAX_OPEN_ANGLES = 5000
# Other grammars are quadratic on input made for it; ordinary code takes about 1 s of CPU time a megabyte.
_PARSE_SECONDS = 2.0
_PARSE_SECONDS_PER_BYTE = 10e-6
_READ_BYTES = 65536
# Reading through a callback leaks about 2 KB a file in the binding; nothing this short takes long.
_MIN_TIMED_BYTES = 16384
_MAX_SCOPE_DEPTH = 8
_MAX_TITLE_CHARS = 120
_SPACE_RUN = re.compile(r"\s+")
_SPACES = b" \t\r\n\f\v"
_ONE_LINE_END = re.compile(rb"[ \t\f\v;,]*(?:\r\n|\r|\n)?[ \t\f\v]*")
_FUNCTION_VALUES = frozenset(
    {"arrow_function", "function_expression", "generator_function", "function", "class", "class_expression"}
)


class CodeParser:
    """The parser of source code; the media type names the language."""

    name = "code"
    version = "1"

    def parse(self, raw: RawSource) -> Iterable[Document]:
        """One document; ``metadata["language"]`` is the programming language.

        Code that does not parse still gives blocks, for tree-sitter recovers. Languages without a
        grammar and files above 8 MB are cut at blank lines; so are files that are built to take
        tree-sitter minutes, and ``metadata["structure"]`` then says so. Raises SourceError for bytes
        that are not UTF-8 text.
        """
        decoded = decode(raw)
        data = decoded.text.encode("utf-8")
        language = language_of(raw.media_type)
        metadata = {"language": language.name}
        blocks: list[Block] | None = None
        if language.grammar is not None and len(data) <= MAX_TREE_BYTES:
            tree = None if _open_angles(data) > _MAX_OPEN_ANGLES else _tree(data, language.grammar)
            if tree is None:
                metadata["structure"] = "cut at blank lines: the code takes too long to parse"
            else:
                blocks = list(_definition_blocks(tree, data, language.grammar, language.name))
        if blocks is None:
            blocks = [Block("code", *span, language=language.name) for span in paragraph_ranges(data)]
        yield Document(
            source=raw.source,
            text=decoded.text,
            media_type=raw.media_type,
            source_encoding=decoded.encoding,
            source_map=decoded.source_map,
            metadata=metadata,
            blocks=tuple(blocks),
        )


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a block starts; it ends where the next one starts, so that no byte is lost."""

    byte: int
    scope: tuple[str, ...]


def _open_angles(data: bytes) -> int:
    """How many more ``<`` than ``>`` there are, shifts and ``<=`` left out."""
    opened = data.count(b"<") - 2 * data.count(b"<<") - data.count(b"<=")
    return opened - data.count(b">")


def _tree(data: bytes, grammar: Grammar) -> Tree | None:
    """The syntax tree; None when it takes more CPU time than ten times what code of this size needs."""
    parser = Parser(tree_sitter_language(grammar.module, grammar.function))
    if len(data) < _MIN_TIMED_BYTES:
        return parser.parse(data)
    deadline = time.thread_time() + _PARSE_SECONDS + len(data) * _PARSE_SECONDS_PER_BYTE
    late = False
    views: list[memoryview] = []

    def read(offset: int, _point: object) -> memoryview:
        views.append(memoryview(data)[offset : offset + _READ_BYTES])
        return views[-1]

    def stop(_offset: int, _has_error: bool) -> bool:
        nonlocal late
        late = time.thread_time() > deadline
        return late

    try:
        # Progress is only reported when the text is read through a callback.
        return parser.parse(read, progress_callback=stop)
    except ValueError:
        if not late:
            raise
        return None
    finally:
        # The binding (0.26.1) never frees what it read; released, a view at least no longer holds the text.
        for view in views:
            view.release()


def _definition_blocks(tree: Tree, data: bytes, grammar: Grammar, language: str) -> Iterator[Block]:
    starts = list(_starts(tree.root_node.children, grammar, data, ()))
    bounds = [0, *(start.byte for start in starts[1:]), len(data)] if starts else [0, len(data)]
    scopes = [start.scope for start in starts] or [()]
    for first, last, scope in zip(bounds, bounds[1:], scopes, strict=False):
        start, end = first, last
        while end > start and data[end - 1] in _SPACES:
            end -= 1
        while start < end and data[start] in _SPACES:
            start += 1
        if end > start:
            yield Block("code", start, end, language=language, scope=scope)


def _starts(nodes: Iterable[Node], grammar: Grammar, data: bytes, scope: tuple[str, ...]) -> Iterator[_Start]:
    """Block starts among sibling ``nodes``: one a definition, one a run of imports, one a run of the rest."""
    run = ""  # "imports" or "rest" while such a run is open
    comments: _Comments | None = None  # what the next definition may own
    previous_end = 0
    for node in nodes:
        if not node.is_named:
            continue
        gap = data[previous_end : node.start_byte]
        detached = comments is not None and _ONE_LINE_END.fullmatch(gap) is None
        if comments is not None and detached:
            if not run:
                yield _Start(comments.byte, scope)
                run = "rest"
            comments = None
        start = node.start_byte if comments is None else comments.byte
        kind = _kind(node, grammar, len(scope))
        if kind == "comment":
            # A comment that ends a line of code belongs to that code.
            if comments is None and (previous_end == 0 or b"\n" in gap or b"\r" in gap):
                comments = _Comments(node.start_byte)
        elif kind == "definition":
            definition = _definition(node, grammar)
            assert definition is not None
            title = _title(definition, grammar, data)
            inner = (*scope, title) if title else scope
            yield _Start(start, inner)
            yield from _members(definition, grammar, data, inner)
            run = ""
        elif kind == "transparent":
            if run != "rest":
                yield _Start(start, scope)
            yield from _starts(_flattened(node, grammar), grammar, data, scope)
            run = ""
        elif kind != run:
            yield _Start(start, scope)
            run = kind
        if kind != "comment":
            comments = None
        previous_end = node.end_byte
    if comments is not None and not run:
        yield _Start(comments.byte, scope)


@dataclass(frozen=True, slots=True)
class _Comments:
    """Comments with nothing but single line ends between them; ``byte`` is where the first starts."""

    byte: int


def _kind(node: Node, grammar: Grammar, depth: int) -> str:
    if "comment" in node.type or node.type == "attribute_item":
        return "comment"
    if _definition(node, grammar) is not None:
        return "definition"
    if node.type in grammar.transparent and depth < _MAX_SCOPE_DEPTH and _has_definition(node, grammar):
        return "transparent"
    return "imports" if node.type in grammar.imports else "rest"


def _members(definition: Node, grammar: Grammar, data: bytes, scope: tuple[str, ...]) -> Iterator[_Start]:
    if definition.type not in grammar.containers or len(scope) >= _MAX_SCOPE_DEPTH:
        return
    body = definition.child_by_field_name("body")
    if body is None or not _has_definition(body, grammar):
        return
    members = _starts(body.children, grammar, data, scope)
    first = next(members, None)
    if first is not None:
        # Fields and a docstring at the top of a class belong to its header.
        if first.scope != scope:
            yield first
        yield from members


def _flattened(node: Node, grammar: Grammar) -> list[Node]:
    """The members of a transparent node and of those inside it, without the condition of an ``#if``."""
    # A stack, not recursion: #if groups nest as deep as their author likes.
    flat: list[Node] = []
    stack = [node]
    while stack:
        top = stack.pop()
        if top.type in grammar.transparent:
            heads = {top.child_by_field_name(name) for name in ("name", "condition", "value")}
            stack.extend(child for child in reversed(top.children) if child not in heads)
        else:
            flat.append(top)
    return flat


def _has_definition(node: Node, grammar: Grammar) -> bool:
    stack = list(node.children)
    while stack:
        child = stack.pop()
        if _definition(child, grammar) is not None:
            return True
        if child.type in grammar.transparent:
            stack.extend(child.children)
    return False


def _definition(node: Node, grammar: Grammar) -> Node | None:
    """The definition that ``node`` is or wraps; None for any other statement."""
    for _ in range(4):
        if node.type in ("lexical_declaration", "variable_declaration"):
            return node if _function_declarator(node) is not None else None
        if node.type in grammar.containers or node.type in grammar.leaves:
            needs_body = node.type.endswith("_specifier")
            return node if not needs_body or node.child_by_field_name("body") is not None else None
        if node.type not in grammar.wrappers:
            return None
        inner = next(
            (
                child
                for child in node.named_children
                if child.type in grammar.containers or child.type in grammar.leaves or child.type in grammar.wrappers
            ),
            None,
        )
        if inner is None:
            return None
        node = inner
    return None


def _function_declarator(node: Node) -> Node | None:
    for child in node.named_children:
        value = child.child_by_field_name("value") if child.type == "variable_declarator" else None
        if value is not None and value.type in _FUNCTION_VALUES:
            return child
    return None


def _title(node: Node, grammar: Grammar, data: bytes) -> str:
    """Keyword and name of a definition, such as ``class Foo``, ``impl Read for File``, ``func (r *R) Close``."""
    keyword = grammar.containers.get(node.type) or grammar.leaves.get(node.type, "")
    end = node.child_by_field_name("body") or node.child_by_field_name("parameters")
    if node.type == "impl_item" or (node.type == "method_declaration" and node.child_by_field_name("receiver")):
        end = node.child_by_field_name("parameters") or end
        return _plain(data[node.start_byte : end.start_byte if end is not None else node.end_byte])
    name = node.child_by_field_name("name")
    declarator = _function_declarator(node)
    if declarator is not None:
        name = declarator.child_by_field_name("name")
        keyword = _plain(data[node.start_byte : node.children[0].end_byte])
    elif node.type == "type_declaration":  # Go: the name is in the specification inside
        spec = next(iter(node.named_children), None)
        name = spec.child_by_field_name("name") if spec is not None else None
    elif name is None:
        name = _declared_name(node)
    text = _plain(data[name.start_byte : name.end_byte]) if name is not None else ""
    if keyword.endswith("."):
        return keyword + text
    return f"{keyword} {text}".strip()


def _declared_name(node: Node) -> Node | None:
    """The name inside C declarators: ``f`` of ``static int *f(int a)``."""
    inner = node.child_by_field_name("declarator")
    for _ in range(16):
        deeper = inner.child_by_field_name("declarator") if inner is not None else None
        if inner is None or deeper is None:
            break
        inner = deeper
    return inner


def _plain(text: bytes) -> str:
    # Cut inside a character at worst, which the decoder then drops from a title.
    words = _SPACE_RUN.sub(" ", text[: 8 * _MAX_TITLE_CHARS].decode("utf-8", "ignore")).strip()
    return words if len(words) <= _MAX_TITLE_CHARS else words[: _MAX_TITLE_CHARS - 1].rstrip() + "…"
