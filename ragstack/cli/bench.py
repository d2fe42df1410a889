"""``ragstack bench``: how fast the config's models are, or a server's, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ragstack.cli.bench_options import (
    AddedTokensOption,
    ApiKeyOption,
    ApiOption,
    CardMonthOption,
    ConcurrencyOption,
    EncodingName,
    GpuHourOption,
    ModelOption,
    PriceOption,
    RateOption,
    RequestsOption,
    SecondsOption,
    ServerArguments,
    TimeoutOption,
    TokenizerOption,
    UrlOption,
    UtilisationOption,
    WarmUpOption,
    pace_of,
    prices_of,
)
from ragstack.cli.eval_options import HtmlOption, JsonFileOption, SeedOption, require_writable, write_text
from ragstack.cli.options import ConfigOption, JsonOption, load, with_epilog
from ragstack.cli.output import print_json, print_table
from ragstack.errors import InputError, InterruptedRunError

if TYPE_CHECKING:
    from ragstack.bench.costs import Prices
    from ragstack.bench.driver import Measured, Pace
    from ragstack.bench.opening import QueryOptions, ServerOptions, TextOptions
    from ragstack.bench.plan import BenchKind, Load
    from ragstack.bench.target import Endpoint
    from ragstack.config.loader import LoadedConfig

_MOST_CONCURRENT = 1024
_MOST_TEXTS = 4096


@dataclass(frozen=True)
class _Run:
    """One run of the command. ``json_file``, ``html``: where the report goes beside the tables."""

    kind: BenchKind
    config: Path | None
    server: ServerOptions | None
    loads: Sequence[Load]
    pace: Pace
    texts: TextOptions
    queries: QueryOptions
    prices: Prices | None
    json_file: str | None
    html: Path | None


@with_epilog("""
Examples:
  ragstack bench embed                                   the config's embedder, queries and passages
  ragstack bench embed --input passage --tokens 10-300   passages of mixed lengths, which shows the padding
  ragstack bench embed --url http://127.0.0.1:8000/v1 --api nim --model nvidia/nv-embedqa-e5-v5
  ragstack bench embed --url http://127.0.0.1:8080 --api tei --tokenizer tokenizer.json --html report.html
  ragstack bench embed --gpu-hour 1.04 --price-per-million .02    what tokens cost, and from which volume on it pays

The standard loads: queries of 20 tokens, one a request, 1 to 15 requests at a time; passages of 300 and 512 tokens, 64
a request, 1, 3 and 5 at a time. Tokens are those that the model reads, special ones and its prompt included.
Exit status 1: not one request was answered. docs/bench.md says how each figure is taken.
""")
def embed(
    config: ConfigOption = None,
    input_type: Annotated[
        Literal["query", "passage"] | None,
        typer.Option("--input", help="Only these; with --tokens or --batch: passage.", show_default=False),
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens", metavar="LIST", help="Tokens of a text: 300,512, or 10-300 mixed.", show_default=False
        ),
    ] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", metavar="LIST", help="Texts in a request.", show_default=False)
    ] = None,
    concurrency: ConcurrencyOption = None,
    seconds: SecondsOption = None,
    requests: RequestsOption = None,
    warm_up: WarmUpOption = None,
    request_rate: RateOption = None,
    seed: SeedOption = 0,
    url: UrlOption = None,
    api: ApiOption = None,
    model: ModelOption = None,
    api_key_env: ApiKeyOption = None,
    timeout: TimeoutOption = None,
    encoding_format: Annotated[
        EncodingName | None,
        typer.Option(
            "--encoding-format", help="How openai, nim and ragstack write vectors: float.", show_default=False
        ),
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option("--dimensions", min=1, metavar="N", help="Ask a server for so many.", show_default=False),
    ] = None,
    tokenizer: TokenizerOption = None,
    added_tokens: AddedTokensOption = None,
    gpu_hour: GpuHourOption = None,
    card_month: CardMonthOption = None,
    utilisation: UtilisationOption = None,
    price_per_million: PriceOption = None,
    json_file: JsonFileOption = None,
    html: HtmlOption = None,
) -> int:
    """Measure embedding: latency, tokens a second, padding, cost."""
    from ragstack.bench.opening import QueryOptions, TextOptions
    from ragstack.bench.plan import embed_loads, parse_numbers, parse_token_ranges
    from ragstack.embedding.base import InputType

    inputs: list[InputType] = ["query", "passage"]
    if input_type is not None or tokens is not None or batch is not None:
        inputs = [input_type or "passage"]
    loads = embed_loads(
        inputs,
        None if tokens is None else parse_token_ranges(tokens, "--tokens"),
        None if batch is None else parse_numbers(batch, "--batch", most=_MOST_TEXTS),
        None if concurrency is None else parse_numbers(concurrency, "--concurrency", most=_MOST_CONCURRENT),
    )
    server = ServerArguments(url, api, model, api_key_env, timeout, encoding_format, dimensions).options()
    return _measured(
        _Run(
            "embed",
            config,
            server,
            loads,
            pace_of(seconds, requests, warm_up, request_rate, seed),
            TextOptions(seed, tokenizer, added_tokens),
            QueryOptions(),
            prices_of(gpu_hour, card_month, utilisation, price_per_million),
            json_file,
            html,
        )
    )


@with_epilog("""
Examples:
  ragstack bench rerank                                  the config's reranker, 10, 20 and 40 passages a request
  ragstack bench rerank --tokens 256 --passages 50 --concurrency 1
  ragstack bench rerank --url http://127.0.0.1:8001/v1 --api nim --model nvidia/llama-3.2-nv-rerankqa-1b-v2
  ragstack bench rerank --url https://api.cohere.com/v2 --api cohere --model rerank-v3.5 --api-key-env COHERE_KEY

