"""Verb in bulk: ask the rules again for many records; a preview says what would go from where to where."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from crm_api.domains.distribution.selection import MOST_MOVES, BulkPreview, Move, Selection
from crm_api.domains.distribution.walk import Bulk, State, Task
from crm_api.domains.territories.assignment import facts_of, given_by, rulebook
from crm_api.kernel.collective_writes import caused, recorded, write
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.ledger import ACTOR, NOW
from crm_api.kernel.policy import access_version
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource
from crm_api.kernel.writing import facts

_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))
_PLACES = sa.bindparam("places", type_=ARRAY(sa.Uuid()))
_RULES = sa.bindparam("rules", type_=ARRAY(sa.Uuid()))
_COLUMNS = ("territory_id", "territory_rule_id")


class BulkReassign(Selection):
    """The records; those that somebody put into their territory by hand stay there."""


class ReassignPreview(BulkPreview):
    """What a job would do, had it run just now, to the first records that match."""

    moves: Annotated[
        list[Move], Field(max_length=MOST_MOVES, description="From where to where; further ones are in `done`.")
    ]


def _ruled(resource: Resource) -> bool:
    return "territory_pinned" in resource.table.c


async def _prepare(ctx: Context, resource: Resource, body: BulkReassign, state: State | None) -> State:
    del ctx, resource, body
    return dict(state or {})


async def _act(ctx: Context, task: Task[BulkReassign]) -> None:
    book, tally = await rulebook(ctx), task.tally
    changed: dict[str, tuple[UUID | None, UUID | None]] = {}
    rows = await _stored(ctx, task.resource, [row.id for row in task.rows])
    for row in rows:
        if row["territory_pinned"]:
            tally.skip("pinned")
            continue
        given = given_by(book.winner(facts_of(row)))
        place, rule = (given[name] for name in _COLUMNS)
        if [str(row[name]) for name in _COLUMNS] == [str(place), str(rule)]:
            tally.skip("unchanged")
            continue
        changed[str(row["id"])] = place, rule
        if str(row["territory_id"]) != str(place):
            tally.move(_text(row["territory_id"]), _text(place), str(row["id"]))
    if task.cause is not None and changed:
        await _give(ctx, task.resource, changed, task.cause)
    tally.done += len(changed)


def _text(id_: UUID | None) -> str | None:
    return None if id_ is None else str(id_)


async def _stored(ctx: Context, resource: Resource, ids: list[str]) -> list[Row]:
    """Rows that were judged, as they are stored."""

    def build() -> Statement:
        table = resource.table
        return Statement(sa.select(*table.c).where(table.c.tenant_id == TENANT, among(table.c.id, _IDS)))

    return await ctx.read(ctx.kernel.statement(("stored", resource.plural), build), {"ids": ids})


async def _give(
    ctx: Context, resource: Resource, given: Mapping[str, tuple[UUID | None, UUID | None]], cause: Mapping[str, Any]
) -> None:
    statement = ctx.kernel.statement(("give_territory", resource.plural), lambda: _written(resource))
    places, rules = zip(*given.values(), strict=True)
    values = {"ids": list(given), "places": list(places), "rules": list(rules)}
    await write(ctx, resource, statement, "updated", cause, values)


def _written(resource: Resource) -> Statement:
    table = resource.table
    pairs = sa.func.unnest(_IDS, _PLACES, _RULES).table_valued(
        *(sa.column(name, sa.Uuid()) for name in ("row_id", *_COLUMNS)), name="wanted"
    )
    wanted = pairs.render_derived()
    written = (
        sa.update(table)
        .where(table.c.tenant_id == TENANT, table.c.id == wanted.c.row_id, access_version())
        .values(
            **{name: wanted.c[name] for name in _COLUMNS},
            version=table.c.version + sa.literal_column("1"),
            updated_at=NOW,
            updated_by=ACTOR,
        )
        .returning(*facts(resource), _told("old").label("before"), _told("new").label("after"))
        .cte("written")
    )
    return recorded(written, resource, written.c.before, caused(written.c.after))


def _told(side: str) -> Any:
    pairs = ", ".join(f"'{name}', {side}.{name}" for name in _COLUMNS)
    return sa.literal_column(f"jsonb_build_object({pairs})", JSONB())


_BULK = Bulk(
    "reassign",
    BulkReassign,
    lambda _: ("update", "assign_territory"),
    _prepare,
    _act,
    previewed=ReassignPreview,
    moves=True,
)
REASSIGN = _BULK.verb("assign_territory", "Ask the rules again for the territory of many {many}", _ruled)
