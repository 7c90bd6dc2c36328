"""Taxes on the lines of a document, from net prices up or from gross prices down. Pure and exact.

Whatever the rounding: net + tax = gross for each line and for the document, the lines sum up to the document, the taxes
of a line by rate sum up to its tax, and what was entered (net, or gross when prices include tax) is kept to the cent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from crm_api.domains.pricing.amounts import (
    PRICE_DECIMALS,
    Amount,
    apportioned,
    decimals,
    discount,
    extended,
    of_units,
    product_units,
    rounded,
    units,
    whole,
)

Rounding = Literal["line", "document"]


@dataclass(frozen=True, slots=True)
class Rate:
    """A tax: percent of the net amount, or, compound, of the net amount and the taxes before it in the line."""

    name: str
    percent: Decimal
    compound: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """What is sold: the price of one unit is net, or gross where prices include tax; so is the discount.

    `reducible`: a discount on the whole document is taken off it, too.
    """

    quantity: Decimal
    unit_price: Amount
    rates: tuple[Rate, ...] = ()
    discount_percent: Decimal | None = None
    discount_amount: Decimal | None = None
    reducible: bool = True


@dataclass(frozen=True, slots=True)
class RateAmount:
    """What one rate comes to, and the net amount that it is taken of."""

    rate: Rate
    net: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class TaxedLine:
    """A line with its amounts in whole minor units; `discount`, and its `share` of the document's, are in its terms."""

    discount: Decimal
    share: Decimal
    net: Decimal
    taxes: tuple[RateAmount, ...]
    tax: Decimal
    gross: Decimal


@dataclass(frozen=True, slots=True)
class Taxed:
    """A document: the sums of its lines, and its taxes by rate in the order in which they first occur."""

    lines: tuple[TaxedLine, ...]
    net: Decimal
    taxes: tuple[RateAmount, ...]
    tax: Decimal
    gross: Decimal


def shares(rates: Sequence[Rate]) -> list[Fraction]:
    """What each rate is of the net amount: 19 % is 19/100, a compound 10 % after it 119/1000."""
    found: list[Fraction] = []
    for rate in rates:
        part = Fraction(rate.percent) / 100
        found.append(part * (1 + sum(found)) if rate.compound else part)
    return found


@lru_cache(maxsize=1024)
def gross_factor(rates: tuple[Rate, ...]) -> Fraction:
    """What gross is of net: 119/100."""
    return 1 + sum(shares(rates), Fraction(0))


@lru_cache(maxsize=1024)
def _portions(rates: tuple[Rate, ...], *, inclusive: bool) -> tuple[Fraction, ...]:
    """What each rate is of the price that was entered."""
    return tuple(part / gross_factor(rates) if inclusive else part for part in shares(rates))


def unit_prices(price: Amount, rates: Sequence[Rate], *, inclusive: bool) -> tuple[Decimal, Decimal]:
    """The price of one unit net and gross, with four decimals; the one that was entered unchanged."""
    entered, factor = rounded(price, PRICE_DECIMALS), gross_factor(tuple(rates))
    other = of_units(product_units(price, 1 / factor if inclusive else factor, PRICE_DECIMALS), PRICE_DECIMALS)
    return (other, entered) if inclusive else (entered, other)


def taxed(
    lines: Sequence[Line],
    currency: str,
    *,
    inclusive: bool,
    rounding: Rounding,
    percent: Decimal | None = None,
    fixed: Decimal | None = None,
) -> Taxed:
    """The amounts of a document.

    Args:
        lines: what is sold.
        currency: its minor unit is what all amounts are rounded to.
        inclusive: prices are gross; the gross amounts are exact then, and the net amounts follow.
        rounding: `line` rounds each tax of each line; `document` rounds the sum of each tax over the document, and
            gives the lines their parts by the largest remainders.
        percent: a discount on the whole, 0 to 100: off what its reducible lines come to, each bearing its part.
        fixed: the same as a sum; one of both.

    Raises:
        ValueError: a discount is above what it is taken off, or given twice.
    """
    places = decimals(currency)
    taken, given = [], []
    for line in lines:
        amount = extended(line.quantity, line.unit_price, currency)
        off = discount(amount, currency, percent=line.discount_percent, fixed=line.discount_amount)
        taken.append(off)
        given.append(units(amount, places) - units(off, places))
    parts = [max(amount, 0) if line.reducible else 0 for line, amount in zip(lines, given, strict=True)]
    whole_off = discount(of_units(sum(parts), places), currency, percent=percent, fixed=fixed)
    borne = _borne(units(whole_off, places), parts)
    given = [amount - share for amount, share in zip(given, borne, strict=True)]
    exact = [
        [amount * part for part in _portions(line.rates, inclusive=inclusive)]
        for line, amount in zip(lines, given, strict=True)
    ]
    taxes = _by_line(exact, inclusive=inclusive) if rounding == "line" else _by_document(lines, exact)
    done = []
    for line, off, share, entered, amounts in zip(lines, taken, borne, given, taxes, strict=True):
        tax = sum(amounts)
        net = entered - tax if inclusive else entered
        by_rate = tuple(
            RateAmount(rate, of_units(net, places), of_units(amount, places))
            for rate, amount in zip(line.rates, amounts, strict=True)
        )
        amounts_ = (of_units(net, places), by_rate, of_units(tax, places), of_units(net + tax, places))
        done.append(TaxedLine(off, of_units(share, places), *amounts_))
    return _document(done, places)


def _borne(off: int, parts: Sequence[int]) -> list[int]:
    """What each part bears of a discount on their sum, never more than itself: by the largest remainders."""
    return apportioned(off, [Fraction(off * part, sum(parts)) for part in parts]) if off else [0] * len(parts)


def _by_line(exact: list[list[Fraction]], *, inclusive: bool) -> list[list[int]]:
    """Each tax rounded by itself; those inside a gross amount together, or they could come to more than it."""
    if inclusive:
        return [apportioned(whole(sum(parts, Fraction(0))), parts) for parts in exact]
    return [[whole(part) for part in parts] for parts in exact]


def _by_document(lines: Sequence[Line], exact: list[list[Fraction]]) -> list[list[int]]:
    """The sum of each rate rounded once, and its parts given to the lines that it stands in."""
    places: dict[Rate, list[tuple[int, int]]] = {}
    for i, line in enumerate(lines):
        for j, rate in enumerate(line.rates):
            places.setdefault(rate, []).append((i, j))
    found = [[0] * len(parts) for parts in exact]
    for where in places.values():
        parts = [exact[i][j] for i, j in where]
        for (i, j), amount in zip(where, apportioned(whole(sum(parts, Fraction(0))), parts), strict=True):
            found[i][j] = amount
    return found


def _document(lines: list[TaxedLine], places: int) -> Taxed:
    """The sums of the lines."""

    def total(amounts: list[Decimal]) -> Decimal:
        return of_units(sum(units(amount, places) for amount in amounts), places)

    rates = dict.fromkeys(tax.rate for line in lines for tax in line.taxes)
    by_rate = []
    for rate in rates:
        found = [tax for line in lines for tax in line.taxes if tax.rate == rate]
        by_rate.append(RateAmount(rate, total([tax.net for tax in found]), total([tax.amount for tax in found])))
    net, tax, gross = ([getattr(line, name) for line in lines] for name in ("net", "tax", "gross"))
    return Taxed(tuple(lines), total(net), tuple(by_rate), total(tax), total(gross))
