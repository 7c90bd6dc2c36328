"""Empties the personal fields of a person's records and of what belongs to them, with events that tell none of it."""

import hashlib
import hmac
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.files.file import FILES
from crm_api.domains.files.lease import give_up
from crm_api.domains.privacy.obstacles import Person, ids_of, parameters
from crm_api.domains.privacy.person import SUBJECTS
from crm_api.kernel.coalescing import Emission
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Row, Statement, bound
from crm_api.kernel.domain import Catalog
from crm_api.kernel.ledger import ACTOR, NOW
from crm_api.kernel.ledger import parameters as recorded
from crm_api.kernel.record import Record, Share, among, table_of
from crm_api.kernel.repository import delete
from crm_api.kernel.resource import Resource
from crm_api.kernel.row import derived, piece
from crm_api.kernel.schema import SEPARATOR
from crm_api.kernel.writing import compile_record

ANYWHERE: Mapping[str, Any] = {"custom": {}, "external_ids": {}}
"""What tells of a person on any record of theirs, whatever it is."""
Rows = dict[Resource, list[Row]]
_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))


@cache
def _going() -> list[Statement]:
    """What goes with a person's record: shares of it, and with it, its external ids, and every index of its values."""
    keyed = [table for table in Record.metadata.tables.values() if "object_id" in table.primary_key.columns]
    shares = table_of(Share)
    columns = [*(table.c.object_id for table in keyed), shares.c.object_id, shares.c.grantee_id]
    return [
        Statement(sa.delete(item.table).where(item.table.c.tenant_id == TENANT, among(item, _IDS)).returning(item))
        for item in columns
    ]


def replacements(resource: Resource) -> dict[str, Any]:
    """What stands in the personal fields of a record after its erasure."""
    return {**resource.personal, **ANYWHERE}


@cache
def _reading(resource: Resource, condition: str) -> Statement:
    table = resource.table
    ways = {
        "id": [among(table.c.id, _IDS)],
        "files": [
            table.c.object_type == sa.any_(sa.bindparam("types", type_=ARRAY(sa.Text()))),
            among(table.c.object_id, _IDS),
        ]
        if "object_id" in table.c
        else [],
    }
    named = (among(table.c[column], ids_of(column)) for column in _naming(resource))
    either = sa.or_(*named) if condition == "person" else sa.and_(*ways[condition])
    names = [*replacements(resource), *(("storage_key", "purged_at") if condition == "files" else ())]
    columns = [sa.cast(table.c.id, sa.Text()).label("id"), table.c.deleted_at, *(table.c[name] for name in names)]
    return Statement(
        sa.select(*columns).where(table.c.tenant_id == TENANT, either).order_by(table.c.id).with_for_update()
    )


def belonging(catalog: Catalog, columns: Collection[str] = tuple(SUBJECTS)) -> Iterator[Resource]:
    """Resources whose rows tell something of the person they refer to, by one of these references."""
    for resource in catalog.resources.values():
        if resource.personal and resource not in SUBJECTS.values() and _naming(resource).intersection(columns):
            yield resource


def _naming(resource: Resource) -> frozenset[str]:
    return frozenset(SUBJECTS).intersection(resource.references)


async def records_of(ctx: Context, person: Person) -> Rows:
    """Every record that the erasure empties, locked, with its personal fields as they are; deleted ones too."""
    found: Rows = {}
    for column, resource in SUBJECTS.items():
        ids = bound([UUID(id_) for id_ in person[column]])
        found[resource] = await ctx.fetch(_reading(resource, "id"), {"ids": ids})
    for resource in belonging(ctx.kernel.catalog):
        values = parameters({column: person[column] for column in _naming(resource)})
        found[resource] = await ctx.fetch(_reading(resource, "person"), values)
    everyone = bound([UUID(id_) for ids in person.values() for id_ in ids])
    types = [resource.singular for resource in SUBJECTS.values()]
    found[FILES] = await ctx.fetch(_reading(FILES, "files"), {"ids": everyone, "types": types})
    return {resource: rows for resource, rows in found.items() if rows}


