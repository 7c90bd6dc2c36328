"""Orders: what an account has ordered, from a draft to the end of its delivery and billing."""

from datetime import date, datetime
from typing import Annotated, Literal

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.orders.amend import AmendRequest, amend
from crm_api.domains.orders.order_line import OrderLine, OrderLineItem
from crm_api.domains.orders.progress import COUNTED, ProgressRequest, progress
from crm_api.domains.orders.states import LIFECYCLE
from crm_api.domains.selling.document import (
    DocumentInput,
    DocumentView,
    Number,
    SalesDocument,
    document_constraints,
    document_filters,
    today,
)
from crm_api.domains.selling.line import MOST_LINES
from crm_api.domains.selling.opportunity import SAME_ACCOUNT
from crm_api.domains.selling.pricing import priced
from crm_api.domains.territories.assign import ASSIGN_TERRITORY
from crm_api.kernel.customs import CustomValues
from crm_api.kernel.joints import Lock, Parts, Printed
from crm_api.kernel.policy import through
from crm_api.kernel.record import Entity, one_of, unique
from crm_api.kernel.resource import Action, Resource, ToMany
from crm_api.kernel.schema import Count, Instant, Line, Name

_PROGRESS = ("none", "partial", "complete", "over")


class Order(SalesDocument, Entity):
    """What an account has ordered."""

    __tablename__ = "orders"
    __table_args__ = (
        *document_constraints("orders", "ordered_on"),
        one_of("state", LIFECYCLE.states),
        one_of("fulfilment", _PROGRESS),
        one_of("billing", _PROGRESS[:3]),
        unique("uq_orders_number", "number"),
    )

    state: Mapped[str]
    fulfilment: Mapped[str] = mapped_column(server_default="none")
    billing: Mapped[str] = mapped_column(server_default="none")
    channel: Mapped[str | None]
    ordered_on: Mapped[date] = mapped_column(sa.Date)
    requested_on: Mapped[date | None] = mapped_column(sa.Date)
    promised_on: Mapped[date | None] = mapped_column(sa.Date)
    reason: Mapped[str | None]
    confirmed_at: Mapped[datetime | None]
    amendment: Mapped[int] = mapped_column(server_default="0")
    amendment_reason: Mapped[str | None]


class OrderCreate(DocumentInput):
    """What an account orders."""

    number: Annotated[Number | None, Field(description="Drawn when the order is confirmed unless given.")] = None
    channel: Name | None = None
    ordered_on: Annotated[date, Field(default_factory=today, description="Today unless given.")]
    requested_on: date | None = None
    promised_on: date | None = None
    custom: CustomValues = {}


class OrderView(DocumentView):
    """What an account has ordered."""

    object: Literal["order"]
    lines: Annotated[list[OrderLineItem], Field(max_length=MOST_LINES)]  # type: ignore[assignment]  # more of each
    state: Literal["draft", "pending_approval", "confirmed", "on_hold", "closed", "cancelled"]
    fulfilment: Literal["none", "partial", "complete", "over"]
    billing: Literal["none", "partial", "complete"]
    channel: Name | None
    ordered_on: date
    requested_on: date | None
    promised_on: date | None
    reason: Annotated[Line | None, Field(description="Why it is on hold, cancelled or not approved.")]
    confirmed_at: Instant | None
    amendment: Annotated[Count, Field(description="How often it was amended.")]
    amendment_reason: Annotated[Line | None, Field(description="Of the last time.")]


ORDERS = Resource(
    singular="order",
    plural="orders",
    model=Order,
    output=OrderView,
    history=True,
    create=OrderCreate,
    title="number",
    owner=Order.owner_id,
    rows=(through("account_id", "accounts"),),
    lifecycle=LIFECYCLE,
    actions=(
        Action("amend", "Amend {one} that is confirmed", amend, event="changed", body=AmendRequest),
        Action("progress", "Tell how far {one} is", progress, event="progressed", body=ProgressRequest),
        ASSIGN_TERRITORY,
    ),
    once=frozenset({"currency", "prices"}),
    require_match=True,
    lock=Lock(frozenset({"draft"}), frozenset({"owner_id", "team_id", "tags", "note", "promised_on"})),
    builds=(SAME_ACCOUNT, priced("ordered_on"), COUNTED),
    many={"quotes": ToMany("quotes", "order_id")},
    parts={"lines": Parts("order_lines", OrderLine, "order_id", OrderLineItem)},
    printed=Printed(("ordered_on", "requested_on", "promised_on")),
    search=("number", "client_reference"),
    values={"tags": list},
    filters=(
        *document_filters(Order),
        Order.fulfilment,
        Order.billing,
        Order.channel,
        Order.ordered_on,
        Order.requested_on,
        Order.promised_on,
        Order.confirmed_at,
    ),
    sorts=(Order.ordered_on, Order.gross_total, Order.base_gross_total, Order.created_at),
)
