"""Deliveries: one event on its way to one endpoint; and attempts: each time it was sent, and what came back."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.policy import Access, through
from crm_api.kernel.record import Record, one_of, reference, sortable
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Instant, Wire

STATES = ("pending", "delivered", "failed", "suppressed")
KINDS = ("event", "resend", "replay", "test")


_PENDING = sa.column("state") == sa.literal_column("'pending'")


class WebhookDelivery(Record):
    """One event on its way to one endpoint."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        reference("endpoint_id", "webhook_endpoints"),
        one_of("state", STATES),
        one_of("kind", KINDS),
        *sortable("webhook_deliveries", "endpoint_id"),
        sa.Index(
            "ix_webhook_deliveries_due",
            "tenant_id",
            "endpoint_id",
            "due_at",
            postgresql_where=_PENDING,
        ),
        sa.Index(
            "ix_webhook_deliveries_object",
            "tenant_id",
            "endpoint_id",
            "object_id",
            "seq",
            postgresql_where=_PENDING,
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    endpoint_id: Mapped[UUID]
    kind: Mapped[str]
    seq: Mapped[int]
    event_id: Mapped[UUID]
    event_type: Mapped[str]
    object_type: Mapped[str]
    object_id: Mapped[UUID]
    state: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default="0")
    reason: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    lease: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]


class WebhookAttempt(Record):
    """One time an event was sent, and what came back."""

    __tablename__ = "webhook_attempts"
    __table_args__ = (
        reference("endpoint_id", "webhook_endpoints"),
        *sortable("webhook_attempts", "endpoint_id", "delivery_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    endpoint_id: Mapped[UUID]
    delivery_id: Mapped[UUID]
    version: Mapped[int] = mapped_column(server_default="1")
    at: Mapped[datetime]
    milliseconds: Mapped[int]
    status: Mapped[int | None]
    error: Mapped[str | None]
    request: Mapped[str]
    reply: Mapped[str | None]


class WebhookState(Record):
    """How an endpoint does: failures in a row, and until when nothing is sent. Written by the worker alone."""

    __tablename__ = "webhook_states"

    endpoint_id: Mapped[UUID] = mapped_column(primary_key=True)
    failures: Mapped[int] = mapped_column(server_default="0")
    failing_since: Mapped[datetime | None]
    closed_until: Mapped[datetime | None]
    free_at: Mapped[datetime | None]


class WebhookFanout(Record):
    """Up to where the events of a tenant were handed to its endpoints."""

    __tablename__ = "webhook_fanouts"

    seq: Mapped[int]


_Version = Annotated[int, Field(ge=1, le=9_007_199_254_740_991)]
_Redacted = Annotated[
    list[Annotated[str, Field(max_length=63)]], Field(max_length=200, description="Fields hidden from the caller.")
]


class WebhookDeliveryView(Wire):
    """One event on its way to one endpoint. `suppressed`: the endpoint may not see the record, or filters it out."""

    id: Id
    object: Literal["webhook_delivery"]
    version: _Version
    endpoint_id: Id
    kind: Literal["event", "resend", "replay", "test"]
    event_id: Id
    event_type: Annotated[str, Field(max_length=100)]
    object_type: Annotated[str, Field(max_length=63)]
    object_id: Annotated[Id | None, Field(description="Null unless the caller sees every record of the type.")]
    state: Literal["pending", "delivered", "failed", "suppressed"]
    attempts: Annotated[int, Field(ge=0, le=1000)]
    reason: Annotated[str, Field(max_length=200)] | None
    created_at: Instant
    due_at: Annotated[Instant, Field(description="When the next attempt is due, while it is pending.")]
    finished_at: Instant | None
    redacted: _Redacted


class WebhookAttemptView(Wire):
    """One time an event was sent, and what came back."""

    id: Id
    object: Literal["webhook_attempt"]
    version: _Version
    endpoint_id: Id
    delivery_id: Id
    at: Instant
    milliseconds: Annotated[int, Field(ge=0, le=1_000_000)]
    status: Annotated[int, Field(ge=100, le=999)] | None
    error: Annotated[str, Field(max_length=100)] | None
    request: Annotated[
        Annotated[str, Field(max_length=2_000_000)] | None,
        Field(
            description="The body as it was signed and sent; null, like the reply, unless the caller sees every record "
            "of the type, and every field."
        ),
    ]
    reply: Annotated[str, Field(max_length=70_000, description="At most 64 KB of what came back.")] | None
    redacted: _Redacted


def _redact(item: dict[str, Any], *names: str) -> None:
    item |= dict.fromkeys(names)
    item["redacted"] = sorted({*names, *item.get("redacted", ())})


def _mask_delivery(access: Access, item: dict[str, Any]) -> None:
    """Hides which record it is about from who does not see all of its type."""
    if not access.sees_all(item["object_type"]):
        _redact(item, "object_id")


def _mask_attempt(access: Access, item: dict[str, Any]) -> None:
    """Hides what was sent from who does not see all of it; and the reply, which may echo it."""
    if item["request"] is None:
        return
    type_ = orjson.loads(item["request"])["object"]["type"]
    open_ = type_ == "access" or (access.sees_all(type_) and not access.hidden_types.get(type_))
    if not open_:
        _redact(item, "request", "reply")


_THROUGH = (through("endpoint_id", "webhook_endpoints"),)
_READ = frozenset({"get", "list"})
WEBHOOK_DELIVERIES = Resource(
    singular="webhook_delivery",
    plural="webhook_deliveries",
    model=WebhookDelivery,
    output=WebhookDeliveryView,
    title="event_type",
    rows=_THROUGH,
    filters=(
        WebhookDelivery.endpoint_id,
        WebhookDelivery.state,
        WebhookDelivery.event_type,
        WebhookDelivery.object_type,
        WebhookDelivery.object_id,
        WebhookDelivery.created_at,
    ),
    operations=_READ,
    within={"endpoint_id": "deliveries"},
    mask=_mask_delivery,
)
WEBHOOK_ATTEMPTS = Resource(
    singular="webhook_attempt",
    plural="webhook_attempts",
    model=WebhookAttempt,
    output=WebhookAttemptView,
    title="id",
    rows=_THROUGH,
    filters=(WebhookAttempt.endpoint_id, WebhookAttempt.delivery_id, WebhookAttempt.status, WebhookAttempt.at),
    operations=_READ,
    within={"endpoint_id": "attempts"},
    mask=_mask_attempt,
)
