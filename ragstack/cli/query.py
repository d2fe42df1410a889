"""``ragstack query``: ask the index."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import console, print_error, print_json, printable, uses_color
from ragstack.errors import FilterError, GenerationError, IndexNotFoundError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ragstack.api.discovery import RunningServer
    from ragstack.citations.chain import Chain, Citation, PassageLink, Place
    from ragstack.config.loader import LoadedConfig
    from ragstack.filters import Filter
    from ragstack.retrieval.explain.explanation import Explanation

_CONFIG_DIFFERS = (
    "note: the config has changed since the index was built; the index answers as it was built."
    " Run `ragstack index` to bring it in line."
)
_LINE_END = re.compile(r"\r\n|\r|\n")


@with_epilog("""
Examples:
  ragstack query "How long are records kept?"
  ragstack query "..." --json > chain.json        the whole chain; check it with: ragstack verify chain.json
  ragstack query "..." --no-answer --top-n 5      the passages only
  ragstack query "..." --filter '{"field": "media_type", "op": "eq", "value": "text/markdown"}'
  ragstack query "..." --filter '{"not": {"field": "source_id", "op": "in", "value": ["docs/old.md"]}}'
  ragstack query "..." --explain docs/guide.md:12 why this line is not (or is) in the answer
  ragstack query "..." --explain '"ten years"'    the same for a text, wherever it is
  ragstack query "..." --explain                  how the passages were found, and what came close

What is explained may be FILE, FILE:LINE, FILE:FIRST-LAST, FILE@START-END (bytes), a source id, a chunk id or a text.
The answer is made of sentences of the corpus, word for word, each with the number of its source. When no
passage is relevant, it says so and cites nothing. Filter operators: eq ne in nin gt gte lt lte exists contains.
""")
def query(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The question; - reads it from standard input.")],
    config: ConfigOption = None,
    top_n: Annotated[
        int | None,
        typer.Option("--top-n", min=1, help="Passages to keep; the config's top_n without it.", show_default=False),
    ] = None,
    filter: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help="Only chunks whose fields match.", show_default=False)
    ] = None,
    no_answer: Annotated[bool, typer.Option("--no-answer", help="Print the passages without an answer.")] = False,
    explain: Annotated[
        str | None,
        typer.Option(
            "--explain",
            metavar="[EXPECTED]",
            help="Explain what became of a passage (FILE:LINE, ...); alone: how the passages were found.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Ask the index: an answer with citations."""
    loaded = load(config)
    parsed = _parse_filter(filter)
    question = sys.stdin.read() if text == "-" else text
    explanation = None
    if explain is not None:
        explanation = _explain(loaded, question, explain or None, parsed, top_n, with_answer=not no_answer)
        chain = explanation.chain
    else:
        chain = _ask(loaded, question, parsed, top_n, with_answer=not no_answer)
    for reason in chain.query.reranker_errors:
        print(f"warning: not reranked as configured: {printable(reason)}", file=sys.stderr)
    if as_json:
        print_json((chain if explanation is None else explanation).to_json())
    elif explanation is not None:
        from ragstack.cli.explain_output import print_explanation

        print_explanation(explanation)
    elif no_answer or chain.answer is None:
        _print_passages(chain)
    else:
        _print_answer(chain)
    if chain.answer is not None and chain.answer.error is not None:
        error = chain.answer.error
        print_error(GenerationError(error.message, hint=error.hint))
        return GenerationError.exit_status
    return 0


def _ask(loaded: LoadedConfig, text: str, filter: Filter | None, top_n: int | None, *, with_answer: bool) -> Chain:
    """The chain, from the server that holds the index where there is one."""
    from ragstack.cli.forward import ServerGoneError, forward_query, server_of

    state_dir = Path(loaded.config.indexer.state_dir)
    server = server_of(state_dir)
    if server is not None:
        with suppress(ServerGoneError):  # it ended meanwhile: the index is free
            _note_other_config(loaded, server)
            return forward_query(server, text, filter, top_n, with_answer)
    from ragstack.retrieval.engine import QueryEngine, QueryRequest

    with QueryEngine(loaded.config, state_dir) as engine:
        if engine.config_differs:
            print(_CONFIG_DIFFERS, file=sys.stderr)
        engine.warm_up()
        return engine.query(QueryRequest(text, filter, top_n, with_answer))


def _explain(
    loaded: LoadedConfig,
    text: str,
    expected: str | None,
    filter: Filter | None,
    top_n: int | None,
    *,
    with_answer: bool,
) -> Explanation:
    """The explanation, from the server that holds the index where there is one."""
    from ragstack.cli.forward import ServerGoneError, forward_explain, server_of

    server = server_of(Path(loaded.config.indexer.state_dir))
    if server is not None:
        with suppress(ServerGoneError):
            _note_other_config(loaded, server)
            return forward_explain(server, text, expected, filter, top_n, with_answer)
    from ragstack.pipeline import Pipeline

    with closing(Pipeline(loaded)) as pipeline:
        if pipeline.engine.config_differs:
            print(_CONFIG_DIFFERS, file=sys.stderr)
        return pipeline.explain(text, expected, filter=filter, top_n=top_n, with_answer=with_answer)


