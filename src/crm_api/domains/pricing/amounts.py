"""Amounts: exact arithmetic, and rounding to the currency's minor unit. Nothing here reads or waits.

An amount on its way is a `Fraction`, which is exact for every quotient too; it becomes a `Decimal` when it is rounded.
"""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from babel.numbers import get_currency_precision

Amount = Decimal | Fraction
PRICE_DECIMALS = 4
"""Decimals of a unit price, which may be finer than the currency: ten-thousandths, as amounts are kept."""


@lru_cache(maxsize=1024)
def decimals(currency: str) -> int:
    """Decimals of a currency's minor unit (ISO 4217 as babel tells it): 2 for EUR, 0 for JPY, 3 for KWD, 4 for CLF."""
    return int(get_currency_precision(currency))


def whole(value: Amount) -> int:
    """The nearest integer, half away from zero."""
    return units(value, 0)


def units(amount: Amount, places: int) -> int:
    """An amount as a number of units of so many decimals, rounded half away from zero."""
    return _nearest(*amount.as_integer_ratio(), places)


def product_units(amount: Amount, times: Amount, places: int, *, by: int = 1) -> int:
    """An amount times another, divided by an integer, as a number of units: rounded once, half away from zero."""
    (over, under), (above, below) = amount.as_integer_ratio(), times.as_integer_ratio()
    return _nearest(over * above, under * below * by, places)


def _nearest(over: int, under: int, places: int) -> int:
    nearest: int = (2 * abs(over) * 10**places + under) // (2 * under)
    return nearest if over >= 0 else -nearest


def of_units(count: int, places: int) -> Decimal:
    """So many units of so many decimals; exact, whatever the precision of the decimal context is."""
    return Decimal(f"{count}E-{places}")


def rounded(amount: Amount, places: int) -> Decimal:
    """An amount with so many decimals, half away from zero."""
    return of_units(units(amount, places), places)


def in_currency(amount: Amount, currency: str) -> Decimal:
    """An amount in whole minor units of its currency, half away from zero."""
    return rounded(amount, decimals(currency))


def to_step(amount: Amount, step: Decimal) -> Decimal:
    """The multiple of a step above zero that is nearest to an amount, half away from zero: to 0.05, to 10."""
    return rounded(Fraction(step) * whole(Fraction(amount) / Fraction(step)), PRICE_DECIMALS)


def extended(quantity: Decimal, price: Amount, currency: str) -> Decimal:
    """Quantity times price, rounded to the currency."""
    places = decimals(currency)
    return of_units(product_units(quantity, price, places), places)


def discount(
    amount: Decimal, currency: str, *, percent: Decimal | None = None, fixed: Decimal | None = None
) -> Decimal:
    """What a discount takes off the amount of a line: so many percent of it, rounded to the currency, or a fixed sum.

    Raises:
        ValueError: both are given, or the discount is below zero or above the amount; the text says which.
    """
    if percent is not None and fixed is not None:
        raise ValueError("A discount is a percentage or an amount, not both.")
    if fixed is not None:
        off = in_currency(fixed, currency)
    else:
        places = decimals(currency)
        off = of_units(product_units(amount, percent or Decimal(0), places, by=100), places)
    if off < 0 or off > max(amount, Decimal(0)):
        raise ValueError("A discount is at least zero and at most the amount that it is taken from.")
    return off


def apportioned(total: int, exact: Sequence[Fraction]) -> list[int]:
    """Integers that sum up to `total`, each less than one from its exact part: by the largest remainders.

    Args:
        total: the rounded sum of the parts.
        exact: the parts; of equal remainders the first gets the unit.
    """
    parts = [part.numerator // part.denominator for part in exact]
    missing = total - sum(parts)
    order = sorted(range(len(exact)), key=lambda i: (parts[i] - exact[i], i))
    for i in order[:missing]:
        parts[i] += 1
    return parts
