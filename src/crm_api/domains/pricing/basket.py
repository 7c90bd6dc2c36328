"""What is to be priced; `price.py` gets from it to what `priced.py` says."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

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
