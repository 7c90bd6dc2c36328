"""Webhook endpoints: where events are sent, which, and under whose rights."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Mapped

from crm_api.adapters import egress
from crm_api.domains.identity.delegation import for_good
from crm_api.domains.identity.role import act_as
from crm_api.domains.integrations.changes import parse_types
from crm_api.domains.integrations.outcome import reopen
from crm_api.domains.integrations.replay import REPLAY
from crm_api.domains.integrations.rotate_secret import ROTATE_SECRET
from crm_api.domains.integrations.send import RESEND, TEST
from crm_api.domains.integrations.set_headers import SET_HEADERS
from crm_api.domains.integrations.statistics import STATISTICS
from crm_api.domains.integrations.webhook_delivery import WebhookFanout
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.feed import event_types
from crm_api.kernel.filters import Filters
from crm_api.kernel.lifecycle import Lifecycle, edge
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.problems import LIMIT_REACHED, Problem, invalid
from crm_api.kernel.record import Entity, FeedHead, one_of, reference, sortable, table_of
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Id, Input, Instant, Line, Output, Ref

MOST = 100
"""Live endpoints of a tenant."""
LIFECYCLE = Lifecycle(
    "status",
    "active",
    (
        edge("pause", ("active",), "paused", event="paused"),
        edge("resume", ("paused", "disabled"), "active", event="resumed"),
        edge("disable", ("active", "paused"), "disabled", event="disabled"),
    ),
)


class WebhookEndpoint(Entity):
    """Where events are sent."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        reference("principal_id", "principals"),
        one_of("status", LIFECYCLE.states),
        one_of("payload", ("full", "thin")),
        one_of("ordering", ("none", "per_object")),
        *sortable("webhook_endpoints", "principal_id", "created_at"),
    )

    url: Mapped[str]
    description: Mapped[str | None]
    principal_id: Mapped[UUID]
    event_types: Mapped[list[Any]]
    filter: Mapped[dict[str, Any] | None] = sa.orm.mapped_column(JSONB(none_as_null=True))
    payload: Mapped[str]
    ordering: Mapped[str]
    exclude_own: Mapped[bool]
    throttle: Mapped[int | None]
    header_names: Mapped[list[Any]] = sa.orm.mapped_column(server_default="[]")
    sealed_headers: Mapped[bytes | None]
    sealed_secrets: Mapped[bytes | None]
    secrets_changed_at: Mapped[datetime | None]
    status: Mapped[str]


EventTypes = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=100, examples=["account.*"])]],
    Field(min_length=1, max_length=50),
]


class WebhookEndpointCreate(Input):
    """Where events are sent."""

    id: Id | None = None
    url: Annotated[str, Field(min_length=8, max_length=2000, examples=["https://erp.example.com/crm-events"])]
    description: Line | None = None
    principal_id: Annotated[Ref, Field(description="Whose rights decide what is sent; a service account, as a rule.")]
    event_types: EventTypes = ["*"]
    filter: Annotated[
        dict[str, Any] | None,
        Field(
            description="A filter tree as of a search; the event types must then be of one object. The change by "
            "which a record leaves it is sent, too."
        ),
    ] = None
    payload: Annotated[Literal["full", "thin"], Field(description="`thin` leaves out `data` and `previous`.")] = "full"
    ordering: Annotated[
        Literal["none", "per_object"],
        Field(description="`per_object` sends the events of a record one after the other, in their order."),
    ] = "none"
    exclude_own: Annotated[bool, Field(description="Leaves out what the principal did itself.")] = False
    throttle: Annotated[int | None, Field(ge=1, le=1000, description="Requests a second, at most.")] = None


class WebhookEndpointView(Output):
    """Where events are sent."""

    object: Literal["webhook_endpoint"]
    url: Annotated[str, Field(min_length=8, max_length=2000)]
    description: Line | None
    principal_id: Id
    event_types: EventTypes
    filter: dict[str, Any] | None
    payload: Literal["full", "thin"]
    ordering: Literal["none", "per_object"]
    exclude_own: bool
    throttle: Annotated[int, Field(ge=1, le=1000)] | None
    header_names: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=20)]
    secrets_changed_at: Instant | None
    status: Literal["active", "paused", "disabled"]


