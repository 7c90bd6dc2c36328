"""What an endpoint is sent of an event: what its principal may see, of the types and records it asks for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.integrations.changes import parse_types
from crm_api.kernel import feed
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.external import settle
from crm_api.kernel.filters import Filters, Node
from crm_api.kernel.predicates import to_sql
from crm_api.kernel.problems import Problem
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource
from crm_api.kernel.row import derived
from crm_api.kernel.sight import images

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
    filters = Filters(ctx.kernel.catalog, resource, ctx.access, indexed=False)
    try:
        node = filters.tree(tree)
        await settle(ctx, filters)
    except Problem:  # it names a field that the principal may not see by now
        return [item for item in entries if item.envelope["data"] is None]
    asked = _Asked(ctx, resource, node, filters.values)
    now = await asked.now([item.envelope["object"]["id"] for item in entries])
    stored = {row["seq"]: row for row in rows}
    return [
        item
        for item in entries
        if item.envelope["data"] is None  # a marker
        or item.envelope["object"]["id"] in now
        or (item.envelope["changed"] and await asked.before(stored[item.seq]))
    ]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A filter, asked of records as they are now, and as they were before an event."""

    ctx: Context
    resource: Resource
    node: Node
    values: Mapping[str, Any]

    async def now(self, ids: list[str]) -> frozenset[str]:
        """The records among `ids` that it takes."""

        def build() -> Statement:
            table = self.resource.table
            return self._statement(table, table.c.tenant_id == TENANT, among(table.c.id, _IDS))

        return await self._ids("webhook_filter", build, {"ids": ids})

    async def before(self, row: Row) -> bool:
        """Whether it took the record of an event before that; other records and lists are those of now."""
        image = derived(self.resource, {**orjson.loads(row["data"]), **orjson.loads(row["previous"])})
        return bool(
            await self._ids(
                "webhook_filter_before", lambda: self._statement(images(self.resource)), {"images": [image]}
            )
        )

    def _statement(self, table: Any, *conditions: Any) -> Statement:
        ctx = self.ctx
        taken = to_sql(ctx.kernel.policy, ctx.access, self.resource, self.node, table)
        return Statement(sa.select(sa.cast(table.c.id, sa.Text()).label("id")).where(*conditions, taken))

    async def _ids(self, name: str, build: Callable[[], Statement], values: dict[str, Any]) -> frozenset[str]:
        shape = (name, self.resource.plural, self.ctx.access.shape, self.node.shape)
        statement = self.ctx.kernel.statement(shape, build)
        rows = await self.ctx.read(statement, {**self.ctx.access.values, **self.values, **values})
        return frozenset(row["id"] for row in rows)
