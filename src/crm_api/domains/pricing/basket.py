"""What is to be priced and what comes of it; `price.py` gets from one to the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from crm_api.domains.pricing.tax import Rounding, Taxed, TaxedLine

StepKind = Literal[
    "list_price",
    "entry_price",
    "entry_adjustment",
    "rounding_step",
    "book_adjustment",
    "currency",
    "unit",
    "tax",
    "override",
]
Mode = Literal["net", "gross"]
LineKind = Literal["item", "shipping"]


@dataclass(frozen=True, slots=True)
class BasketLine:
    """A product, or something that has its own price, and how much of it.

    Attributes:
        product_id: id of the product; None for what the line alone knows, which has a `unit_price` then.
        quantity: above zero, in the unit.
        unit_id: the product's base unit unless told, else one that it is converted from.
        discount_percent: 0 to 100, off the amount of the line.
        discount_amount: the same as a sum, in the terms of the basket's prices; one of both.
        unit_price: of one unit, in the terms of the basket's prices; in place of the price that is found. Below zero
            only without a product.
        tax_percent: in place of the taxes of the profile.
        tax_class: which taxes of the profile, without a product.
        retired: whether the product may be one that is not sold any more, as in a line that was there before.
        kind: what it is; a discount on the whole basket is not taken off shipping.
    """

    product_id: str | None
    quantity: Decimal
    unit_id: str | None = None
    discount_percent: Decimal | None = None
    discount_amount: Decimal | None = None
    unit_price: Decimal | None = None
    tax_percent: Decimal | None = None
    tax_class: str = "standard"
    retired: bool = False
    kind: LineKind = "item"


@dataclass(frozen=True, slots=True)
class Basket:
    """What is to be priced, for whom and when.

    Attributes:
        lines: at most 1,000.
        day: of which prices, taxes and rates are taken.
        account_id: whose currency and country are taken, unless told; not a blocked one.
        price_book_id: the account's, unless told; else the default book of the currency.
        currency: of the document; the book's, else the account's, unless told.
        tax_profile_id: the account's, unless told; else the default profile.
        country: where it is taxed; the account's, unless told.
        region: part of the country.
        prices: whether prices are net or gross; as in the book, unless told.
        discount_percent: 0 to 100, off what all lines but shipping come to.
        discount_amount: the same as a sum, in the terms of the prices; one of both.
    """

    lines: Sequence[BasketLine]
    day: date
    account_id: str | None = None
    price_book_id: str | None = None
    currency: str | None = None
    tax_profile_id: str | None = None
    country: str | None = None
    region: str | None = None
    prices: Mode | None = None
    discount_percent: Decimal | None = None
    discount_amount: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """How a price came about: what was done, and what the price of one unit was then."""

    kind: StepKind
    price: Decimal
    price_book_id: str | None = None
    price_entry_id: str | None = None
    percent: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PricedLine:
    """A line with its prices; amounts are in the document's currency.

    Attributes:
        line: as it was asked for.
        unit_id: the unit of the quantity and the prices; None without a product.
        product: what is known of the product: `sku`, `name`; None without one.
        base_quantity: the quantity in the product's base unit.
        price_book_id: the book that the price is from; None for the list price.
        price_entry_id: the entry of the book.
        list_price: of one unit, in the terms of the document; None where the product has none.
        found_price: what one unit costs by books and list price; None where they say nothing.
        unit_price: what one unit is charged at, before the discount, in the terms of the document.
        unit_price_net: the same without taxes, with four decimals.
        unit_price_gross: the same with taxes.
        amounts: discount, net, taxes and gross of the line.
        cost: of the whole line; None where unknown or hidden from the caller.
        margin: net less cost.
        steps: how the price came about.
    """

    line: BasketLine
    unit_id: str | None
    product: Mapping[str, Any] | None
    base_quantity: Decimal
    price_book_id: str | None
    price_entry_id: str | None
    list_price: Decimal | None
    found_price: Decimal | None
    unit_price: Decimal
    unit_price_net: Decimal
    unit_price_gross: Decimal
    amounts: TaxedLine
    cost: Decimal | None
    margin: Decimal | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Priced:
    """A basket with its prices; `hidden` names what the caller's field rules left out of the lines."""

    currency: str
    day: date
    prices: Mode
    rounding: Rounding
    account_id: str | None
    price_book_id: str | None
    tax_profile_id: str | None
    country: str | None
    region: str | None
    payment_terms: str | None
    lines: tuple[PricedLine, ...]
    totals: Taxed
    hidden: tuple[str, ...]
