"""What the lines of a document come to: net, tax and gross, exact to the smallest unit of the currency."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cache

from babel.numbers import get_currency_precision

_EXACT = Context(prec=80)
_WHOLE = Decimal(100)


@dataclass(frozen=True, slots=True)
class Priced:
    """A line before it is worked out; `unit_price` is net or gross as the document says, percents are of 100."""

    quantity: Decimal
    unit_price: Decimal
    discount_percent: Decimal
    tax_percent: Decimal


@dataclass(frozen=True, slots=True)
class Amounts:
    """net + tax = gross, in the currency of the document."""

    net: Decimal
    tax: Decimal
    gross: Decimal


@cache
def smallest(currency: str) -> Decimal:
    """The minor unit of a currency (ISO 4217): 0.01 of EUR, 1 of JPY, 0.001 of KWD."""
    return Decimal(1).scaleb(-get_currency_precision(currency))


def rounded(amount: Decimal, currency: str) -> Decimal:
    """To the minor unit, half away from zero."""
    return amount.quantize(smallest(currency), ROUND_HALF_UP, _EXACT)


def of_line(line: Priced, currency: str, *, gross: bool) -> Amounts:
    """What a line comes to; with `gross` its price includes the tax."""
    kept = _EXACT.subtract(_WHOLE, line.discount_percent)
    whole = _EXACT.multiply(_EXACT.multiply(line.quantity, line.unit_price), kept) / _WHOLE
    if gross:
        total = rounded(whole, currency)
        net = rounded(_EXACT.divide(total * _WHOLE, _WHOLE + line.tax_percent), currency)
        return Amounts(net, total - net, total)
    net = rounded(whole, currency)
    tax = rounded(_EXACT.multiply(net, line.tax_percent) / _WHOLE, currency)
    return Amounts(net, tax, net + tax)


def summed(lines: Sequence[Amounts]) -> Amounts:
    """What all lines come to."""
    zero = Decimal(0)
    return Amounts(
        sum((line.net for line in lines), zero),
        sum((line.tax for line in lines), zero),
        sum((line.gross for line in lines), zero),
    )
