"""The wire form of a priced basket."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field

from crm_api.domains.pricing.amounts import Amount, units
from crm_api.domains.pricing.basket import Step, StepKind
from crm_api.domains.pricing.price import MOST_LINES
from crm_api.domains.pricing.priced import Priced, PricedLine
from crm_api.domains.pricing.tax import RateAmount
from crm_api.domains.pricing.tax_rate import Region
from crm_api.domains.products.percent import Adjustment, Percent
from crm_api.kernel.database import Row
from crm_api.kernel.external import To
from crm_api.kernel.schema import (
    Country,
    Currency,
    Id,
    Money,
    Name,
    PositiveQuantity,
    Ref,
    Wire,
    money_text,
    ratio_text,
)

_MODE = Literal["net", "gross"]
_PRICE = "Of one unit, in the terms of the whole: net or gross as `prices` says."


class PriceQuoteLineInput(Wire):
    """A product and how much of it."""

    product_id: Annotated[Ref, To("products")]
    quantity: PositiveQuantity
    unit_id: Annotated[Ref | None, To("units"), Field(description="The base unit of the product, unless told.")] = None
    discount_percent: Annotated[Percent | None, Field(description="Off the amount of the line.")] = None
    discount_amount: Annotated[Money | None, Field(description="The same as a sum; one of both.")] = None
    unit_price: Annotated[Money | None, Field(description=f"In place of the price that is found. {_PRICE}")] = None


class PriceQuoteRequest(Wire):
    """What is to be priced, for whom and when."""

    account_id: Annotated[
        Ref | None, To("accounts"), Field(description="Its currency and country are taken, unless told.")
    ] = None
    price_book_id: Annotated[
        Ref | None, To("price_books"), Field(description="The default book of the currency, unless told.")
    ] = None
    tax_profile_id: Annotated[
        Ref | None, To("tax_profiles"), Field(description="The default profile, unless told; without any, no taxes.")
    ] = None
    currency: Annotated[Currency | None, Field(description="Of the book, else of the account, unless told.")] = None
    day: Annotated[date | None, Field(description="Of prices, taxes and rates: today (UTC), unless told.")] = None
    country: Country | None = None
    region: Region | None = None
    prices: Annotated[_MODE | None, Field(description="Net or gross; as in the book, unless told.")] = None
    discount_percent: Annotated[Percent | None, Field(description="Off the whole, each line bearing its part.")] = None
    discount_amount: Annotated[Money | None, Field(description="The same as a sum; one of both.")] = None
    lines: Annotated[list[PriceQuoteLineInput], Field(min_length=1, max_length=MOST_LINES)]


class PriceStep(Wire):
    """What was done to the price of one unit, and what it was then."""

    kind: StepKind
    price: Money
    price_book_id: Id | None
    price_entry_id: Id | None
    percent: Adjustment | None


class TaxAmount(Wire):
    """What one tax comes to, and the net amount that it is taken of."""

    name: Name
    percent: Percent
    is_compound: bool
    net: Money
    amount: Money


_TAXES = Annotated[list[TaxAmount], Field(max_length=1000)]


class LastSale(Wire):
    """What the account paid for the product the last time, in a confirmed order that the caller sees."""

    order_id: Id
    order_line_id: Id
    ordered_on: date
    quantity: PositiveQuantity
    unit_id: Id | None
    currency: Currency
    prices: _MODE
    unit_price: Annotated[Money, Field(description="Before the discount, net or gross as `prices` says.")]
    discount: Annotated[Money, Field(description="Off the line, in the same terms.")]
    net: Annotated[Money, Field(description="Of the line.")]


class PriceQuoteLine(Wire):
    """A line with its prices and amounts."""

    product_id: Id
    quantity: PositiveQuantity
    unit_id: Id
    price_book_id: Annotated[Id | None, Field(description="The book that the price is from; null for the list price.")]
    price_entry_id: Id | None
    list_price: Annotated[Money | None, Field(description=_PRICE)]
    found_price: Annotated[Money | None, Field(description=f"By books and list price. {_PRICE}")]
    unit_price: Annotated[Money, Field(description=f"Before the discount. {_PRICE}")]
    unit_price_net: Money
    unit_price_gross: Money
    discount: Annotated[Money, Field(description="Off the line, in the same terms.")]
    document_discount: Annotated[Money, Field(description="What it bears of the discount on the whole, in them, too.")]
    net: Money
    tax: Money
    gross: Money
    taxes: _TAXES
    cost: Annotated[Money | None, Field(description="Of the whole line.")]
    margin: Annotated[Money | None, Field(description="Net less cost.")]
    last_sale: Annotated[LastSale | None, Field(description="Within the last 200 orders of the account.")]
    explanation: Annotated[
        list[PriceStep], Field(max_length=200, description="How the price came about, step by step.")
    ]
    redacted: Annotated[
        list[Annotated[str, Field(max_length=63)]], Field(max_length=10, description="Fields hidden from the caller.")
    ]


class PriceQuoteTotals(Wire):
    """The sums of the lines; net and tax are gross exactly."""

    net: Money
    tax: Money
    gross: Money
    taxes: _TAXES


class PriceQuote(Wire):
    """A basket with its prices. Nothing of it is kept."""

    object: Literal["price_quote"]
    account_id: Id | None
    price_book_id: Annotated[Id | None, Field(description="The first book that prices are looked for in.")]
    tax_profile_id: Id | None
    currency: Currency
    day: date
    country: Country | None
    region: Region | None
    prices: _MODE
    rounding: Annotated[Literal["line", "document"], Field(description="How taxes are rounded.")]
    allowed_discount: Annotated[
        Percent | None,
        Field(description="What the caller may give on orders without approval; null is any, or untold."),
    ]
    lines: Annotated[list[PriceQuoteLine], Field(max_length=MOST_LINES)]
    totals: PriceQuoteTotals


def quote_of(priced: Priced, sold: Mapping[str, Row] | None, allowed: int | None) -> dict[str, Any]:
    """A priced basket as it is sent; `sold` are last sales by product, None when hidden, `allowed` is in millionths."""
    hidden = [*priced.hidden, *(["last_sale"] if sold is None else [])]
    return {
        "object": "price_quote",
        **{name: getattr(priced, name) for name in ("account_id", "price_book_id", "tax_profile_id")},
        "currency": priced.currency,
        "day": priced.day.isoformat(),
        **{name: getattr(priced, name) for name in ("country", "region", "prices", "rounding")},
        "allowed_discount": None if allowed is None else ratio_text(allowed),
        "lines": [
            {**_line(line), "last_sale": sale_of((sold or {}).get(str(line.line.product_id))), "redacted": hidden}
            for line in priced.lines
        ],
        "totals": _sums(priced.totals),
    }


def sale_of(row: Row | None) -> dict[str, Any] | None:
    """A last sale as it is sent; see `LastSale`."""
    if row is None:
        return None
    return {
        "order_id": row["order_id"],
        "order_line_id": row["id"],
        "ordered_on": row["ordered_on"].isoformat(),
        "quantity": ratio_text(row["quantity"]),
        "unit_id": row["unit_id"],
        **{name: row[name] for name in ("currency", "prices")},
        **{name: money_text(row[name]) for name in ("unit_price", "discount")},
        "net": money_text(row["net_amount"]),
    }


def _line(line: PricedLine) -> dict[str, Any]:
    net, gross = line.unit_prices
    return {
        "product_id": line.line.product_id,
        "quantity": ratio_text(units(line.line.quantity, 6)),
        "unit_id": line.unit_id,
        "price_book_id": line.price_book_id,
        "price_entry_id": line.price_entry_id,
        **{name: _money(getattr(line, name)) for name in ("list_price", "found_price", "unit_price")},
        "unit_price_net": _money(net),
        "unit_price_gross": _money(gross),
        "discount": _money(line.amounts.discount),
        "document_discount": _money(line.amounts.share),
        **_sums(line.amounts),
        "cost": _money(line.cost),
        "margin": _money(line.margin),
        "explanation": [step_of(step) for step in line.steps],
    }


def _sums(amounts: Any) -> dict[str, Any]:
    sums = {name: _money(getattr(amounts, name)) for name in ("net", "tax", "gross")}
    return {**sums, "taxes": [tax_amount(tax) for tax in amounts.taxes]}


def tax_amount(tax: RateAmount) -> dict[str, Any]:
    """A tax as it is sent; see `TaxAmount`."""
    rate = tax.rate
    told = {"name": rate.name, "percent": _percent(rate.percent), "is_compound": rate.compound}
    return {**told, "net": _money(tax.net), "amount": _money(tax.amount)}


def step_of(step: Step) -> dict[str, Any]:
    """A step as it is sent; see `PriceStep`."""
    return {
        "kind": step.kind,
        "price": _money(step.price),
        "price_book_id": step.price_book_id,
        "price_entry_id": step.price_entry_id,
        "percent": None if step.percent is None else _percent(step.percent),
    }


def _money(amount: Amount | None) -> str | None:
    return None if amount is None else money_text(units(amount, 4))


def _percent(percent: Decimal) -> str:
    return ratio_text(units(percent, 6))
