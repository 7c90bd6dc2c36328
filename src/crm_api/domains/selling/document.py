"""The head of a sales document: whom it is for, its terms and totals."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.accounts.contact_points import Address
from crm_api.domains.products.percent import Percent
from crm_api.domains.selling.line import MOST_LINES, LineInput, LineItem, Taxes
from crm_api.kernel.record import MoneyAmount, Owned, Ratio, one_of, ownership, reference, sortable, sparse
from crm_api.kernel.schema import Currency, Id, Input, Money, Name, OwnedOutput, Paragraph, Quantity, Ref, Tag

Tags = Annotated[list[Tag], Field(max_length=50)]
Prices = Annotated[Literal["net", "gross"], Field(description="Whether unit prices are without or with tax.")]
Number = Annotated[str, Field(min_length=1, max_length=60)]
_BOOK = "Where prices are looked for first; the account's, unless given, else the default book of the currency."
_PROFILE = "How it is taxed; the account's, unless given, else the default profile."
_LINES = "Those of the opportunity as far as the caller sees them, unless given; none without one."
_DISCOUNT = "Off what all lines but shipping come to, each bearing its part."
_DISCOUNT_SUM = "The same as a sum, in the terms of the prices; one of both."
_ROUND_TO = "What is to be paid is a multiple of this, as where the smallest coin is 0.05; above zero."
_BASE = "What the tenant sums up in, on the day of the document; null where it has not said so."
_RATE = "What one unit of `currency` is in it, of the document's day; null where there was no rate."
_SHIPPING = "Its country is where the document is taxed; that of the account, without one."


def today() -> date:
    """The day of a document unless told otherwise, in UTC."""
    return datetime.now(UTC).date()


class SalesDocument(Owned):
    """The columns of the head; how deep its discounts go and what it earns is kept for approvals and not told."""

    number: Mapped[str | None]
    account_id: Mapped[UUID]
    contact_id: Mapped[UUID | None]
    opportunity_id: Mapped[UUID | None]
    client_reference: Mapped[str | None]
    currency: Mapped[str]
    prices: Mapped[str]
    price_book_id: Mapped[UUID | None]
    tax_profile_id: Mapped[UUID | None]
    payment_terms: Mapped[str | None]
    billing_address: Mapped[dict[str, Any] | None]
    shipping_address: Mapped[dict[str, Any] | None]
    note: Mapped[str | None]
    tags: Mapped[list[Any]]
    lines: Mapped[list[Any]]
    taxes: Mapped[list[Any]]
    discount_percent: Mapped[int | None] = mapped_column(Ratio)
    discount_amount: Mapped[int | None] = mapped_column(MoneyAmount)
    round_to: Mapped[int | None] = mapped_column(MoneyAmount)
    discount_total: Mapped[int] = mapped_column(MoneyAmount)
    shipping_total: Mapped[int] = mapped_column(MoneyAmount, server_default="0")
    net_total: Mapped[int] = mapped_column(MoneyAmount)
    tax_total: Mapped[int] = mapped_column(MoneyAmount)
    gross_total: Mapped[int] = mapped_column(MoneyAmount)
    rounding: Mapped[int] = mapped_column(MoneyAmount, server_default="0")
    payable_total: Mapped[int] = mapped_column(MoneyAmount)
    base_currency: Mapped[str | None]
    exchange_rate: Mapped[int | None] = mapped_column(Ratio)
    base_net_total: Mapped[int | None] = mapped_column(MoneyAmount)
    base_gross_total: Mapped[int | None] = mapped_column(MoneyAmount)
    deepest_discount: Mapped[int] = mapped_column(Ratio)
    margin: Mapped[int | None] = mapped_column(MoneyAmount)
    known_margin: Mapped[int | None] = mapped_column(Ratio)
    is_approved: Mapped[bool] = mapped_column(server_default="false")
    search_text: Mapped[str]


def document_filters(model: type[Any]) -> tuple[Any, ...]:
    """What documents of each kind are found by."""
    return (
        model.number,
        model.account_id,
        model.contact_id,
        model.opportunity_id,
        model.state,
        model.client_reference,
        model.currency,
        model.price_book_id,
        model.tax_profile_id,
        model.net_total,
        model.gross_total,
        model.base_currency,
        model.base_net_total,
        model.base_gross_total,
        model.is_approved,
        model.tags,
        model.owner_id,
        model.team_id,
        model.territory_id,
        model.created_at,
        model.updated_at,
    )


def document_constraints(table: str, day: str) -> tuple[Any, ...]:
    """Keys and indexes of a table of documents, with the column of the day that they are of."""
    return (
        *ownership(table),
        reference("account_id", "accounts"),
        reference("contact_id", "contacts"),
        reference("opportunity_id", "opportunities"),
        reference("price_book_id", "price_books"),
        reference("tax_profile_id", "tax_profiles"),
        one_of("prices", ("net", "gross")),
        sa.CheckConstraint("payable_total = gross_total + rounding", name="payable_total"),
        *sortable(table, "account_id", day, "created_at", "gross_total", "base_gross_total"),
        *(sparse(table, column) for column in ("contact_id", "opportunity_id", "price_book_id", "tax_profile_id")),
        sparse(table, "number"),  # among deleted ones, too: no number is given twice
    )


class DocumentInput(Input):
    """Whom it is for, and its terms."""

    id: Id | None = None
    account_id: Ref
    contact_id: Ref | None = None
    opportunity_id: Ref | None = None
    client_reference: Annotated[Name | None, Field(description="What the account calls it.")] = None
    currency: Annotated[Currency | None, Field(description="Of the book, else of the account, unless given.")] = None
    prices: Annotated[Prices | None, Field(description="Net or gross; as in the book, unless given.")] = None
    price_book_id: Annotated[Ref | None, Field(description=_BOOK)] = None
    tax_profile_id: Annotated[Ref | None, Field(description=_PROFILE)] = None
    payment_terms: Annotated[Name | None, Field(description="Those of the account, unless given.")] = None
    billing_address: Address | None = None
    shipping_address: Annotated[Address | None, Field(description=_SHIPPING)] = None
    note: Paragraph | None = None
    tags: Tags = []
    discount_percent: Annotated[Percent | None, Field(description=_DISCOUNT)] = None
    discount_amount: Annotated[Money | None, Field(description=_DISCOUNT_SUM)] = None
    round_to: Annotated[Money | None, Field(description=_ROUND_TO)] = None
    lines: Annotated[Annotated[list[LineInput], Field(max_length=MOST_LINES)] | None, Field(description=_LINES)] = None
    owner_id: Ref | None = None
    team_id: Ref | None = None


class DocumentView(OwnedOutput):
    """Whom it is for, its terms and totals."""

    number: Number | None
    account_id: Id
    contact_id: Id | None
    opportunity_id: Id | None
    client_reference: Name | None
    currency: Currency
    prices: Prices
    price_book_id: Id | None
    tax_profile_id: Id | None
    payment_terms: Name | None
    billing_address: Address | None
    shipping_address: Address | None
    note: Paragraph | None
    tags: Tags
    lines: Annotated[list[LineItem], Field(max_length=MOST_LINES)]
    taxes: Annotated[Taxes, Field(description="The sum of each tax.")]
    discount_percent: Annotated[Percent | None, Field(description=_DISCOUNT)]
    discount_amount: Annotated[Money | None, Field(description=_DISCOUNT_SUM)]
    round_to: Annotated[Money | None, Field(description=_ROUND_TO)]
    discount_total: Annotated[Money, Field(description="Of the lines and of the whole, in the terms of the prices.")]
    shipping_total: Annotated[Money, Field(description="Of the lines of kind shipping, net; part of the net total.")]
    net_total: Money
    tax_total: Money
    gross_total: Money
    rounding: Annotated[Money, Field(description="What the total is rounded by.")]
    payable_total: Annotated[Money, Field(description="What is to be paid: the gross total and the rounding.")]
    base_currency: Annotated[Currency | None, Field(description=_BASE)]
    exchange_rate: Annotated[Quantity | None, Field(description=_RATE)]
    base_net_total: Annotated[Money | None, Field(description="The net total in the base currency.")]
    base_gross_total: Annotated[Money | None, Field(description="The gross total in the base currency.")]
    is_approved: Annotated[bool, Field(description="As it is now: false again once it is priced anew.")]
