"""The options that ``bench embed``, ``rerank`` and ``query`` share, and what they stand for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from ragstack.errors import InputError

if TYPE_CHECKING:
    from ragstack.bench.costs import Prices
    from ragstack.bench.driver import Pace
    from ragstack.bench.opening import ServerOptions

ApiName: TypeAlias = Literal["openai", "nim", "tei", "cohere", "ragstack"]
EncodingName: TypeAlias = Literal["float", "base64"]

UrlOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="A server, in place of this process: http://host:port/v1.", show_default=False
    ),
]
ApiOption: TypeAlias = Annotated[
    ApiName | None, typer.Option("--api", help="The wire format of the server at --url.", show_default=False)
]
ModelOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="The model's name, as the server knows it.", show_default=False),
]
ApiKeyOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        metavar="VARIABLE",
        help="The environment variable that holds the server's key.",
        show_default=False,
    ),
]
TimeoutOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=0.001,
        metavar="S",
        help="Seconds that a server may take for a request: 60.",
        show_default=False,
    ),
]
TokenizerOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="NAME|FILE",
        help="What counts tokens: a tokenizer.json, a folder with one, a registered model; without it: the config's.",
        show_default=False,
    ),
]
AddedTokensOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--added-tokens",
        min=0,
        metavar="N",
        help="Tokens that the model adds to each text (special ones, prompt); without it: as the tokenizer says.",
        show_default=False,
    ),
]
ConcurrencyOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--concurrency", metavar="LIST", help="Requests under way at a time: 1,3,5 or 1-15.", show_default=False
    ),
]
SecondsOption: TypeAlias = Annotated[
    float | None,
    typer.Option("--seconds", min=0.01, metavar="S", help="Measure each load for S seconds: 10.", show_default=False),
]
RequestsOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--requests", min=1, metavar="N", help="Or with N requests for each load.", show_default=False),
]
WarmUpOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--warm-up",
        min=0,
        metavar="N",
        help="Requests before each load that do not count; without it: as many as are under way.",
        show_default=False,
    ),
]
RateOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--request-rate",
        min=0.001,
        metavar="R",
        help="Open loop: R requests a second at random times, whether others were answered or not.",
        show_default=False,
    ),
]
GpuHourOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--gpu-hour", metavar="PRICE", help="What the machine costs an hour.", show_default=False),
]
CardMonthOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--card-month", metavar="PRICE", help="What it costs a month (720 hours).", show_default=False),
]
UtilisationOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--utilisation", metavar="SHARE", help="Share of the time in which it works: .5.", show_default=False),
]
PriceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--price-per-million",
        metavar="PRICE",
        help="What a million tokens cost elsewhere: says from which volume the machine is cheaper.",
        show_default=False,
    ),
]

_DEFAULT_SECONDS = 10.0
_DEFAULT_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class ServerArguments:
    """What the command line says of a server; None for what it does not say."""

    url: str | None
    api: ApiName | None
    model: str | None
    api_key_env: str | None
    timeout_s: float | None
    encoding_format: EncodingName | None = None
    dimensions: int | None = None

    def options(self) -> ServerOptions | None:
        """None where this process is measured. Raises InputError for options that need one another."""
        from pydantic import SecretStr

        from ragstack.bench.opening import ServerOptions

        if self.url is None:
            self._refuse_without_url()
            return None
        if self.api is None:
            raise InputError("--url needs --api, the wire format.", hint="One of openai, nim, tei, cohere, ragstack.")
        if self.encoding_format is not None and self.api in ("tei", "cohere"):
            raise InputError(f"--api {self.api} has no --encoding-format.", hint="openai, nim and ragstack have.")
        key = None
        if self.api_key_env is not None:
            key = os.environ.get(self.api_key_env, "")
            if not key or not all("!" <= character <= "~" for character in key):
                raise InputError(
                    f"--api-key-env {self.api_key_env}: the variable holds no key.",
                    hint="Set it in the environment; a key is made of visible ASCII characters.",
                )
        return ServerOptions(
            self.url,
            self.api,
            self.model,
            None if key is None else SecretStr(key),
            _DEFAULT_TIMEOUT_S if self.timeout_s is None else self.timeout_s,
            self.encoding_format or "float",
            self.dimensions,
        )

    def _refuse_without_url(self) -> None:
        given = {
            "--api": self.api,
            "--model": self.model,
            "--api-key-env": self.api_key_env,
            "--timeout": self.timeout_s,
            "--encoding-format": self.encoding_format,
            "--dimensions": self.dimensions,
        }
        for name, value in given.items():
            if value is not None:
                raise InputError(f"{name} is about a server.", hint="Name it with --url, or the config with -c.")


def pace_of(seconds: float | None, requests: int | None, warm_up: int | None, rate: float | None, seed: int) -> Pace:
    """How each load is measured. Raises InputError where both a time and a number are given."""
    from ragstack.bench.driver import Pace
    from ragstack.bench.load import Effort

    if seconds is not None and requests is not None:
        raise InputError("--seconds and --requests exclude one another.", hint="Give one of the two.")
    if requests is None and seconds is None:
        seconds = _DEFAULT_SECONDS
    return Pace(Effort(requests, seconds), warm_up, rate, seed)


def prices_of(
    gpu_hour: str | None, card_month: str | None, utilisation: str | None, price_per_million: str | None
) -> Prices | None:
    """The prices; None without any. Raises InputError."""
    from ragstack.bench.costs import Prices

    return Prices.of(gpu_hour, card_month, utilisation, price_per_million)
