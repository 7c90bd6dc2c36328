"""Verbs: send an event again, and send a test event."""

from typing import Any, Literal

import sqlalchemy as sa
from pydantic import Field

from crm_api.domains.integrations.outcome import reopen
from crm_api.domains.integrations.queue import EVENT, added, values
from crm_api.domains.integrations.webhook_delivery import WebhookDelivery
from crm_api.kernel import feed
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import table_of
from crm_api.kernel.repository import record
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Id, Wire

_TABLE = table_of(WebhookDelivery)


def _bind(name: str) -> Any:
    return sa.bindparam(name, type_=_TABLE.c[name].type)


_FIND = Statement(
    sa.select(*(_TABLE.c[name] for name in EVENT)).where(
        _TABLE.c.tenant_id == TENANT, _TABLE.c.endpoint_id == _bind("endpoint_id"), _TABLE.c.id == _bind("id")
    )
)
TEST_TYPE = feed.TEST


class ResendRequest(Wire):
    """Which delivery to repeat, whatever became of it."""

    delivery_id: Id


class NewDelivery(Wire):
    """The delivery that was queued; `GET /v1/webhook_deliveries/{id}` tells what becomes of it."""

    id: Id = Field(examples=["019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55"])
    object: Literal["webhook_delivery"]


async def _queue(ctx: Context, resource: Resource, row: Any, action: Action, event: dict[str, Any]) -> dict[str, Any]:
    id_ = str(new_id())
    fresh = {**event, "id": id_, "endpoint_id": row["id"]}
    add = ctx.kernel.statement(("queue", action.verb), lambda: Statement(added(action.verb)))
    await ctx.fetch(add, values([fresh]))
    await reopen(ctx, row["id"])
    await record(ctx, resource, row["id"], action.verb, str(action.event), after={"delivery_id": id_})
    return {"object": "webhook_delivery", "id": id_}


async def resend(ctx: Context, resource: Resource, row: Any, body: ResendRequest) -> dict[str, Any]:
    """Queues the event of a delivery once more, as it is open to the endpoint now."""
    found = await ctx.fetch(_FIND, {"endpoint_id": row["id"], "id": body.delivery_id})
    if not found:
        raise invalid("/delivery_id", "reference_not_found", "The endpoint has no such delivery.")
    return await _queue(ctx, resource, row, RESEND, dict(found[0]))


async def test(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Queues an event of type `webhook.test` about the endpoint itself."""
    del body
    event = {"event_id": new_id(), "event_type": TEST_TYPE, "object_type": resource.singular, "object_id": row["id"]}
    return await _queue(ctx, resource, row, TEST, {**event, "seq": 0})


RESEND = Action(
    "resend", "Send an event again", resend, event="resent", body=ResendRequest, reply=NewDelivery, status=201
)
TEST = Action("test", "Send a test event", test, event="tested", reply=NewDelivery, status=201)
