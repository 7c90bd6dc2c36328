"""Job: puts the values that records have of a custom field into the index and the searched text, some at a time."""

import asyncio
from collections.abc import Mapping
from time import perf_counter
from typing import Annotated, Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field

from crm_api.kernel import customs_index
from crm_api.kernel.context import Context
from crm_api.kernel.customs import KINDS
from crm_api.kernel.customs_records import CustomField
from crm_api.kernel.customs_search import GONE, build, part, pattern
from crm_api.kernel.database import TENANT, Statement, bound
from crm_api.kernel.domain import JobKind
from crm_api.kernel.jobs import start
from crm_api.kernel.record import table_of
from crm_api.kernel.repository import update
from crm_api.kernel.resource import Resource
from crm_api.kernel.running import Run, Step
from crm_api.kernel.schema import Count, Id, Wire
from crm_api.kernel.unit_of_work import as_system

STEP = 250
PAUSES = 2
"""Times that it waits as long as a step took, so that requests of others go before."""
LONGEST_PAUSE = 0.2
MOST_TOLD = 20
_FIELDS = table_of(CustomField)
_ID = sa.bindparam("id", type_=sa.Uuid())
_ASKED = (
    *("resource", "key", "kind", "is_unique", "is_filterable", "is_searchable"),
    *("index_state", "index_build"),
)
_FIELD = Statement(
    sa.select(*(_FIELDS.c[name] for name in _ASKED)).where(_FIELDS.c.tenant_id == TENANT, _FIELDS.c.id == _ID)
)
_NOW = Statement(customs_index.horizon())
_PAST = Statement(customs_index.past_horizon())


class IndexRequest(Wire):
    """Which field; `build` is the number of the index that it had when this began."""

    custom_field_id: Id
    build: Annotated[Count, Field(description="A later build makes this one stop.")]


async def begin(ctx: Context, body: IndexRequest) -> None:
    """Starts the job in the open transaction."""
    await start(ctx, INDEX_CUSTOM_FIELD, body)


async def duplicates(ctx: Context, resource: Resource, field_id: Any) -> list[tuple[str, list[UUID]]]:
    """Values of an indexed field that several live records have, some of them, with some of the records."""
    shape = ("same_custom_values", resource.plural)
    statement = ctx.kernel.statement(shape, lambda: Statement(customs_index.same_values(resource.table, MOST_TOLD)))
    rows = await ctx.read(statement, {"id": field_id})
    return [(row["value"], row["ids"]) for row in rows]


async def build_index(run: Run, body: IndexRequest) -> Mapping[str, Any] | None:
    """Waits until all have ended that may write without the index, then goes through the records by id."""

    async def work(ctx: Context, position: Mapping[str, Any]) -> Step | None:
        rows = await ctx.fetch(_FIELD, {"id": body.custom_field_id})
        if not rows or rows[0]["index_build"] != body.build:
            return None
        if "after" not in position:
            return await _waited(ctx, position)
        return await _some(ctx, body, rows[0], position["after"])

    began = perf_counter()
    while await run.step(work):
        await asyncio.sleep(min((perf_counter() - began) * PAUSES, LONGEST_PAUSE))
        began = perf_counter()
    return {}


async def _waited(ctx: Context, position: Mapping[str, Any]) -> Step:
    if "horizon" not in position:
        return Step({"horizon": (await ctx.fetch(_NOW, {}))[0]["horizon"]}, 0)
    reached = (await ctx.fetch(_PAST, {"horizon": position["horizon"]}))[0]["past"]
    return Step({"after": None} if reached else position, 0)


async def _some(ctx: Context, body: IndexRequest, field: Any, after: str | None) -> Step | None:
    resource = ctx.kernel.catalog.resources[field["resource"]]
    shape = ("index_custom_field", resource.plural, field["kind"])
    lock, *fill = ctx.kernel.statement(shape, lambda: customs_index.build(resource.table, field["kind"], STEP))
    rows = await ctx.fetch(lock, {"after": UUID(after) if after else UUID(int=0)})
    if not rows:
        if field["index_state"] == "building":
            await update(
                as_system(ctx),
                ctx.kernel.catalog.by_table[_FIELDS.name],
                body.custom_field_id,
                {"index_state": "ready"},
                by_verb=True,
            )
        return None
    ids = bound(row["id"] for row in rows)
    kind = KINDS[field["kind"]]
    for statement in fill if field["is_filterable"] and kind.filter else ():
        values = {
            "id": body.custom_field_id,
            "list": body.custom_field_id.lower(),
            "key": field["key"],
            "ids": ids,
            "unique": field["is_unique"],
        }
        await ctx.fetch(statement, values)
    if kind.searched:
        read, write = ctx.kernel.statement(("search_custom_field", resource.plural), lambda: build(resource))
        held = {row["id"]: row["value"] for row in await ctx.fetch(read, {"ids": ids, "key": field["key"]})}
        texts = [part(field["key"], value) if field["is_searchable"] else "" for value in held.values()]
        await ctx.fetch(write, {"ids": bound(held), "texts": texts, GONE: pattern([field["key"]])})
    return Step({"after": str(rows[-1]["id"])}, len(rows))


INDEX_CUSTOM_FIELD = JobKind("index_custom_field", IndexRequest, build_index)
