"""What an endpoint is sent of an event: what its principal may see, of the types and records it asks for."""

from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.integrations.changes import parse_types
from crm_api.kernel import feed
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.external import settle
from crm_api.kernel.filters import Filters, to_sql
from crm_api.kernel.problems import Problem
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource

_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))


async def chosen(ctx: Context, target: Row, rows: list[Row]) -> list[feed.Entry]:
    """The entries of stored events that the endpoint is sent, as it may see them now."""
    try:
        wanted = parse_types(ctx, orjson.loads(target["event_types"]))
    except Problem:  # a type of an earlier version that is no more
        return []
    entries = [item for item in await feed.tell(ctx, rows) if wanted is None or item.envelope["type"] in wanted]
    tree = orjson.loads(target["filter"]) if target["filter"] else None
    if tree is None or not entries:
        return entries
    resource = ctx.kernel.catalog.by_type[entries[0].envelope["object"]["type"]]
    kept = await _filtered(ctx, resource, tree, [item.envelope["object"]["id"] for item in entries])
    return [item for item in entries if item.envelope["object"]["id"] in kept or item.envelope["data"] is None]


async def _filtered(ctx: Context, resource: Resource, tree: Any, ids: list[str]) -> frozenset[str]:
    filters = Filters(ctx.kernel.catalog, resource, ctx.access)
    try:
        node = filters.tree(tree)
        await settle(ctx, filters)
    except Problem:  # it names a field that the principal may not see by now
        return frozenset()

    def build() -> Statement:
        table = resource.table
        condition = to_sql(ctx.kernel.policy, ctx.access, resource, node, table, narrow=False)
        found = among(table.c.id, _IDS)
        chosen_ = sa.cast(table.c.id, sa.Text()).label("id")
        return Statement(sa.select(chosen_).where(table.c.tenant_id == TENANT, found, condition))

    statement = ctx.kernel.statement(("webhook_filter", resource.plural, ctx.access.shape, node.shape), build)
    rows = await ctx.read(statement, {**ctx.access.values, **filters.values, "ids": ids})
    return frozenset(row["id"] for row in rows)
