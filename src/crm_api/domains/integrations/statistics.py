"""Verb without effect: how an endpoint does."""

from datetime import timedelta
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import Field

from crm_api.domains.integrations.webhook_delivery import WebhookAttempt, WebhookDelivery, WebhookState
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.record import table_of
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Count, Id, Instant, Wire

MOST = 10_000
_DELIVERIES, _ATTEMPTS, _STATES = table_of(WebhookDelivery), table_of(WebhookAttempt), table_of(WebhookState)
_ENDPOINT = sa.bindparam("endpoint_id", type_=sa.Uuid())
_SINCE = sa.bindparam("since", type_=sa.DateTime(timezone=True))
_Milliseconds = Annotated[int, Field(ge=0, le=1_000_000)]


class WebhookStatistics(Wire):
    """The last 24 hours, the backlog and the state of the breaker. Numbers of deliveries end at 10,000."""

    object: Literal["webhook_statistics"]
    endpoint_id: Id
    pending: Count
    oldest_due_at: Instant | None
    delivered: Count
    failed: Count
    suppressed: Count
    attempts: Count
    failed_attempts: Count
    median_milliseconds: _Milliseconds | None
    p95_milliseconds: _Milliseconds | None
    failures_in_a_row: Annotated[
        Count, Field(description="Up to ten, and one more for each probe that failed after that.")
    ]
    failing_since: Instant | None
    closed_until: Annotated[Instant | None, Field(description="Until then nothing is sent; then one probe is.")]


def _some(state: str, *, recent: bool) -> Any:
    table = _DELIVERIES.alias(state)
    rows = sa.select(table.c.due_at).where(
        table.c.tenant_id == TENANT, table.c.endpoint_id == _ENDPOINT, table.c.state == sa.literal(state, sa.Text())
    )
    return (rows.where(table.c.created_at >= _SINCE) if recent else rows).limit(sa.literal_column(str(MOST))).subquery()


def _counted(state: str) -> Any:
    return sa.select(sa.func.count()).select_from(_some(state, recent=True)).scalar_subquery().label(state)


def _statement() -> Statement:
    pending = _some("pending", recent=False)
    tries = (
        sa.select(_ATTEMPTS.c.milliseconds, _ATTEMPTS.c.error)
        .where(_ATTEMPTS.c.tenant_id == TENANT, _ATTEMPTS.c.endpoint_id == _ENDPOINT, _ATTEMPTS.c.at >= _SINCE)
        .order_by(_ATTEMPTS.c.id.desc())
        .limit(sa.literal_column(str(MOST)))
        .subquery("tries")
    )
    waiting = sa.select(sa.func.count().label("pending"), sa.func.min(pending.c.due_at).label("oldest")).subquery("w")
    share = [sa.literal_column(text, sa.Float()) for text in ("0.5", "0.95")]
    times = sa.select(
        sa.func.count().label("attempts"),
        sa.func.count(tries.c.error).label("failed_attempts"),
        *(
            sa.func.percentile_disc(part).within_group(tries.c.milliseconds).label(name)
            for part, name in zip(share, ("median_milliseconds", "p95_milliseconds"), strict=True)
        ),
    ).subquery("times")
    state = (
        sa.select(_STATES.c.failures, _STATES.c.failing_since, _STATES.c.closed_until)
        .where(_STATES.c.tenant_id == TENANT, _STATES.c.endpoint_id == _ENDPOINT)
        .subquery("state")
    )
    counts = [_counted(name) for name in ("delivered", "failed", "suppressed")]
    source = sa.join(waiting, times, sa.true()).outerjoin(state, sa.true())
    return Statement(sa.select(*waiting.c, *times.c, *state.c, *counts).select_from(source))


_ASK = _statement()


async def statistics(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Counted when asked, from the deliveries and attempts that are kept."""
    del resource, body
    (found,) = await ctx.read(_ASK, {"endpoint_id": row["id"], "since": ctx.now - timedelta(days=1)})
    numbers = ("pending", "delivered", "failed", "suppressed", "attempts", "failed_attempts")
    times = ("median_milliseconds", "p95_milliseconds", "failing_since", "closed_until")
    return {
        "object": "webhook_statistics",
        "endpoint_id": row["id"],
        "oldest_due_at": found["oldest"],
        "failures_in_a_row": found["failures"] or 0,
        **{name: found[name] for name in (*numbers, *times)},
    }


STATISTICS = Action("stats", "How the endpoint does", statistics, reply=WebhookStatistics, method="GET", level="read")
