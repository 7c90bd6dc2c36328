"""The price of a line by books and list price, brought to the terms of the document step by step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from crm_api.domains.pricing.amounts import PRICE_DECIMALS, in_currency, rounded, to_step
from crm_api.domains.pricing.basket import Step, StepKind
from crm_api.domains.pricing.currency_rate import no_rate
from crm_api.domains.pricing.document import Document
from crm_api.domains.pricing.items import Item
from crm_api.domains.pricing.price_lookup import Book, Entry
from crm_api.domains.pricing.tax import gross_factor
from crm_api.kernel.problems import INVALID, Problem
from crm_api.kernel.record import MONEY_SCALE


@dataclass(frozen=True, slots=True)
class Terms:
    """A document with its books, nearest first, and what currencies are in its own and in that of its books."""

    document: Document
    books: Sequence[Book]
    in_document: dict[str, Fraction]
    in_book: dict[str, Fraction]

    def rate(self, currency: str, pointer: str) -> Fraction:
        """What one unit of a currency is in the document's; 422 at `pointer` where nobody knows."""
        if currency not in self.in_document:
            document = self.document
            fault = no_rate(currency, document.currency, document.day, pointer)
            raise Problem(INVALID, "A currency has no rate.", [fault])
        return self.in_document[currency]


@dataclass(slots=True)
class Found:
    """A price on its way, and the steps that it took, rounded only when they are told."""

    amount: Fraction
    inclusive: bool
    steps: list[tuple[StepKind, Fraction, dict[str, Any]]] = field(default_factory=list)

    def step(self, kind: StepKind, amount: Fraction, **told: Any) -> None:
        """Goes on with another amount."""
        self.amount = amount
        self.steps.append((kind, amount, told))

    def told(self) -> list[Step]:
        """The steps with their prices as they are sent."""
        return [Step(kind, rounded(amount, PRICE_DECIMALS), **told) for kind, amount, told in self.steps]

    def add(self, kind: StepKind, share: Fraction, **told: Any) -> None:
        """Adds a share of the amount to it."""
        self.step(kind, self.amount * (1 + share), percent=rounded(share * 100, 4), **told)


def find_price(i: int, item: Item, terms: Terms) -> Found | None:
    """What one unit of the i-th line costs by books and list price; None where they say nothing.

    Raises:
        Problem: 422 where a currency has no rate.
    """
    entry, document = item.entry, terms.document
    if entry is not None and entry.price is not None:
        inclusive = next(book.inclusive for book in terms.books if book.id == entry.book_id)
        found, currency = Found(entry.price, inclusive), document.book_currency
        found.step("entry_price", entry.price, price_book_id=entry.book_id, price_entry_id=entry.id)
    elif (listed := _list_price(item)) is not None:
        found, currency = Found(listed, document.list_inclusive), str(item.product["currency"])
        found.step("list_price", listed)
        if entry is not None:
            if currency not in terms.in_book and item.line.unit_price is not None:
                return None
            _ruled(i, found, entry, currency, terms)
            currency = document.book_currency
    else:
        return None
    if entry is not None and entry.step is not None:
        step = Decimal(entry.step.numerator) / entry.step.denominator
        found.step("rounding_step", Fraction(to_step(found.amount, step)))
    for book in reversed(terms.books):
        if book.adjustment and (entry is None or book.depth < entry.depth):
            found.add("book_adjustment", book.adjustment, price_book_id=book.id)
    if currency not in terms.in_document and item.line.unit_price is not None:
        return None
    place = "/currency" if currency == document.book_currency else f"/lines/{i}/product_id"
    _in_terms(found, item, document, terms.rate(currency, place))
    return found


def _ruled(i: int, found: Found, entry: Entry, currency: str, terms: Terms) -> None:
    """The list price in the currency of the book, with what the entry adds to it."""
    if currency not in terms.in_book:
        fault = no_rate(currency, terms.document.book_currency, terms.document.day, f"/lines/{i}/product_id")
        raise Problem(INVALID, "A currency has no rate.", [fault])
    if terms.in_book[currency] != 1:
        found.step("currency", found.amount * terms.in_book[currency])
    share = entry.adjustment or Fraction(0)
    found.add("entry_adjustment", share, price_book_id=entry.book_id, price_entry_id=entry.id)


def _list_price(item: Item) -> Fraction | None:
    scaled = item.product["list_price"]
    return None if scaled is None else Fraction(scaled, MONEY_SCALE)


def _in_terms(found: Found, item: Item, document: Document, rate: Fraction) -> None:
    """Brings a price of one base unit to currency, unit and tax mode of the document."""
    if rate != 1:
        found.step("currency", found.amount * rate)
    if item.factor != 1:
        found.step("unit", found.amount * item.factor)
    if found.inclusive != document.inclusive and item.rates:
        factor = gross_factor(item.rates)
        found.step("tax", found.amount / factor if found.inclusive else found.amount * factor)


def list_price(item: Item, terms: Terms) -> Decimal | None:
    """The list price of one unit in the terms of the document; None without one, or without a rate for it."""
    listed, rate = _list_price(item), terms.in_document.get(str(item.product["currency"]))
    if listed is None or rate is None:
        return None
    found = Found(listed, terms.document.list_inclusive)
    _in_terms(found, item, terms.document, rate)
    return rounded(found.amount, PRICE_DECIMALS)


def cost(item: Item, terms: Terms) -> Decimal | None:
    """What the whole line costs us; None where nobody knows, or without a rate for it."""
    scaled, rate = item.product["cost"], terms.in_document.get(str(item.product["currency"]))
    if scaled is None or rate is None:
        return None
    return in_currency(Fraction(scaled, MONEY_SCALE) * rate * item.base, terms.document.currency)