def digest(ctx: Context, found: Rows) -> str:
    """A keyed hash of what the person's own records had: proof for whoever has the data, and of no use to others."""
    told = {
        resource.plural: [{name: plain(row[name]) for name in ("id", *resource.personal)} for row in rows]
        for resource, rows in found.items()
        if resource in SUBJECTS.values()
    }
    canonical = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    return hmac.new(ctx.kernel.cursor_keys[0], b"erasure\x00" + canonical, hashlib.sha256).hexdigest()


def plain(value: Any) -> Any:
    """A value of a row as JSON."""
    return orjson.loads(value) if isinstance(value, str) and value[:1] in "[{" else value


def kinds(found: Rows) -> dict[str, list[str]]:
    """By resource, the fields that had something in them."""
    return {
        resource.plural: sorted(
            {
                name
                for name, value in replacements(resource).items()
                for row in rows
                if plain(row[name]) not in (None, value)
            }
        )
        for resource, rows in found.items()
    }


async def empty(ctx: Context, found: Rows) -> dict[str, int]:
    """Replaces the personal fields of these records; gives how many of each resource."""
    for resource, rows in found.items():
        ids = bound([UUID(row["id"]) for row in rows])
        values = derived(resource, replacements(resource))
        if resource.search:
            values["search_text"] = SEPARATOR.join(piece(values.get(name)) for name in resource.search)
        sent = {f"v_{name}": value for name, value in values.items()}
        await ctx.fetch(_emptying(resource, frozenset(values)), {**sent, "ids": ids, **_stamp(ctx)})
        if resource in SUBJECTS.values():
            for statement in _going():
                await ctx.fetch(statement, {"ids": ids})
        await _tell(ctx, resource, rows)
    return {resource.plural: len(rows) for resource, rows in found.items()}


def _stamp(ctx: Context) -> dict[str, Any]:
    return {"now": ctx.now, "actor": ctx.principal.id}


@cache
def _emptying(resource: Resource, names: frozenset[str]) -> Statement:
    table = resource.table
    values = {name: sa.bindparam(f"v_{name}", type_=table.c[name].type) for name in sorted(names)}
    one: sa.ColumnElement[int] = sa.literal_column("1")
    change = sa.update(table).where(table.c.tenant_id == TENANT, among(table.c.id, _IDS))
    return Statement(
        change.values(**values, version=table.c.version + one, updated_at=NOW, updated_by=ACTOR).returning(table.c.id)
    )


async def _tell(ctx: Context, resource: Resource, rows: list[Row]) -> None:
    """Audit rows and events: the records as they are now, and of what they were only which fields were emptied."""
    person = resource in SUBJECTS.values()
    statement = ctx.kernel.statement(("record", resource.plural), lambda: compile_record(resource))
    for row in rows:
        emptied = {
            name: None for name, value in replacements(resource).items() if plain(row[name]) not in (None, value)
        }
        past = (*(("updated",) if row["deleted_at"] is None else ()), *(("erased",) if person else ()))
        emission = Emission("apart", past)
        sent = {**recorded(ctx, resource, "erase", emission), "id": row["id"], "before": emptied, "after": {}}
        await ctx.fetch(statement, sent)
        if resource is FILES:
            await _give_up(ctx, row)


async def _give_up(ctx: Context, row: Row) -> None:
    """Deletes a file, its bytes too: it cannot be restored."""
    if row["deleted_at"] is None:
        await delete(ctx, FILES, row["id"])
    if row["purged_at"] is None:
        await ctx.fetch(_PURGED, {"ids": bound([UUID(row["id"])]), "now": ctx.now})
        await give_up(ctx, row["storage_key"], timedelta(0))


_PURGED = Statement(
    sa.update(FILES.table)
    .where(FILES.table.c.tenant_id == TENANT, among(FILES.table.c.id, _IDS))
    .values(purged_at=NOW)
    .returning(FILES.table.c.id)
)
