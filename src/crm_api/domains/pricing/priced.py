"""A basket with its prices: what a record keeps of it is worked out at once, what only a quote tells when asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from crm_api.domains.pricing.amounts import PRICE_DECIMALS, in_currency, rounded
from crm_api.domains.pricing.base_currency import Base
from crm_api.domains.pricing.basket import BasketLine, Mode, Step
from crm_api.domains.pricing.finding import Found, Terms, list_price
from crm_api.domains.pricing.items import Item
from crm_api.domains.pricing.tax import Rounding, Taxed, TaxedLine, unit_prices


@dataclass(slots=True)
class PricedLine:
    """A line with its prices; amounts are in the document's currency.

    Attributes:
        item: the line as it was asked for, with its product, unit and taxes.
        terms: what it was priced in.
        found: the price by books and list price; None where they say nothing.
        unit_price: what one unit is charged at, before the discount, in the terms of the document.
        amounts: discount, net, taxes and gross of the line.
        cost: of the whole line; None where unknown or hidden from the caller.
    """

    item: Item
    terms: Terms
    found: Found | None
    unit_price: Decimal
    amounts: TaxedLine
    cost: Decimal | None

    @property
    def line(self) -> BasketLine:
        """As it was asked for."""
        return self.item.line

    @property
    def unit_id(self) -> str | None:
        """The unit of the quantity and the prices; None without a product."""
        return self.item.unit_id

    @property
    def product(self) -> Mapping[str, Any] | None:
        """What is known of the product: `sku`, `name`; None without one."""
        return None if self.item.product["id"] is None else self.item.product

    @property
    def price_book_id(self) -> str | None:
        """The book that the price is from; None for the list price."""
        return None if self.item.entry is None else self.item.entry.book_id

    @property
    def price_entry_id(self) -> str | None:
        """The entry of the book."""
        return None if self.item.entry is None else self.item.entry.id

    @property
    def list_price(self) -> Decimal | None:
        """Of one unit, in the terms of the document; None where the product has none."""
        return list_price(self.item, self.terms)

    @property
    def found_price(self) -> Decimal | None:
        """What one unit costs by books and list price; None where they say nothing."""
        return None if self.found is None else rounded(self.found.amount, PRICE_DECIMALS)

    @property
    def unit_prices(self) -> tuple[Decimal, Decimal]:
        """What one unit is charged at, net and gross, with four decimals."""
        return unit_prices(self.unit_price, self.item.rates, inclusive=bool(self.terms.document.inclusive))

    @property
    def margin(self) -> Decimal | None:
        """Net less cost."""
        if self.cost is None:
            return None
        return in_currency(Fraction(self.amounts.net) - Fraction(self.cost), self.terms.document.currency)

    @property
    def steps(self) -> list[Step]:
        """How the price came about."""
        steps = [] if self.found is None else self.found.told()
        return steps if self.line.unit_price is None else [*steps, Step("override", self.unit_price)]


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
    base: Base | None
    lines: tuple[PricedLine, ...]
    totals: Taxed
    hidden: tuple[str, ...]
