"""What tokens cost on a machine that is paid by the hour, and when that is less than a price per token.

Currency-neutral: prices and costs are in whatever the prices are given in. Exact decimal arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

from ragstack.errors import InputError

HOURS_PER_MONTH = 720
"""30 days of 24 hours: 1.04 an hour is 748.80 a month."""

_MILLION = 1_000_000
_SMALLEST, _LARGEST = Decimal("1e-6"), Decimal("1e12")


@dataclass(frozen=True, slots=True)
class Prices:
    """What the machine costs. ``month`` and ``hour`` are of all cards that were measured together.

    ``utilisation`` is the share of the time, above 0 and at most 1, in which they work at the measured rate.
    ``per_million`` is what a million tokens cost elsewhere; None: nothing is compared.
    """

    hour: Decimal
    month: Decimal
    utilisation: Decimal
    per_million: Decimal | None

    @classmethod
    def of(
        cls,
        gpu_hour: str | None,
        card_month: str | None = None,
        utilisation: str | None = None,
        per_million: str | None = None,
    ) -> Prices | None:
        """The prices that options give; None without any. The hour and the month follow from one another.

        Raises InputError for what is no price, and for a share or a comparison without a price of the machine.
        """
        hour = _price(gpu_hour, "--gpu-hour")
        month = _price(card_month, "--card-month")
        share = _price(utilisation, "--utilisation")
        elsewhere = _price(per_million, "--price-per-million")
        if hour is None and month is None:
            if share is not None or elsewhere is not None:
                raise InputError("costs need the price of the machine.", hint="Give --gpu-hour or --card-month.")
            return None
        if share is not None and share > 1:
            raise InputError(f"--utilisation {utilisation}: expected a share, above 0 and at most 1.", hint="As in: .5")
        if month is None:
            assert hour is not None  # one of the two was given
            month = hour * HOURS_PER_MONTH
        return cls(
            hour=month / HOURS_PER_MONTH if hour is None else hour,
            month=month,
            utilisation=Decimal("0.5") if share is None else share,
            per_million=elsewhere,
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """What the tokens of one rate cost.

    ``per_million`` tokens. ``month_tokens`` is what a month brings at the utilisation. ``break_even_tokens`` a month
    cost as much as the same tokens elsewhere; None without a price to compare with. ``reaches`` says whether a month
    brings as many.
    """

    tokens_per_s: Decimal
    per_million: Decimal
    month_tokens: Decimal
    break_even_tokens: Decimal | None

    @property
    def reaches(self) -> bool | None:
        """None without a price to compare with."""
        return None if self.break_even_tokens is None else self.break_even_tokens <= self.month_tokens


def cost_of(prices: Prices, tokens_per_s: float | Decimal) -> Cost:
    """What tokens at this rate cost. Raises ValueError for a rate that is not above 0."""
    speed = tokens_per_s if isinstance(tokens_per_s, Decimal) else Decimal(repr(tokens_per_s))
    if not (speed.is_finite() and speed > 0):
        raise ValueError(f"tokens_per_s must be above 0, got {tokens_per_s}")
    hour_tokens = speed * 3600 * prices.utilisation
    elsewhere = prices.per_million
    return Cost(
        tokens_per_s=speed,
        per_million=prices.hour * _MILLION / hour_tokens,
        month_tokens=hour_tokens * HOURS_PER_MONTH,
        break_even_tokens=None if elsewhere is None else prices.month / elsewhere * _MILLION,
    )


def shown_price(price: Decimal) -> str:
    """Four decimals, more where the price would have fewer than two digits that count: ``0.0096``, ``0.000012``."""
    places = 4 if price == 0 else max(4, 1 - price.adjusted())
    return f"{price.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN):,f}"


def shown_volume(tokens: Decimal) -> str:
    """``37.44 billion``, ``1.2 million``, ``950``."""
    for name, size in (("trillion", 12), ("billion", 9), ("million", 6)):
        if tokens >= Decimal(10) ** size:
            return f"{tokens.scaleb(-size).quantize(Decimal('0.01')).normalize():,f} {name}"
    return f"{tokens.quantize(Decimal(1)):,f}"


def exact(value: Decimal) -> str:
    """For JSON: a decimal string of at most 12 significant digits, which no floating-point number has rounded."""
    digits = value if value == 0 else value.quantize(Decimal(1).scaleb(max(value.adjusted() - 11, -18)))
    text = f"{digits:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_rate(text: str, option: str) -> Decimal:
    """A number above 0. Raises InputError that names ``option``."""
    value = _price(text, option)
    assert value is not None  # a text was given
    return value


def _price(text: str | None, option: str) -> Decimal | None:
    if text is None:
        return None
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        value = Decimal("NaN")
    if not (value.is_finite() and _SMALLEST <= value <= _LARGEST):
        raise InputError(
            f"{option} {text!r}: expected a number above 0, from {_SMALLEST:f} to {_LARGEST:,f}.",
            hint="Digits and a point, without a currency, as in: 1.04",
        )
    return value
