"""What the lines of a document come to, in every currency and both ways."""

from decimal import Decimal

from babel.numbers import get_currency_precision
from hypothesis import given
from hypothesis import strategies as st

from crm_api.domains.orders.totals import Priced, of_line, rounded, smallest, summed
from crm_api.kernel import schema

CURRENCIES = st.sampled_from(sorted(schema._CURRENCIES))
PERCENT = st.decimals(0, 100, places=4)
LINES = st.builds(
    Priced,
    quantity=st.decimals("0.000001", 10_000, places=6),
    unit_price=st.decimals(-100_000, 100_000, places=4),
    discount_percent=PERCENT,
    tax_percent=PERCENT,
)


@given(LINES, CURRENCIES, st.booleans())
def test_net_and_tax_are_gross_in_whole_minor_units(line, currency, gross):
    worth = of_line(line, currency, gross=gross)
    assert worth.net + worth.tax == worth.gross
    for amount in (worth.net, worth.tax, worth.gross):
        assert amount == amount.quantize(smallest(currency))
    exact = line.quantity * line.unit_price * (100 - line.discount_percent) / 100
    assert abs((worth.gross if gross else worth.net) - exact) <= smallest(currency) / 2
    if worth.net:
        assert (worth.tax >= 0) == (worth.net > 0) or worth.tax == 0


@given(LINES, CURRENCIES)
def test_a_price_with_tax_gives_back_the_price_without(line, currency):
    """Net to gross and back is within half a minor unit of tax on a minor unit."""
    there = of_line(line, currency, gross=False)
    whole = Priced(Decimal(1), there.gross, Decimal(0), line.tax_percent)
    back = of_line(whole, currency, gross=True)
    assert back.gross == there.gross
    assert abs(back.net - there.net) <= smallest(currency)


@given(st.lists(LINES, max_size=20), CURRENCIES, st.booleans())
def test_the_sum_of_the_lines_is_the_total(lines, currency, gross):
    worth = [of_line(line, currency, gross=gross) for line in lines]
    total = summed(worth)
    assert total.net == sum(item.net for item in worth)
    assert total.net + total.tax == total.gross


def test_half_is_rounded_away_from_zero():
    assert rounded(Decimal("0.125"), "EUR") == Decimal("0.13")
    assert rounded(Decimal("-0.125"), "EUR") == Decimal("-0.13")
    assert rounded(Decimal("0.5"), "JPY") == 1
    assert rounded(Decimal("0.0005"), "KWD") == Decimal("0.001")


def test_every_currency_has_its_own_minor_unit():
    assert {get_currency_precision(code) for code in schema._CURRENCIES} >= {0, 2, 3}
    assert all(smallest(code) == Decimal(1).scaleb(-get_currency_precision(code)) for code in schema._CURRENCIES)
