"""The arithmetic of costs, with figures reckoned by hand."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.bench.costs import Prices, cost_of, exact, shown_price, shown_volume
from ragstack.errors import InputError


def prices(*args: str | None) -> Prices:
    found = Prices.of(*args)
    assert found is not None
    return found


def test_60000_tokens_a_second_at_a_dollar_and_four_cents_an_hour() -> None:
    # 60,000/s x 3,600 s x 50% = 108 million tokens for 1.04
    found = cost_of(prices("1.04"), 60_000.0)
    assert found.per_million == Decimal("1.04") / 108
    assert shown_price(found.per_million) == "0.0096"
    assert found.month_tokens == 108_000_000 * 720
    assert shown_volume(found.month_tokens) == "77.76 billion"
    assert found.break_even_tokens is None
    assert found.reaches is None


def test_a_card_for_748_80_a_month_against_two_cents_a_million() -> None:
    by_month = cost_of(prices(None, "748.80", None, "0.020"), 60_000)
    assert by_month.break_even_tokens == 37_440_000_000
    assert shown_volume(Decimal(37_440_000_000)) == "37.44 billion"
    assert by_month.reaches is True
    # The hour that the month stands for, and the other way round: 748.80 / 720 h = 1.04.
    assert prices(None, "748.80").hour == Decimal("1.04")
    assert prices("1.04").month == Decimal("748.80")
    assert cost_of(prices("1.04", None, None, ".020"), 60_000).break_even_tokens == 37_440_000_000


def test_a_slow_card_never_breaks_even() -> None:
    found = cost_of(prices("1.04", None, "1", "0.020"), 10_000)
    assert found.month_tokens == 10_000 * 3600 * 720  # 25.92 billion, less than 37.44
    assert found.reaches is False


def test_the_tables_of_the_documentation(repository: Path) -> None:
    lines = (repository / "docs" / "bench.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines]
    rates = [row for row in rows if len(row) == 4 and row[0].replace(",", "").isdecimal()]
    assert len(rates) == 3
    for speed, _, cost, month in rates:
        found = cost_of(prices("1.04"), Decimal(speed.replace(",", "")))
        assert cost.endswith(f"= {shown_price(found.per_million)}")
        assert month == shown_volume(found.month_tokens)
    evens = [row for row in rows if len(row) == 3 and row[2].endswith("tokens/s")]
    assert len(evens) == 3
    for elsewhere, volume, speed in evens:
        needed = Decimal(speed.removesuffix(" tokens/s").replace(",", ""))
        found = cost_of(prices(None, "748.80", None, elsewhere), needed)
        assert found.break_even_tokens is not None
        assert shown_volume(found.break_even_tokens) in volume
        assert found.month_tokens == pytest.approx(found.break_even_tokens, rel=Decimal("1e-4"))


def test_hour_and_month_may_both_be_given() -> None:
    both = prices("1.20", "700", ".25", ".02")
    assert (both.hour, both.month, both.utilisation) == (Decimal("1.20"), Decimal(700), Decimal(".25"))
    assert cost_of(both, 1000).break_even_tokens == 35_000_000_000


@given(
    st.decimals("0.01", "100", places=2),
    st.decimals("0.01", "1", places=2),
    st.decimals("0.001", "10", places=3),
    st.integers(1, 10**7),
)
def test_against_fractions(hour: Decimal, share: Decimal, elsewhere: Decimal, speed: int) -> None:
    found = cost_of(prices(str(hour), None, str(share), str(elsewhere)), speed)
    tokens = Fraction(share) * speed * 3600
    close = Fraction(1, 10**20)
    assert abs(Fraction(found.per_million) / (Fraction(hour) * 10**6 / tokens) - 1) < close
    assert found.break_even_tokens is not None
    even = Fraction(hour) * 720 / Fraction(elsewhere) * 10**6
    assert abs(Fraction(found.break_even_tokens) / even - 1) < close
    # It pays from there on exactly where a million costs no more than elsewhere.
    if abs(found.per_million - elsewhere) > Decimal("1e-15"):
        assert found.reaches is (found.per_million < elsewhere)


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "nan", "inf", "1e99", "$1", "1,5"])
def test_what_is_no_price_names_its_option(text: str) -> None:
    with pytest.raises(InputError, match="--gpu-hour"):
        Prices.of(text)


def test_options_that_need_one_another() -> None:
    assert Prices.of(None) is None
    for options in ((None, None, ".5", None), (None, None, None, ".02")):
        with pytest.raises(InputError, match="price of the machine"):
            Prices.of(*options)
    with pytest.raises(InputError, match="--utilisation 50"):
        Prices.of("1", None, "50")
    with pytest.raises(ValueError, match="above 0"):
        cost_of(prices("1"), 0.0)


def test_figures_are_shown_with_digits_that_count() -> None:
    shown = [shown_price(Decimal(text)) for text in ("0.00962963", "0.0000123", "12.5", "0.00009")]
    assert shown == ["0.0096", "0.000012", "12.5000", "0.000090"]
    assert [shown_volume(Decimal(n)) for n in (950, 1_200_000, 2 * 10**12)] == ["950", "1.2 million", "2 trillion"]
    assert exact(Decimal("1.04") / 108) == "0.00962962962963"
    assert exact(Decimal(37_440_000_000)) == "37440000000"
    assert exact(Decimal("0.50")) == "0.5"
