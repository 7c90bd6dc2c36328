"""Rounding and taxes: whatever the currency, the rates and the direction, nothing is gained and nothing is lost."""

from decimal import Decimal
from fractions import Fraction

import pytest
from babel.numbers import list_currencies
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_api.domains.pricing import amounts
from crm_api.domains.pricing.tax import Line, Rate, taxed, unit_prices

CURRENCIES = sorted(list_currencies())
quick = settings(max_examples=80, deadline=None)

prices = st.decimals(0, 10**14 - 1, places=4)
quantities = st.decimals("0.000001", 10**12 - 1, places=6)
percents = st.decimals(0, 100, places=4)
rates = st.builds(Rate, st.sampled_from(["VAT", "State", "City"]), percents, st.booleans())
lines = st.builds(
    Line,
    quantities | st.integers(1, 20).map(Decimal),
    prices | st.decimals("0.01", 20, places=2),
    st.lists(rates, max_size=3, unique_by=lambda rate: rate.name).map(tuple),
    st.none() | percents,
    reducible=st.booleans(),
)
documents = st.tuples(
    st.lists(lines, min_size=1, max_size=6),
    st.sampled_from(CURRENCIES),
    st.booleans(),
    st.sampled_from(["line", "document"]),
    st.none() | percents,
)


def exact(*values):
    return sum(map(Fraction, values), Fraction(0))


@quick
@given(documents)
def test_nothing_is_gained_and_nothing_is_lost(document):
    given_lines, currency, inclusive, rounding, percent = document
    done = taxed(given_lines, currency, inclusive=inclusive, rounding=rounding, percent=percent)
    unit = Fraction(1, 10 ** amounts.decimals(currency))
    for name in ("net", "tax", "gross"):
        assert exact(*(getattr(line, name) for line in done.lines)) == getattr(done, name)
    assert exact(*(tax.amount for tax in done.taxes)) == done.tax
    for part in (done, *done.lines):
        assert exact(part.net, part.tax) == part.gross
        assert exact(*(tax.amount for tax in part.taxes)) == part.tax
        assert all(Fraction(amount) % unit == 0 for amount in (part.net, part.tax, part.gross))
    for line, result in zip(given_lines, done.lines, strict=True):
        entered = amounts.extended(line.quantity, line.unit_price, currency)
        kept = result.gross if inclusive else result.net
        assert exact(kept, result.discount, result.share) == entered
        assert 0 <= result.discount <= exact(result.discount, result.share) <= entered
        assert line.reducible or not result.share
        if len(line.rates) < 2 or rounding == "line":
            assert min(result.net, result.tax) >= 0


@quick
@given(documents)
def test_each_tax_is_within_one_minor_unit_of_what_it_exactly_is(document):
    given_lines, currency, inclusive, rounding, percent = document
    done = taxed(given_lines, currency, inclusive=inclusive, rounding=rounding, percent=percent)
    unit = Fraction(1, 10 ** amounts.decimals(currency))
    whole: dict[Rate, Fraction] = {}
    for line, result in zip(given_lines, done.lines, strict=True):
        before, parts = Fraction(1), []
        for rate in line.rates:
            parts.append(Fraction(rate.percent) / 100 * (before if rate.compound else 1))
            before += parts[-1]
        base = Fraction(result.gross) / before if inclusive else Fraction(result.net)
        for tax, part in zip(result.taxes, parts, strict=True):
            assert abs(Fraction(tax.amount) - base * part) < unit
            whole[tax.rate] = whole.get(tax.rate, Fraction(0)) + base * part
    if rounding == "document":
        assert all(abs(Fraction(tax.amount) - whole[tax.rate]) <= unit / 2 for tax in done.taxes)


@quick
@given(documents, st.fractions(0, 1))
def test_each_line_bears_its_part_of_a_discount_on_the_whole(document, part):
    given_lines, currency, inclusive, rounding, percent = document
    plain = taxed(given_lines, currency, inclusive=inclusive, rounding=rounding)
    unit = Fraction(1, 10 ** amounts.decimals(currency))
    bases = [
        Fraction(result.gross if inclusive else result.net) * line.reducible
        for line, result in zip(given_lines, plain.lines, strict=True)
    ]
    total = sum(bases)
    fixed = None if percent is not None else amounts.in_currency(total * part, currency)
    done = taxed(given_lines, currency, inclusive=inclusive, rounding=rounding, percent=percent, fixed=fixed)
    off = exact(*(line.share for line in done.lines))
    asked = Fraction(fixed) if percent is None else total * Fraction(percent) / 100
    assert abs(off - asked) <= (0 if percent is None else unit / 2)
    for base, line in zip(bases, done.lines, strict=True):
        assert 0 <= line.share <= base
        assert total == 0 or abs(Fraction(line.share) - off * base / total) < unit
    with pytest.raises(ValueError, match="at most the amount"):
        taxed(given_lines, currency, inclusive=inclusive, rounding=rounding, fixed=Decimal(int(total) + 1))


