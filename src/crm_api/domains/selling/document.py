"""The head of a sales document: whom it is for, its terms and totals."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.accounts.contact_points import Address
from crm_api.domains.selling.line import MOST_LINES, LineInput, LineItem, Taxes
from crm_api.kernel.record import MoneyAmount, Owned, Ratio, one_of, ownership, reference, sortable, sparse
from crm_api.kernel.schema import Currency, Id, Input, Money, Name, OwnedOutput, Paragraph, Ref, Tag

Tags = Annotated[list[Tag], Field(max_length=50)]
Prices = Annotated[Literal["net", "gross"], Field(description="Whether unit prices are without or with tax.")]
Number = Annotated[str, Field(min_length=1, max_length=60)]
_BOOK = "Where prices are looked for first; the account's, unless given, else the default book of the currency."
_PROFILE = "How it is taxed; the account's, unless given, else the default profile."
_LINES = "Those of the opportunity as far as the caller sees them, unless given; none without one."
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
    discount_total: Mapped[int] = mapped_column(MoneyAmount)
    net_total: Mapped[int] = mapped_column(MoneyAmount)
    tax_total: Mapped[int] = mapped_column(MoneyAmount)
    gross_total: Mapped[int] = mapped_column(MoneyAmount)
    deepest_discount: Mapped[int] = mapped_column(Ratio)
    margin: Mapped[int | None] = mapped_column(MoneyAmount)
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
        *sortable(table, "account_id", day, "created_at", "gross_total"),
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
    discount_total: Money
    net_total: Money
    tax_total: Money
    gross_total: Money
    is_approved: Annotated[bool, Field(description="As it is now: false again once it is priced anew.")]
