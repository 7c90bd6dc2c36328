"""From the feed to deliveries: each event once for each endpoint that asks for its type."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
import sqlalchemy as sa

from crm_api.domains.integrations.changes import parse_types
from crm_api.domains.integrations.queue import EVENT, added, values
from crm_api.domains.integrations.webhook_delivery import WebhookFanout
from crm_api.domains.integrations.webhook_endpoint import WebhookEndpoint
from crm_api.kernel.context import Context, Kernel, new_id
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.feed import event_types
from crm_api.kernel.problems import Problem
from crm_api.kernel.record import FeedEvent, table_of
from crm_api.kernel.unit_of_work import system

STEP = 500
_FEED, _ENDPOINTS, _FANOUTS = map(table_of, (FeedEvent, WebhookEndpoint, WebhookFanout))
_WAITING = Statement(
    sa.select(sa.column("tenant", sa.Uuid()), sa.column("seq", sa.BigInteger())).select_from(
        sa.func.webhook_tenants(sa.bindparam("most", type_=sa.Integer())).table_valued("tenant", "seq")
    )
)
_SEQ, _END = sa.bindparam("seq", type_=sa.BigInteger()), sa.bindparam("end", type_=sa.BigInteger())
_EVENTS = Statement(
    sa.select(
        _FEED.c.seq,
        _FEED.c.event_id,
        _FEED.c.type,
        _FEED.c.object_type,
        _FEED.c.object_id,
        _FEED.c.actor_id,
        _FEED.c.at,
    )
    .where(_FEED.c.tenant_id == TENANT, _FEED.c.seq > _SEQ)
    .order_by(_FEED.c.seq)
    .limit(sa.literal_column(str(STEP)))
)
_LIVE = Statement(
    sa.select(
        _ENDPOINTS.c.id,
        _ENDPOINTS.c.event_types,
        _ENDPOINTS.c.exclude_own,
        _ENDPOINTS.c.principal_id,
        _ENDPOINTS.c.created_at,
    ).where(
        _ENDPOINTS.c.tenant_id == TENANT,
        _ENDPOINTS.c.deleted_at.is_(None),
        _ENDPOINTS.c.status != sa.literal("disabled", sa.Text()),
    )
)


def _hand_over() -> Statement:
    """Raises the tenant's mark and adds the deliveries; neither when another worker was here first."""
    marked = (
        sa.update(_FANOUTS)
        .where(_FANOUTS.c.tenant_id == TENANT, _FANOUTS.c.seq == _SEQ)
        .values(seq=_END)
        .returning(_FANOUTS.c.seq)
        .cte("marked")
    )
    handed = added("event", marked).cte("handed")
    return Statement(sa.select(sa.func.count()).select_from(handed))


_HAND_OVER = _hand_over()


@dataclass(frozen=True, slots=True)
class _Asker:
    """An endpoint and the stored types that may become something it asks for."""

    id: UUID
    types: frozenset[str]
    excluded: UUID | None
    since: datetime

    @classmethod
    def of(cls, ctx: Context, row: Row) -> "_Asker":
        known = event_types(ctx.kernel.catalog)
        try:
            wanted = parse_types(ctx, orjson.loads(row["event_types"]))
        except Problem:  # a type of an earlier version that is no more
            wanted = frozenset()
        types = frozenset().union(*(known[name] for name in (known if wanted is None else wanted)))
        return cls(row["id"], types, row["principal_id"] if row["exclude_own"] else None, row["created_at"])

    def wants(self, event: Row) -> bool:
        """Whether the event goes to the endpoint, as far as that can be said without its rights."""
        own = self.excluded is not None and event["actor_id"] == self.excluded
        return event["type"] in self.types and not own and event["at"] >= self.since


async def dispatch(kernel: Kernel) -> tuple[bool, bool]:
    """One step for each tenant with events that were not handed over; whether any were, and whether more may wait."""
    tenants = await kernel.database.fetch(None, _WAITING, {"most": 50})
    full = False
    for tenant in tenants:
        full |= await _of_tenant(system(kernel, UUID(str(tenant["tenant"])), "webhooks"), tenant["seq"])
    return bool(tenants), full or len(tenants) == 50


async def _of_tenant(ctx: Context, seq: int) -> bool:
    events = await ctx.read(_EVENTS, {"seq": seq})
    if not events:
        return False
    askers = [_Asker.of(ctx, row) for row in await ctx.read(_LIVE, {})]
    fresh = [
        {
            "id": new_id(),
            "endpoint_id": asker.id,
            "event_type": event["type"],
            **{name: event[name] for name in EVENT if name != "event_type"},
        }
        for event in events
        for asker in askers
        if asker.wants(event)
    ]
    await ctx.fetch(_HAND_OVER, {**values(fresh), "seq": seq, "end": events[-1]["seq"]})
    return len(events) == STEP
