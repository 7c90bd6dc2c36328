"""Quotes: what an account is offered, and until when."""

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.pricing.validity import in_order
from crm_api.domains.quotes.convert import ConvertRequest, convert
from crm_api.domains.quotes.quote_line import QuoteLine
from crm_api.domains.quotes.revise import copy
from crm_api.domains.quotes.states import LIFECYCLE
from crm_api.domains.selling.document import (
    DocumentInput,
    DocumentView,
    Number,
    SalesDocument,
    document_constraints,
    document_filters,
    today,
)
from crm_api.domains.selling.line import LineItem
from crm_api.domains.selling.opportunity import SAME_ACCOUNT
from crm_api.domains.selling.pricing import priced
from crm_api.domains.territories.assign import ASSIGN_TERRITORY
from crm_api.kernel.customs import CustomValues
from crm_api.kernel.joints import Lock, Parts, Printed
from crm_api.kernel.policy import through
from crm_api.kernel.record import Entity, one_of, reference, sparse, unique
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Id, Instant, Line

_SENT: sa.ColumnElement[bool] = sa.column("state") == sa.literal_column("'sent'")


class Quote(SalesDocument, Entity):
    """What an account is offered."""

    __tablename__ = "quotes"
    __table_args__ = (
        *document_constraints("quotes", "quoted_on"),
        one_of("state", LIFECYCLE.states),
        sa.CheckConstraint("valid_until >= quoted_on", name="validity"),
        reference("previous_id", "quotes"),
        reference("superseded_by_id", "quotes"),
        reference("order_id", "orders"),
        *(sparse("quotes", column) for column in ("previous_id", "superseded_by_id")),
        unique("uq_quotes_number", "number", "revision"),
        unique("uq_quotes_order_id", "order_id"),
        sa.Index("ix_quotes_valid_until", "tenant_id", "valid_until", "id", postgresql_where=_SENT),
    )

    state: Mapped[str]
    revision: Mapped[int] = mapped_column(server_default="1")
    quoted_on: Mapped[date] = mapped_column(sa.Date)
    valid_until: Mapped[date | None] = mapped_column(sa.Date)
    reason: Mapped[str | None]
    sent_at: Mapped[datetime | None]
    decided_at: Mapped[datetime | None]
    previous_id: Mapped[UUID | None]
    superseded_by_id: Mapped[UUID | None]
    order_id: Mapped[UUID | None]


class QuoteCreate(DocumentInput):
    """What an account is offered."""

    number: Annotated[Number | None, Field(description="Drawn when the quote leaves its draft unless given.")] = None
    quoted_on: Annotated[date, Field(default_factory=today, description="Today unless given.")]
    valid_until: Annotated[date | None, Field(description="The last day it can be accepted; null is without end.")] = (
        None
    )
    custom: CustomValues = {}


class QuoteView(DocumentView):
    """What an account is offered."""

    object: Literal["quote"]
    state: Literal[
        "draft", "pending_approval", "approved", "sent", "accepted", "rejected", "expired", "superseded", "cancelled"
    ]
    revision: Annotated[int, Field(ge=1, le=10_000, description="Of the quotes of one number.")]
    quoted_on: date
    valid_until: date | None
    reason: Annotated[Line | None, Field(description="Why it was declined, cancelled or not approved.")]
    sent_at: Instant | None
    decided_at: Annotated[Instant | None, Field(description="When it was accepted or declined.")]
    previous_id: Annotated[Id | None, Field(description="The revision before.")]
    superseded_by_id: Annotated[Id | None, Field(description="The revision after.")]
    order_id: Annotated[Id | None, Field(description="What it was converted to.")]


QUOTES = Resource(
    singular="quote",
    plural="quotes",
    model=Quote,
    output=QuoteView,
    history=True,
    create=QuoteCreate,
    title="number",
    owner=Quote.owner_id,
    rows=(through("account_id", "accounts"),),
    lifecycle=LIFECYCLE,
    actions=(
        Action("copy", "Copy {one} to a new draft", copy, event="copied", level="read", status=201, reply=QuoteView),
        Action("convert", "Make an order of {one}", convert, event="converted", body=ConvertRequest),
        ASSIGN_TERRITORY,
    ),
    once=frozenset({"currency", "prices"}),
    lock=Lock(frozenset({"draft"}), frozenset({"owner_id", "team_id", "tags", "note"})),
    checks=(in_order("quoted_on", "valid_until"),),
    builds=(SAME_ACCOUNT, priced("quoted_on")),
    parts={"lines": Parts("quote_lines", QuoteLine, "quote_id", LineItem)},
    printed=Printed(("quoted_on", "valid_until")),
    require_match=True,
    search=("number", "client_reference"),
    values={"tags": list},
    filters=(
        *document_filters(Quote),
        Quote.revision,
        Quote.quoted_on,
        Quote.valid_until,
        Quote.previous_id,
        Quote.superseded_by_id,
        Quote.order_id,
        Quote.sent_at,
        Quote.decided_at,
    ),
    sorts=(Quote.quoted_on, Quote.gross_total, Quote.base_gross_total, Quote.created_at),
)
