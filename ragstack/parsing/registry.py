"""Which parser reads what: file name → media type → parser.

A format is one module with its parser, one row in ``FORMATS`` and, for a new parser, one entry in
``PARSERS``. A row without a parser names a format that is known and not read: its files are reported
as unsupported and never indexed as a soup of markup.

Third parties add a parser through an entry point of the group ``ragstack.parsers``. An entry point
named after a media type (``application/pdf = mypackage.pdf:PdfParser``) takes over that media type;
:func:`register_format` adds extensions that are not in the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import PurePosixPath

from ragstack.errors import InputError
from ragstack.parsing.base import Parser
from ragstack.parsing.encoding import sniff
from ragstack.registry import Entry, Registry

__all__ = [
    "FORMATS",
    "PARSERS",
    "Format",
    "is_supported",
    "media_type_of",
    "parser_for",
    "parser_name_of",
    "register_format",
    "sniff",
]

PARSERS = Registry(
    "parsers",
    {
        "code": Entry("ragstack.parsing.code:CodeParser"),
        "markdown": Entry("ragstack.parsing.markdown:MarkdownParser"),
        "text": Entry("ragstack.parsing.text:TextParser"),
    },
)


@dataclass(frozen=True, slots=True)
class Format:
    """One media type: its parser (None: known, not read), and the extensions and whole file names that mean it.

    ``extensions`` (without the dot) and ``names`` are lower-case and separated by spaces.
    """

    media_type: str
    parser: str | None
    extensions: str = ""
    names: str = ""


FORMATS: list[Format] = [
    Format("text/markdown", "markdown", "md markdown mdown mkd mkdn mdwn mdx rmd qmd livemd"),
    Format(
        "text/plain",
        "text",
        "txt text log rst rest org adoc asciidoc asc tex ltx sty bib textile wiki mediawiki creole pod man"
        " cfg conf ini env properties toml yaml yml json json5 jsonc srt vtt diff patch gitignore dockerignore"
        " editorconfig gitattributes",
        "readme license licence copying notice authors contributors changelog changes history news todo install"
        " makefile dockerfile containerfile jenkinsfile vagrantfile procfile codeowners",
    ),
    # Code with a grammar, and code that is cut at blank lines; see ragstack.parsing.code_languages.
    Format("text/x-python", "code", "py pyi pyw", "sconstruct sconscript"),
    Format("text/javascript", "code", "js mjs cjs jsx"),
    Format("text/x-typescript", "code", "ts mts cts"),
    Format("text/x-tsx", "code", "tsx"),
    Format("text/x-go", "code", "go"),
    Format("text/x-rust", "code", "rs"),
    Format("text/x-java", "code", "java"),
    Format("text/x-c", "code", "c"),
    Format("text/x-c++", "code", "cpp cc cxx c++ h hpp hh hxx inl ipp cu cuh"),
    Format("text/x-csharp", "code", "cs csx"),
    Format("text/x-ruby", "code", "rb rake gemspec", "rakefile gemfile"),
    Format("text/x-shellscript", "code", "sh bash zsh ksh"),
    Format("text/x-clojure", "code", "clj cljs cljc edn"),
    Format("text/x-cmake", "code", "cmake", "cmakelists.txt"),
    Format("text/x-dart", "code", "dart"),
    Format("text/x-elixir", "code", "ex exs"),
    Format("text/x-erlang", "code", "erl hrl"),
    Format("text/x-fortran", "code", "f f77 f90 f95 f03 f08"),
    Format("text/x-fsharp", "code", "fs fsi fsx"),
    Format("text/x-graphql", "code", "graphql gql"),
    Format("text/x-groovy", "code", "groovy gradle"),
    Format("text/x-haskell", "code", "hs lhs"),
    Format("text/x-hcl", "code", "tf tfvars hcl"),
    Format("text/x-julia", "code", "jl"),
    Format("text/x-kotlin", "code", "kt kts"),
    Format("text/x-lisp", "code", "lisp el scm rkt"),
    Format("text/x-lua", "code", "lua"),
    Format("text/x-makefile", "code", "mk mak"),
    Format("text/x-nim", "code", "nim"),
    Format("text/x-objective-c", "code", "m mm"),
    Format("text/x-ocaml", "code", "ml mli"),
    Format("text/x-pascal", "code", "pas pp"),
    Format("text/x-perl", "code", "pl pm t"),
    Format("text/x-php", "code", "php"),
    Format("text/x-powershell", "code", "ps1 psm1"),
    Format("text/x-protobuf", "code", "proto"),
    Format("text/x-r", "code", "r"),
    Format("text/x-scala", "code", "scala sc"),
    Format("text/x-solidity", "code", "sol"),
    Format("text/x-sql", "code", "sql"),
    Format("text/x-swift", "code", "swift"),
    Format("text/x-verilog", "code", "v sv svh vhd vhdl"),
    Format("text/x-zig", "code", "zig"),
    Format("text/css", "code", "css scss sass less"),
    # Known formats that need a parser of their own: as plain text they would be markup or rows, not prose.
    Format("text/html", None, "html htm xhtml"),
    Format("application/xml", None, "xml xsl xslt xsd rss atom svg plist"),
    Format("text/csv", None, "csv"),
    Format("text/tab-separated-values", None, "tsv tab"),
    Format("application/jsonl", None, "jsonl ndjson"),
    Format("application/x-ipynb+json", None, "ipynb"),
    Format("application/mbox", None, "mbox"),
    Format("message/rfc822", None, "eml"),
    Format("application/pdf", None, "pdf"),
    Format("application/epub+zip", None, "epub"),
    Format("application/rtf", None, "rtf"),
    Format("application/msword", None, "doc dot"),
    Format("application/vnd.ms-excel", None, "xls"),
    Format("application/vnd.ms-powerpoint", None, "ppt"),
    Format("application/vnd.ms-outlook", None, "msg"),
    Format("application/vnd.openxmlformats-officedocument.wordprocessingml.document", None, "docx"),
    Format("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", None, "xlsx"),
    Format("application/vnd.openxmlformats-officedocument.presentationml.presentation", None, "pptx"),
    Format("application/vnd.oasis.opendocument.text", None, "odt"),
    Format("application/vnd.oasis.opendocument.spreadsheet", None, "ods"),
    Format("application/vnd.oasis.opendocument.presentation", None, "odp"),
    Format("application/zip", None, "zip"),
]


def register_format(row: Format) -> None:
    """Add a format, or extensions and names to a known media type.

    Raises ValueError when an extension or name already means another media type.
    """
    extensions, names = _by_extension(), _by_name()
    for known, words in ((extensions, row.extensions), (names, row.names)):
        for word in words.split():
            if known.get(word, row.media_type) != row.media_type:
                raise ValueError(f"{word!r} means {known[word]} already; refused {row.media_type}")
    for at, present in enumerate(FORMATS):
        if present.media_type == row.media_type:
            FORMATS[at] = replace(
                row,
                extensions=f"{present.extensions} {row.extensions}",
                names=f"{present.names} {row.names}",
                parser=row.parser or present.parser,
            )
            break
    else:
        FORMATS.append(row)
    for table in (_by_extension, _by_name, _by_media_type):
        table.cache_clear()


def media_type_of(path: str) -> str | None:
    """Media type by the file's name or extension, in any case of letters; None when they say nothing.

    ``path`` may be relative and use ``/`` or ``\\``. For None, ask :func:`sniff` with the content.
    """
    name = PurePosixPath(path.replace("\\", "/")).name.lower()
    by_name = _by_name().get(name)
    if by_name is not None:
        return by_name
    stem, dot, extension = name.rpartition(".")
    # The dot files .env and .gitignore have an extension and no stem.
    return _by_extension().get(extension) if dot and (stem or extension) else None


def parser_name_of(media_type: str) -> str | None:
    """Name of the parser of ``media_type`` in ``PARSERS``; None when nothing reads it."""
    row = _by_media_type().get(media_type)
    if row is not None and row.parser is not None:
        return row.parser
    return media_type if media_type in PARSERS.names() else None


def is_supported(media_type: str) -> bool:
    """True when :func:`parser_for` has a parser for ``media_type``."""
    return parser_name_of(media_type) is not None


def parser_for(media_type: str) -> Parser:
    """The parser of ``media_type``; one instance per parser, for parsers keep no state.

    Raises InputError for a media type that nothing reads.
    """
    name = parser_name_of(media_type)
    if name is None:
        readable = sorted(row.media_type for row in FORMATS if row.parser is not None)
        raise InputError(
            f"no parser reads {media_type}.",
            hint=f"Convert the file to text or Markdown, or install a parser for it. Read: {', '.join(readable)}.",
        )
    return _instance(name)


@cache
def _instance(name: str) -> Parser:
    parser: Parser = PARSERS.load(name)()
    return parser


@cache
def _by_extension() -> dict[str, str]:
    return {extension: row.media_type for row in FORMATS for extension in row.extensions.split()}


@cache
def _by_name() -> dict[str, str]:
    return {name: row.media_type for row in FORMATS for name in row.names.split()}


@cache
def _by_media_type() -> dict[str, Format]:
    return {row.media_type: row for row in FORMATS}