@quick
@given(st.integers(0, 10**12), percents, st.sampled_from(CURRENCIES))
def test_a_gross_amount_leads_to_a_net_amount_that_leads_back(count, percent, currency):
    places = amounts.decimals(currency)
    gross = amounts.of_units(count, places)
    rate = (Rate("VAT", percent),)
    down = taxed([Line(Decimal(1), gross, rate)], currency, inclusive=True, rounding="line")
    up = taxed([Line(Decimal(1), down.net, rate)], currency, inclusive=False, rounding="line")
    assert down.gross == gross
    assert abs(Fraction(up.gross) - Fraction(gross)) <= Fraction(1, 10**places)


@quick
@given(prices, st.lists(rates, max_size=3), st.booleans())
def test_a_unit_price_is_kept_as_it_was_entered(price, charged, inclusive):
    net, gross = unit_prices(price, charged, inclusive=inclusive)
    assert (gross if inclusive else net) == price
    assert net <= gross


@quick
@given(st.fractions(), st.integers(0, 4))
def test_rounding_is_half_away_from_zero(value, places):
    result = amounts.rounded(value, places)
    step = Fraction(1, 10**places)
    assert abs(Fraction(result) - value) <= step / 2
    assert amounts.rounded(-value, places) == result.copy_negate()
    if abs(Fraction(result) - value) == step / 2:
        assert abs(Fraction(result)) > abs(value)


@quick
@given(st.lists(st.fractions(-1000, 1000), min_size=1, max_size=20))
def test_parts_sum_up_and_are_nearer_than_one(parts):
    total = amounts.whole(sum(parts, Fraction(0)))
    found = amounts.apportioned(total, parts)
    assert sum(found) == total
    assert all(
        abs(one - part) < 1 or one - part == -1 == (total - sum(parts)) * 2
        for one, part in zip(found, parts, strict=True)
    )


@pytest.mark.parametrize("currency", CURRENCIES)
def test_every_currency_has_between_none_and_four_decimals(currency):
    assert 0 <= amounts.decimals(currency) <= 4


@pytest.mark.parametrize(
    ("currency", "net", "tax", "gross"),
    [
        ("JPY", "100", "19", "119"),
        ("EUR", "100.00", "19.00", "119.00"),
        ("KWD", "100.000", "19.000", "119.000"),
        ("CLF", "100.0000", "19.0000", "119.0000"),
    ],
)
def test_an_amount_has_the_decimals_of_its_currency(currency, net, tax, gross):
    for inclusive, price in ((False, net), (True, gross)):
        line = Line(Decimal(1), Decimal(price), (Rate("VAT", Decimal(19)),))
        done = taxed([line], currency, inclusive=inclusive, rounding="line")
        assert (str(done.net), str(done.tax), str(done.gross)) == (net, tax, gross)


def test_a_document_is_rounded_once_and_the_cents_are_shared_out():
    three = [Line(Decimal(1), Decimal("0.13"), (Rate("VAT", Decimal(19)),))] * 3
    by_line = taxed(three, "EUR", inclusive=False, rounding="line")
    once = taxed(three, "EUR", inclusive=False, rounding="document")
    assert [str(line.tax) for line in by_line.lines] == ["0.02", "0.02", "0.02"]
    assert [str(line.tax) for line in once.lines] == ["0.03", "0.02", "0.02"]
    assert str(once.tax) == "0.07"


def test_a_compound_tax_is_taken_of_the_taxes_before_it():
    charged = (Rate("GST", Decimal(5)), Rate("QST", Decimal(10), compound=True))
    done = taxed([Line(Decimal(1), Decimal(100), charged)], "CAD", inclusive=False, rounding="line")
    assert [str(tax.amount) for tax in done.taxes] == ["5.00", "10.50"]
    back = taxed([Line(Decimal(1), done.gross, charged)], "CAD", inclusive=True, rounding="line")
    assert str(back.net) == "100.00"


@pytest.mark.parametrize(
    "discounts",
    [
        {"discount_percent": Decimal(101)},
        {"discount_percent": Decimal(-1)},
        {"discount_amount": Decimal("10.01")},
        {"discount_percent": Decimal(1), "discount_amount": Decimal(1)},
    ],
)
def test_a_discount_is_between_nothing_and_all(discounts):
    with pytest.raises(ValueError, match=r"discount"):
        taxed([Line(Decimal(1), Decimal(10), **discounts)], "EUR", inclusive=False, rounding="line")


def test_a_price_is_rounded_to_a_step():
    assert [str(amounts.to_step(Decimal(one), Decimal("0.05"))) for one in ("1.02", "1.03", "1.025")] == [
        "1.0000",
        "1.0500",
        "1.0500",
    ]
