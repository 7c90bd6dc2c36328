"""The lines of a basket with their products and units, and what is wrong with them by themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import orjson

from crm_api.domains.pricing.amounts import discount, extended, product_units
from crm_api.domains.pricing.basket import BasketLine
from crm_api.domains.pricing.price_lookup import Entry, decimals_of
from crm_api.domains.pricing.tax import Rate
from crm_api.kernel.context import Context
from crm_api.kernel.problems import INVALID, Fault, Problem

LARGEST = 10**14
"""Amounts are below this; what is kept has fourteen digits before the point."""
_MOST = 10**12
"""Quantities are below this, in base units."""
_ONE = Fraction(1)
_NO_PRODUCT: Mapping[str, Any] = dict.fromkeys(
    ("id", "unit_id", "category_id", "tax_class", "list_price", "cost", "currency")
)


@dataclass(slots=True)
class Item:
    """A line on its way; prices are of one base unit until `unit` is done."""

    line: BasketLine
    product: Mapping[str, Any]
    factor: Fraction
    decimals: int
    rates: tuple[Rate, ...] = ()
    entry: Entry | None = None
    base: Fraction = field(init=False)
    """The quantity in the product's base unit."""

    def __post_init__(self) -> None:
        quantity = Fraction(self.line.quantity)
        self.base = quantity if self.factor == 1 else quantity * self.factor

    @property
    def unit_id(self) -> str | None:
        """The unit of quantity and prices; None without a product."""
        return self.line.unit_id or self.product["unit_id"]


async def items_of(
    ctx: Context, lines: Sequence[BasketLine], products: Sequence[Mapping[str, Any] | None]
) -> list[Item]:
    """The lines with their units and their products, for each line None where the caller may read none.

    Raises:
        Problem: 422 for each that cannot be sold as it is asked for.
    """
    given = list(dict.fromkeys(UUID(line.unit_id) for line in lines if line.unit_id is not None))
    decimals = await decimals_of(ctx, given) if given else {}
    items, faults = [], []
    for i, (line, product) in enumerate(zip(lines, products, strict=True)):
        if line.product_id is None:
            items.append(Item(line, {**_NO_PRODUCT, "tax_class": line.tax_class}, _ONE, 6))
            faults += _wrong(i, items[-1])
            continue
        if product is None:
            faults.append(line_fault(i, "product_id", "reference_not_found", "There is no such product."))
            continue
        if product["status"] == "retired" and not line.retired:
            faults.append(line_fault(i, "product_id", "product_retired", "The product is not sold any more."))
            continue
        item = _item(line, product, decimals)
        if item is None:
            faults.append(line_fault(i, "unit_id", "reference_not_found", "The product does not come in such a unit."))
            continue
        faults += _wrong(i, item)
        items.append(item)
    refuse(faults)
    return items


def _item(line: BasketLine, product: Mapping[str, Any], decimals: dict[str, int]) -> Item | None:
    """The line in its unit; None for a unit that the product does not come in."""
    unit = None if line.unit_id is None else line.unit_id.lower()
    if unit is None or unit == product["unit_id"]:
        taken = line if line.unit_id in (None, unit) else replace(line, unit_id=unit)
        return Item(taken, product, _ONE, product["decimals"])
    factors = {one["unit_id"]: one["factor"] for one in orjson.loads(product["conversions"])}
    if unit not in factors or unit not in decimals:
        return None
    return Item(replace(line, unit_id=unit), product, Fraction(factors[unit]), decimals[unit])


def _wrong(i: int, item: Item) -> list[Fault]:
    """What is wrong with a line by itself."""
    line, faults = item.line, []
    over, under = line.quantity.as_integer_ratio()
    if line.quantity <= 0:
        faults.append(line_fault(i, "quantity", "not_positive", "This is greater than zero."))
    elif over * 10**item.decimals % under:
        detail = f"A quantity in this unit has at most {item.decimals} decimals."
        faults.append(line_fault(i, "quantity", "too_many_decimals", detail))
    elif item.base >= _MOST:
        faults.append(line_fault(i, "quantity", "too_large", "This is too much."))
    if line.discount_percent is not None and line.discount_amount is not None:
        faults.append(line_fault(i, "discount_amount", "exactly_one", "A discount is a percentage or an amount."))
    if line.discount_percent is not None and not 0 <= line.discount_percent <= 100:
        faults.append(line_fault(i, "discount_percent", "invalid_percent", "A discount is 0 to 100 percent."))
    discounted = line.discount_percent or line.discount_amount
    if line.unit_price is None and line.product_id is None:
        faults.append(line_fault(i, "unit_price", "required", "What is no product has a price of its own."))
    elif line.unit_price is not None and line.unit_price < 0 and line.product_id is not None:
        faults.append(line_fault(i, "unit_price", "negative", "The price of a product is not below zero."))
    elif line.unit_price is not None and line.unit_price < 0 and discounted:
        faults.append(line_fault(i, "discount_percent", "not_discountable", "A credit has no discount."))
    return faults


def amounts_wrong(i: int, item: Item, charge: Decimal, currency: str) -> list[Fault]:
    """Refuses a discount above the amount of the line, and amounts that are too large."""
    if product_units(max(item.line.quantity, Decimal(1)), abs(charge), 10) >= LARGEST * 10**10:
        return [line_fault(i, "quantity", "too_large", "The amount of the line is too large.")]
    if item.line.discount_amount is None:
        return []
    try:
        discount(extended(item.line.quantity, charge, currency), currency, fixed=item.line.discount_amount)
    except ValueError as error:
        return [line_fault(i, "discount_amount", "invalid_discount", str(error))]
    return []


def line_fault(i: int, name: str, code: str, detail: str) -> Fault:
    """What is wrong with a field of the i-th line."""
    return Fault(code, detail, pointer=f"/lines/{i}/{name}")


def no_price(i: int) -> Fault:
    """The i-th line has no price of its own, and none is found or told."""
    return line_fault(i, "product_id", "no_price", "No book has a price, and there is no list price.")


def refuse(faults: list[Fault]) -> None:
    """422 if anything is wrong."""
    if faults:
        raise Problem(INVALID, f"{len(faults)} thing(s) cannot be priced.", faults[:100])