The standard loads: 10, 20 and 40 passages a request, 512 tokens of query and passage together, special ones included;
1, 3 and 5 requests at a time. A reranker that compares vectors (late interaction) is timed with making them, as the
model server does it. Exit status 1: not one request was answered.
""")
def rerank(
    config: ConfigOption = None,
    tokens: Annotated[
        str | None,
        typer.Option("--tokens", metavar="LIST", help="Tokens of query and passage: 512.", show_default=False),
    ] = None,
    query_tokens: Annotated[
        int, typer.Option("--query-tokens", min=1, max=100_000, help="How many of them are the query's.")
    ] = 20,
    passages: Annotated[
        str | None,
        typer.Option("--passages", metavar="LIST", help="Passages in a request: 10,20,40.", show_default=False),
    ] = None,
    concurrency: ConcurrencyOption = None,
    seconds: SecondsOption = None,
    requests: RequestsOption = None,
    warm_up: WarmUpOption = None,
    request_rate: RateOption = None,
    seed: SeedOption = 0,
    url: UrlOption = None,
    api: ApiOption = None,
    model: ModelOption = None,
    api_key_env: ApiKeyOption = None,
    timeout: TimeoutOption = None,
    tokenizer: TokenizerOption = None,
    added_tokens: AddedTokensOption = None,
    gpu_hour: GpuHourOption = None,
    card_month: CardMonthOption = None,
    utilisation: UtilisationOption = None,
    price_per_million: PriceOption = None,
    json_file: JsonFileOption = None,
    html: HtmlOption = None,
) -> int:
    """Measure reranking: latency, pairs and tokens a second, cost."""
    from ragstack.bench.opening import QueryOptions, TextOptions
    from ragstack.bench.plan import (
        RERANK_CONCURRENCY,
        RERANK_PASSAGES,
        RERANK_TOKENS,
        parse_numbers,
        parse_token_ranges,
        rerank_loads,
    )

    loads = rerank_loads(
        (RERANK_TOKENS,) if tokens is None else parse_token_ranges(tokens, "--tokens"),
        query_tokens,
        RERANK_PASSAGES if passages is None else parse_numbers(passages, "--passages", most=_MOST_TEXTS),
        RERANK_CONCURRENCY
        if concurrency is None
        else parse_numbers(concurrency, "--concurrency", most=_MOST_CONCURRENT),
    )
    return _measured(
        _Run(
            "rerank",
            config,
            ServerArguments(url, api, model, api_key_env, timeout).options(),
            loads,
            pace_of(seconds, requests, warm_up, request_rate, seed),
            TextOptions(seed, tokenizer, added_tokens),
            QueryOptions(),
            prices_of(gpu_hour, card_month, utilisation, price_per_million),
            json_file,
            html,
        )
    )


@with_epilog("""
Examples:
  ragstack bench query --questions questions.txt                     the config's index, in this process
  ragstack bench query --questions questions.jsonl --no-answer       without making answers; the file of ragstack eval
  ragstack bench query --questions questions.txt --url http://127.0.0.1:8000 --api ragstack --concurrency 1-8

