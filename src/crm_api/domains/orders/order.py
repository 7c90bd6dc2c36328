"""Orders: what an account has ordered, from a draft to the end of its delivery and billing."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.accounts.contact_points import Address
from crm_api.domains.orders.order_line import OrderLine, OrderLineInput, OrderLineItem
from crm_api.domains.orders.price import MOST_LINES, PRICED, price
from crm_api.domains.orders.states import LIFECYCLE
from crm_api.kernel.joints import Build, Lock, Parts
from crm_api.kernel.policy import through
from crm_api.kernel.record import Entity, MoneyAmount, Owned, one_of, ownership, reference, sortable, sparse, unique
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Currency, Id, Input, Instant, Line, Money, Name, OwnedOutput, Paragraph, Ref, Tag

_Tags = Annotated[list[Tag], Field(max_length=50)]
_Prices = Annotated[Literal["net", "gross"], Field(description="Whether unit prices are without or with tax.")]
Number = Annotated[str, Field(min_length=1, max_length=60)]
_PROGRESS = ("none", "partial", "complete", "over")


def _today() -> date:
    return datetime.now(UTC).date()


class Order(Owned, Entity):
    """What an account has ordered."""

    __tablename__ = "orders"
    __table_args__ = (
        *ownership("orders"),
        reference("account_id", "accounts"),
        reference("contact_id", "contacts"),
        one_of("state", LIFECYCLE.states),
        one_of("fulfilment", _PROGRESS),
        one_of("billing", _PROGRESS[:3]),
        one_of("prices", ("net", "gross")),
        unique("uq_orders_number", "number"),
        *sortable("orders", "account_id", "ordered_on", "created_at", "gross_total"),
        sa.Index("ix_orders_number", "tenant_id", "number", "id"),
        sparse("orders", "contact_id"),
    )

    number: Mapped[str | None]
    account_id: Mapped[UUID]
    contact_id: Mapped[UUID | None]
    state: Mapped[str]
    fulfilment: Mapped[str] = mapped_column(server_default="none")
    billing: Mapped[str] = mapped_column(server_default="none")
    client_reference: Mapped[str | None]
    channel: Mapped[str | None]
    ordered_on: Mapped[date] = mapped_column(sa.Date)
    requested_on: Mapped[date | None] = mapped_column(sa.Date)
    promised_on: Mapped[date | None] = mapped_column(sa.Date)
    currency: Mapped[str]
    prices: Mapped[str]
    payment_terms: Mapped[str | None]
    billing_address: Mapped[dict[str, Any] | None]
    shipping_address: Mapped[dict[str, Any] | None]
    note: Mapped[str | None]
    tags: Mapped[list[Any]]
    lines: Mapped[list[Any]]
    net_total: Mapped[int] = mapped_column(MoneyAmount)
    tax_total: Mapped[int] = mapped_column(MoneyAmount)
    gross_total: Mapped[int] = mapped_column(MoneyAmount)
    reason: Mapped[str | None]
    confirmed_at: Mapped[datetime | None]
    search_text: Mapped[str]


class OrderCreate(Input):
    """What an account orders."""

    id: Id | None = None
    number: Annotated[Number | None, Field(description="Drawn when the order is confirmed unless given.")] = None
    account_id: Ref
    contact_id: Ref | None = None
    client_reference: Annotated[Name | None, Field(description="What the account calls the order.")] = None
    channel: Name | None = None
    ordered_on: Annotated[date, Field(default_factory=_today, description="Today unless given.")]
    requested_on: date | None = None
    promised_on: date | None = None
    currency: Currency
    prices: _Prices = "net"
    payment_terms: Name | None = None
    billing_address: Address | None = None
    shipping_address: Address | None = None
    note: Paragraph | None = None
    tags: _Tags = []
    lines: Annotated[list[OrderLineInput], Field(max_length=MOST_LINES)] = []
    owner_id: Ref | None = None
    team_id: Ref | None = None


class OrderView(OwnedOutput):
    """What an account has ordered."""

    object: Literal["order"]
    number: Number | None
    account_id: Id
    contact_id: Id | None
    state: Literal["draft", "confirmed", "on_hold", "closed", "cancelled"]
    fulfilment: Literal["none", "partial", "complete", "over"]
    billing: Literal["none", "partial", "complete"]
    client_reference: Name | None
    channel: Name | None
    ordered_on: date
    requested_on: date | None
    promised_on: date | None
    currency: Currency
    prices: _Prices
    payment_terms: Name | None
    billing_address: Address | None
    shipping_address: Address | None
    note: Paragraph | None
    tags: _Tags
    lines: Annotated[list[OrderLineItem], Field(max_length=MOST_LINES)]
    net_total: Money
    tax_total: Money
    gross_total: Money
    reason: Annotated[Line | None, Field(description="Why it is on hold or cancelled.")]
    confirmed_at: Instant | None


ORDERS = Resource(
    singular="order",
    plural="orders",
    model=Order,
    output=OrderView,
    create=OrderCreate,
    title="number",
    owner=Order.owner_id,
    rows=(through("account_id", "accounts"),),
    lifecycle=LIFECYCLE,
    once=frozenset({"currency", "prices"}),
    lock=Lock(frozenset({"draft"}), frozenset({"owner_id", "team_id", "tags", "note", "promised_on"})),
    builds=(Build(PRICED, price),),
    parts={"lines": Parts("order_lines", OrderLine, "order_id", OrderLineItem)},
    search=("number", "client_reference"),
    values={"tags": list},
    filters=(
        Order.number,
        Order.account_id,
        Order.contact_id,
        Order.state,
        Order.fulfilment,
        Order.billing,
        Order.client_reference,
        Order.channel,
        Order.ordered_on,
        Order.requested_on,
        Order.promised_on,
        Order.currency,
        Order.net_total,
        Order.gross_total,
        Order.tags,
        Order.owner_id,
        Order.team_id,
        Order.territory_id,
        Order.confirmed_at,
        Order.created_at,
        Order.updated_at,
    ),
    sorts=(Order.number, Order.ordered_on, Order.gross_total, Order.created_at),
)
