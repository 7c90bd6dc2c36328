"""Verb and job: send the events of a time again, all that the endpoint asks for or those that failed."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on

from crm_api.domains.integrations.changes import parse_types
from crm_api.domains.integrations.outcome import reopen
from crm_api.domains.integrations.queue import EVENT, added, values
from crm_api.domains.integrations.webhook_delivery import WebhookDelivery
from crm_api.domains.jobs.job import JobView
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.domain import JobKind
from crm_api.kernel.external import is_external, own_id
from crm_api.kernel.feed import event_types
from crm_api.kernel.jobs import start
from crm_api.kernel.problems import Problem, invalid
from crm_api.kernel.record import FeedEvent, among, table_of
from crm_api.kernel.repository import record
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.running import Run, Step
from crm_api.kernel.schema import Id, Instant, Ref, Wire

STEP = 500
BACKLOG = 2_000
"""Deliveries of the endpoint that may wait; a replay pauses until there are fewer, and holds up no new event."""
PAUSE_SECONDS = 0.5
_FEED, _DELIVERIES = table_of(FeedEvent), table_of(WebhookDelivery)
_INSTANT = sa.DateTime(timezone=True)


class ReplayRequest(Wire):
    """Which events: those that happened from `since` and before `until`, of all types that the endpoint asks for."""

    since: Instant
    until: Instant
    event_types: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=50)] = ["*"]
    object_id: Annotated[
        Ref | None, Field(description="Of one record only; by an external id, when the types are of one object.")
    ] = None
    only_failed: Annotated[bool, Field(description="Only those whose delivery failed for good.")] = False


class Replay(ReplayRequest):
    """The parameters of the job."""

    endpoint_id: Id
    excluded: Id | None
    asked: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=50)] = ["*"]


def _bind(name: str, type_: Any) -> Any:
    return sa.bindparam(name, type_=type_)


_ENDPOINT = _bind("endpoint_id", sa.Uuid())
_SINCE, _UNTIL, _AFTER = _bind("since", _INSTANT), _bind("until", _INSTANT), _bind("after", sa.BigInteger())
_OBJECT, _EXCLUDED = _bind("object_id", sa.Uuid()), _bind("excluded", sa.Uuid())
_CHOSEN = [_FEED.c.type.label("event_type") if name == "event_type" else _FEED.c[name] for name in EVENT]
_EVENTS = Statement(
    sa.select(*_CHOSEN)
    .where(
        _FEED.c.tenant_id == TENANT,
        _FEED.c.seq > _AFTER,
        _FEED.c.moved_at >= _SINCE,
        _FEED.c.at >= _SINCE,
        _FEED.c.at < _UNTIL,
        among(_FEED.c.type, _bind("types", ARRAY(sa.Text()))),
        sa.or_(_OBJECT.is_(None), _FEED.c.object_id == _OBJECT),
        sa.or_(_EXCLUDED.is_(None), _FEED.c.actor_id.is_distinct_from(_EXCLUDED)),
    )
    .order_by(_FEED.c.seq)
    .limit(sa.literal_column(str(STEP)))
)
_FAILED = Statement(
    sa.select(*(_DELIVERIES.c[name] for name in EVENT))
    .ext(distinct_on(_DELIVERIES.c.seq))
    .where(
        _DELIVERIES.c.tenant_id == TENANT,
        _DELIVERIES.c.endpoint_id == _ENDPOINT,
        _DELIVERIES.c.state == sa.literal("failed", sa.Text()),
        _DELIVERIES.c.created_at >= _SINCE,
        _DELIVERIES.c.created_at < _UNTIL,
        _DELIVERIES.c.seq > _AFTER,
        among(_DELIVERIES.c.event_type, _bind("types", ARRAY(sa.Text()))),
        sa.or_(_OBJECT.is_(None), _DELIVERIES.c.object_id == _OBJECT),
    )
    .order_by(_DELIVERIES.c.seq)
    .limit(sa.literal_column(str(STEP)))
)
_WAITING = Statement(
    sa.select(sa.func.count()).select_from(
        sa.select(sa.literal_column("1"))
        .where(
            _DELIVERIES.c.tenant_id == TENANT,
            _DELIVERIES.c.endpoint_id == _ENDPOINT,
            _DELIVERIES.c.state == sa.literal("pending", sa.Text()),
        )
        .limit(sa.literal_column(str(BACKLOG)))
        .subquery("waiting")
    )
)
_ADD = Statement(added("replay"))


async def replay(ctx: Context, resource: Resource, row: Any, body: ReplayRequest) -> dict[str, Any]:
    """Starts a job that queues the events; each is sent as it is open to the endpoint then."""
    if body.until < body.since:
        raise invalid("/until", "before_since", "The end may not be before the beginning.")
    for i, name in enumerate(body.event_types):
        try:
            parse_types(ctx, [name])
        except Problem:
            raise invalid(f"/event_types/{i}", "unknown_event_type", "There is no such event type.") from None
    excluded = str(row["principal_id"]) if row["exclude_own"] else None
    whole = {**body.model_dump(), "object_id": await _object(ctx, row, body)}
    types = orjson.loads(row["event_types"])
    asked = Replay(**whole, endpoint_id=str(row["id"]), excluded=excluded, asked=types)
    await reopen(ctx, row["id"])
    job = await start(ctx, REPLAY_EVENTS, asked)
    await record(ctx, resource, row["id"], "replay", "replayed", after={"job_id": job["id"]})
    return job


def _types(ctx: Context, *lists: list[str]) -> frozenset[str]:
    """The types that are in each of the lists."""
    known = frozenset(event_types(ctx.kernel.catalog))
    return known.intersection(*(parse_types(ctx, names) or known for names in lists))


async def _object(ctx: Context, row: Any, body: ReplayRequest) -> str | None:
    """The id of the record that is meant; an external id is one of the object that the types are of."""
    if not is_external(body.object_id):
        return body.object_id
    objects = {name.partition(".")[0] for name in _types(ctx, body.event_types, orjson.loads(row["event_types"]))}
    target = ctx.kernel.catalog.by_type.get(objects.pop()) if len(objects) == 1 else None
    if target is None:
        raise invalid("/object_id", "ambiguous_reference", "With an external id, name types of one object.")
    ctx.access.through(target)
    return str(await own_id(ctx, target, str(body.object_id)))


async def replay_events(run: Run, body: Replay) -> dict[str, Any]:
    """Queues them in their order, a few hundred at a time, as the endpoint takes them."""

    async def some(ctx: Context, position: Mapping[str, Any]) -> Step | None:
        endpoint: dict[str, Any] = {"endpoint_id": UUID(body.endpoint_id)}
        if (await ctx.fetch(_WAITING, dict(endpoint)))[0][0] >= BACKLOG:
            await asyncio.sleep(PAUSE_SECONDS)
            return Step(position, done=0)
        known = event_types(ctx.kernel.catalog)
        stored = sorted({type_ for name in _types(ctx, body.event_types, body.asked) for type_ in known[name]})
        after = {"after": position.get("seq", -1), "types": stored, "since": body.since, "until": body.until}
        ids = {
            name: value and UUID(value) for name, value in (("object_id", body.object_id), ("excluded", body.excluded))
        }
        rows = await ctx.fetch(_FAILED if body.only_failed else _EVENTS, {**endpoint, **after, **ids})
        if not rows:
            return None
        fresh = [{"id": new_id(), **endpoint, **row} for row in rows]
        await ctx.fetch(_ADD, values(fresh))
        return Step({"seq": rows[-1]["seq"]}, done=len(rows))

    await run.steps(some)
    return {"queued": run.done}


REPLAY_EVENTS = JobKind("replay_events", Replay, replay_events, permission="webhook_endpoints:replay")
REPLAY = Action(
    "replay",
    "Send the events of a time again",
    replay,
    event="replayed",
    body=ReplayRequest,
    reply=JobView,
    status=202,
)
