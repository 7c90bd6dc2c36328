"""Verb in bulk: ask the rules again for many records, with a preview of what goes where, and take that back."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from crm_api.domains.distribution import edited
from crm_api.domains.distribution.selection import MOST_MOVES, BulkPreview, Move, Selection
from crm_api.domains.distribution.undo import Undo, Undoing
from crm_api.domains.distribution.walk import Bulk, State, Task
from crm_api.domains.identity.territory import TERRITORIES
from crm_api.domains.territories.assignment import facts_of, given_by, rulebook
from crm_api.kernel.collective_writes import caused, recorded, write
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.ledger import ACTOR, NOW
from crm_api.kernel.policy import access_version
from crm_api.kernel.record import among
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Resource
from crm_api.kernel.writing import facts

_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))
_PLACES = sa.bindparam("places", type_=ARRAY(sa.Uuid()))
_RULES = sa.bindparam("rules", type_=ARRAY(sa.Uuid()))
_COLUMNS = ("territory_id", "territory_rule_id")
_Place = tuple[UUID | None, UUID | None]
"""A territory, and the rule that gave it."""


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
    changed: dict[str, _Place] = {}
    kept: list[dict[str, Any]] = []
    rows = await _stored(ctx, task.resource, [row.id for row in task.rows])
    for row in rows:
        if row["territory_pinned"]:
            tally.skip("pinned")
            continue
        given = given_by(book.winner(facts_of(row)))
        place, rule = (given[name] for name in _COLUMNS)
        before, after = _told_of(row), _told_of(given)
        if before == after:
            tally.skip("unchanged")
            continue
        changed[str(row["id"])] = place, rule
        kept.append({"object_id": str(row["id"]), "before": before, "after": after})
        if before["territory_id"] != after["territory_id"]:
            tally.move(before["territory_id"], after["territory_id"], str(row["id"]))
    if task.cause is not None and changed:
        await _give(ctx, task.resource, changed, task.cause)
        await edited.keep(ctx, str(task.cause["job_id"]), kept)
    tally.done += len(changed)


def _told_of(row: Any) -> dict[str, str | None]:
    """Where a record is and by which rule, as it is sent."""
    return {name: None if row[name] is None else str(row[name]) for name in _COLUMNS}


async def _restore(ctx: Context, task: Undoing, records: Sequence[Mapping[str, Any]]) -> None:
    """Puts records back that are still where the job put them; as by hand, into a territory that takes new ones."""
    rows = {str(row["id"]): row for row in await _stored(ctx, task.resource, [record["id"] for record in records])}
    places = {record["before"]["territory_id"] for record in records} - {None}
    closed = {place: refusal for place in sorted(places) if (refusal := await _closed(ctx, place))}
    given: dict[str, _Place] = {}
    for record in records:
        id_, before, row = record["id"], record["before"], rows[record["id"]]
        now = _told_of(row)
        changed = [name for name in _COLUMNS if now[name] != record["after"][name]]
        changed += ["territory_pinned"] if row["territory_pinned"] else []
        place = before["territory_id"]
        if changed:
            task.changed(id_, changed)
        elif place in closed:
            code, detail = closed[place]
            task.tally.refuse(task.resource.singular, id_, code, detail=detail)
        else:
            given[id_] = _id(place), _id(before["territory_rule_id"])
    if given:
        await _give(ctx, task.resource, given, task.cause)
    task.tally.done += len(given)


async def _closed(ctx: Context, place: str) -> tuple[str, str] | None:
    """Why nothing is put into a territory, as code and in words; None when it is."""
    found = await find(ctx, TERRITORIES, place)
    if found is None:
        return "reference_not_found", "The territory it was in is not there any more."
    return None if found["is_active"] else ("inactive", "The territory it was in takes nothing new.")


def _id(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)


async def _stored(ctx: Context, resource: Resource, ids: list[str]) -> list[Row]:
    """Rows that were judged, as they are stored."""

    def build() -> Statement:
        table = resource.table
        return Statement(sa.select(*table.c).where(table.c.tenant_id == TENANT, among(table.c.id, _IDS)))

    return await ctx.read(ctx.kernel.statement(("stored", resource.plural), build), {"ids": ids})


async def _give(ctx: Context, resource: Resource, given: Mapping[str, _Place], cause: Mapping[str, Any]) -> None:
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


_ACTIONS = ("update", "assign_territory")
UNDO = Undo("reassign", _ACTIONS, _restore)
_BULK = Bulk(
    "reassign",
    BulkReassign,
    lambda _: _ACTIONS,
    _prepare,
    _act,
    previewed=ReassignPreview,
    moves=True,
    undo=UNDO,
)
REASSIGN = _BULK.verb("assign_territory", "Ask the rules again for the territory of many {many}", _ruled)