async def _address(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 for an address that nothing is sent to, and for another server while there are headers for the present one.

    Their values are shown to nobody; who moves the endpoint must not have them sent to himself.
    """
    del ctx, resource
    if (reason := egress.check(values["url"])) is not None:
        raise invalid("/url", "refused_address", reason)
    if before is not None and _loaded(before["header_names"]) and _server(values["url"]) != _server(before["url"]):
        raise invalid("/url", "headers_set", "Its headers are for the present server. Unset them by set_headers first.")


def _server(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


async def _rights(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 unless the caller sees all that the principal may: who sets address, types or filter learns of it.

    A credential with scopes has nothing sent that they do not cover, not even for its own principal; one that ends, or
    holds only from some networks, has nothing sent, since the endpoint outlives it and is elsewhere.
    """
    del resource
    for_good(ctx)
    whole = {**(before or {}), **values}
    for name in parse_types(ctx, _loaded(whole["event_types"])) or event_types(ctx.kernel.catalog):
        if (target := ctx.kernel.catalog.by_type.get(name.partition(".")[0])) is not None:
            ctx.access.through(target)
    await act_as(ctx, UUID(str(whole["principal_id"])), as_reader=True)


async def _types(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """422 for an unknown type, and for a filter that is not one of the object whose events are sent."""
    del resource
    whole = {**(before or {}), **values}
    names = _loaded(whole["event_types"])
    for i, name in enumerate(names):
        try:
            parse_types(ctx, [name])
        except Problem:
            raise invalid(f"/event_types/{i}", "unknown_event_type", "There is no such event type.") from None
    if (tree := _loaded(whole.get("filter"))) is None:
        return
    objects = {name.partition(".")[0] for name in parse_types(ctx, names) or event_types(ctx.kernel.catalog)}
    if len(objects) != 1 or (target := ctx.kernel.catalog.by_type.get(objects.pop())) is None:
        raise invalid("/filter", "ambiguous_filter", "With a filter, all event types are of one object.")
    Filters(ctx.kernel.catalog, target, ctx.access).tree(tree)


def _loaded(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, str) else value


_TABLE, _FANOUTS, _HEADS = map(table_of, (WebhookEndpoint, WebhookFanout, FeedHead))
_COUNT = Statement(sa.select(sa.func.count()).where(_TABLE.c.tenant_id == TENANT, _TABLE.c.deleted_at.is_(None)))


_BEGIN = Statement(
    upsert(_FANOUTS)
    .from_select(
        ["tenant_id", "seq"],
        sa.select(TENANT, sa.func.coalesce(sa.func.max(_HEADS.c.seq), sa.literal_column("0"))).where(
            _HEADS.c.tenant_id == TENANT
        ),
    )
    .on_conflict_do_nothing()
    .returning(_FANOUTS.c.seq)
)
"""A tenant's first endpoint hears what comes after it."""


async def _room(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """409 when there are as many endpoints as there may be."""
    del values
    if before is None:
        await one_at_a_time(ctx, resource.table.name)
        if (await ctx.fetch(_COUNT, {}))[0][0] >= MOST:
            raise Problem(LIMIT_REACHED, f"A tenant has at most {MOST} endpoints.")
        await ctx.fetch(_BEGIN, {})


async def _mended(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """A new address, or a resumption, is tried at once."""
    del resource, values
    if before is not None:
        await reopen(ctx, before["id"])


WEBHOOK_ENDPOINTS = Resource(
    singular="webhook_endpoint",
    plural="webhook_endpoints",
    model=WebhookEndpoint,
    output=WebhookEndpointView,
    title="url",
    create=WebhookEndpointCreate,
    filters=(WebhookEndpoint.principal_id, WebhookEndpoint.status),
    sorts=(WebhookEndpoint.created_at,),
    lifecycle=LIFECYCLE,
    notices=("broken", "recovered"),
    checks=(
        Check(frozenset({"url"}), _address),
        Check(frozenset({"event_types", "filter"}), _types),
        Check(frozenset({"principal_id", "url", "event_types", "filter"}), _rights),
        Check(frozenset({"url"}), _room),
        Check(frozenset({"url", "status"}), _mended),
    ),
    actions=(ROTATE_SECRET, SET_HEADERS, TEST, RESEND, REPLAY, STATISTICS),
)