def _note_other_config(loaded: LoadedConfig, server: RunningServer) -> None:
    from ragstack.api.discovery import config_digest
    from ragstack.ledger.snapshot import SnapshotReader
    from ragstack.retrieval.generation_parts import as_indexed

    if config_digest(loaded.config) != server.config_digest:
        print(f"note: the server at {server.url}, which has the index, answers by its own config.", file=sys.stderr)
        return
    with suppress(IndexNotFoundError), closing(SnapshotReader(Path(loaded.config.indexer.state_dir))) as ledger:
        if as_indexed(loaded.config, ledger.read()) != loaded.config:
            print(_CONFIG_DIFFERS, file=sys.stderr)


def _parse_filter(text: str | None) -> Filter | None:
    if text is None:
        return None
    from ragstack.filters import parse_filter

    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FilterError(f"--filter is not JSON: {error}.", hint="Quote the whole filter for the shell.") from error
    return parse_filter(value, where="--filter")


def _print_answer(chain: Chain) -> None:
    from rich.text import Text

    answer = chain.answer
    out = console()
    if answer is not None and answer.error is not None and not answer.sentences:
        _print_passages(chain)
        return
    if answer is None or not answer.sentences:
        if not chain.candidates:
            out.print(_nothing_searched(chain))
            return
        out.print("Nothing in the corpus answers this.")
        if chain.passages:
            out.print(f"The nearest passage is in {_where(chain.passages[0].place)}.")
        return
    out.print(
        Text(printable(answer.text), style="bold" if uses_color(sys.stdout) else ""), soft_wrap=not out.is_terminal
    )
    out.print()
    passages = {passage.rank: passage for passage in chain.passages}
    by_marker: dict[int, list[Citation]] = {}
    for citation in answer.citations:
        by_marker.setdefault(citation.marker, []).append(citation)
    for marker, citations in by_marker.items():
        passage = passages[citations[0].passage_rank]
        out.print(_heading(f"[{marker}]", passage.place, citations[0].place), soft_wrap=True)
        _print_indented(out, _highlighted(passage.place, citations))
        _print_duplicates(passage)
        out.print()


def _nothing_searched(chain: Chain) -> str:
    if chain.query.filter is not None:
        return "No chunk matches the filter."
    if chain.query.mode == "sparse":
        return "No chunk has a word of this."
    return "The index holds no chunks. Run `ragstack index` and see what it says."


def _print_indented(out: Console, text: Text) -> None:
    """Folded to the terminal's width; elsewhere each line stays one line."""
    from rich.padding import Padding

    if out.is_terminal:
        out.print(Padding(text, (0, 0, 0, 4)))
        return
    for line in text.split("\n"):
        line.rstrip()  # in place
        out.print("    " if line else "", line, sep="", soft_wrap=True)


def _print_passages(chain: Chain) -> None:
    out = console()
    if not chain.passages:
        out.print("Nothing in the corpus is relevant to this." if chain.candidates else _nothing_searched(chain))
    for passage in chain.passages:
        out.print(_heading(f"{passage.rank}.", passage.place, passage.place), soft_wrap=True)
        _print_indented(out, _highlighted(passage.place, ()))
        _print_duplicates(passage)
        stages = "".join(
            f", {stage.reranker} {f'#{stage.rank}' if stage.rank else 'failed'}" for stage in passage.stages
        )
        scores = f"score {passage.score:.3f}, relevance {passage.relevance:.3f}{printable(stages)}"
        out.print(scores, style="dim", soft_wrap=True)
        out.print()


def _print_duplicates(passage: PassageLink) -> None:
    if passage.duplicates:
        places = ", ".join(_where(duplicate.place) for duplicate in passage.duplicates)
        console().print(f"the same words in {places}", style="dim", markup=False, soft_wrap=True)


def _heading(label: str, passage: Place, quoted: Place) -> Text:
    from rich.text import Text

    line = Text(f"{label} ", style="bold cyan")
    line.append(_where(quoted), style="cyan")
    if passage.heading_path:
        line.append(f"  {printable(' > '.join(passage.heading_path))}", style="dim")
    return line


def _where(place: Place) -> str:
    from ragstack.source_names import path_of_uri

    path = path_of_uri(place.source_uri)
    name = place.source_id
    if path is not None:
        relative = os.path.relpath(path)
        name = str(path) if relative.startswith("..") else relative
    shown = printable(name).replace("\n", "\\n")
    return f"{shown}:{place.line_start}"


def _highlighted(passage: Place, citations: Sequence[Citation]) -> Text:
    """The passage with the quoted bytes marked: by colour on a terminal, by » « elsewhere."""
    from rich.text import Text

    data = passage.text.encode("utf-8")
    color = uses_color(sys.stdout)
    text = Text()
    position = 0
    for citation in sorted(citations, key=lambda c: c.place.byte_start):
        start, end = citation.place.byte_start - passage.byte_start, citation.place.byte_end - passage.byte_start
        text.append(_shown(data[position:start]), style="dim")
        quote = _shown(data[start:end])
        text.append(quote if color else f"»{quote}«", style="black on yellow" if color else "")
        position = end
    text.append(_shown(data[position:]), style="dim" if citations else "")
    return text


def _shown(data: bytes) -> str:
    """Text with control characters escaped."""
    return "\n".join(printable(line) for line in _LINE_END.split(data.decode("utf-8")))