The questions are asked in an order drawn by --seed, again and again. Exit status 1: not one was answered.
""")
def query(
    questions: Annotated[
        Path, typer.Option("--questions", metavar="FILE", help="One question a line, or .jsonl.", show_default=False)
    ],
    config: ConfigOption = None,
    top_n: Annotated[
        int | None,
        typer.Option("--top-n", min=1, help="Passages to keep; the config's without it.", show_default=False),
    ] = None,
    no_answer: Annotated[bool, typer.Option("--no-answer", help="Retrieve passages only.")] = False,
    concurrency: ConcurrencyOption = None,
    seconds: SecondsOption = None,
    requests: RequestsOption = None,
    warm_up: WarmUpOption = None,
    request_rate: RateOption = None,
    seed: SeedOption = 0,
    url: UrlOption = None,
    api: ApiOption = None,
    api_key_env: ApiKeyOption = None,
    timeout: TimeoutOption = None,
    json_file: JsonFileOption = None,
    html: HtmlOption = None,
) -> int:
    """Measure whole queries over an index: latency by stage, queries a second."""
    from ragstack.bench.opening import QueryOptions, TextOptions
    from ragstack.bench.plan import QUERY_CONCURRENCY, QueryLoad, parse_numbers
    from ragstack.bench.questions import read_bench_questions

    at_a_time = (
        QUERY_CONCURRENCY if concurrency is None else parse_numbers(concurrency, "--concurrency", most=_MOST_CONCURRENT)
    )
    return _measured(
        _Run(
            "query",
            config,
            ServerArguments(url, api, None, api_key_env, timeout).options(),
            [QueryLoad(number) for number in at_a_time],
            pace_of(seconds, requests, warm_up, request_rate, seed),
            TextOptions(seed, questions=read_bench_questions(questions, seed)),
            QueryOptions(top_n, not no_answer),
            None,
            json_file,
            html,
        )
    )


@with_epilog("""
Examples:
  ragstack bench cost --tokens-per-s 60000 --gpu-hour 1.04                       0.0096 for a million tokens
  ragstack bench cost --tokens-per-s 60000 --card-month 748.80 --price-per-million .02

Prices are in any currency. A month has 720 hours; --utilisation is .5 where it is not given.
""")
def cost(
    tokens_per_s: Annotated[str, typer.Option("--tokens-per-s", metavar="N", help="The rate.", show_default=False)],
    gpu_hour: GpuHourOption = None,
    card_month: CardMonthOption = None,
    utilisation: UtilisationOption = None,
    price_per_million: PriceOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say what tokens cost at a rate that was measured elsewhere, and from which volume that is cheaper."""
    from ragstack.bench.costs import cost_of, exact, parse_rate
    from ragstack.bench.tables import cost_lines

    prices = prices_of(gpu_hour, card_month, utilisation, price_per_million)
    if prices is None:
        raise InputError("costs need the price of the machine.", hint="Give --gpu-hour or --card-month.")
    found = cost_of(prices, parse_rate(tokens_per_s, "--tokens-per-s"))
    if as_json:
        even = found.break_even_tokens
        print_json(
            {
                "tokens_per_s": exact(found.tokens_per_s),
                "utilisation": exact(prices.utilisation),
                "per_million_tokens": exact(found.per_million),
                "month_tokens": exact(found.month_tokens),
                "break_even_tokens": None if even is None else exact(even),
                "reaches_break_even": found.reaches,
            }
        )
        return 0
    print_table(["figure", ">value"], cost_lines(found, prices.utilisation))
    return 0


def _measured(run: _Run) -> int:
    """Measure, print and write. Returns 1 when nothing was answered."""
    import asyncio

    from ragstack.bench.driver import measure_all
    from ragstack.bench.opening import open_local, open_remote
    from ragstack.cli.bench_output import print_progress
    from ragstack.pipeline import Pipeline

    require_writable(run.html, run.json_file)
    loaded = load(run.config)
    to_stdout = run.json_file == "-"
    found: list[Measured] = []

    def on_measured(measured: Measured, left: int) -> None:
        found.append(measured)
        if not to_stdout:
            print_progress(measured, left)

    with closing(Pipeline(loaded)) as pipeline:
        endpoint: Endpoint
        if run.server is None:
            endpoint = open_local(run.kind, pipeline, run.loads, run.texts, run.queries)
        else:
            endpoint = open_remote(run.kind, run.server, pipeline, run.loads, run.texts, run.queries)
        try:
            asyncio.run(measure_all(endpoint, run.loads, run.pace, on_measured))
        except KeyboardInterrupt as error:
            if found and not to_stdout:  # what was measured until then
                _finish(run, loaded, endpoint, found)
            raise InterruptedRunError(f"interrupted after {len(found)} of {len(run.loads)} loads.") from error
        return _finish(run, loaded, endpoint, found)


def _finish(run: _Run, loaded: LoadedConfig, endpoint: Endpoint, found: Sequence[Measured]) -> int:
    """Print and write the report."""
    import json

    from ragstack.bench.html import bench_html
    from ragstack.bench.machine import describe_machine
    from ragstack.bench.report import build_report
    from ragstack.cli.bench_output import print_report

    report = build_report(
        run.kind, loaded.origin, endpoint.facts(), describe_machine(), run.pace, found, len(run.loads), run.prices
    )
    if run.html is not None:
        write_text(run.html, bench_html(report))
    if run.json_file == "-":
        print_json(report.to_json())
    else:
        if run.json_file is not None:
            write_text(Path(run.json_file), json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")
        print_report(report)
    return 0 if report.has_good_requests else 1
