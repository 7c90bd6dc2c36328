"""Records that refer to one that is merged: found from the catalogue, moved to the survivor, and put back."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import Field

from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, LONGEST_NAME, PREFIX, Custom, fields_of, kept_of
from crm_api.kernel.customs_index import VALUES, entry, expression
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.domain import Catalog
from crm_api.kernel.problems import LIMIT_REACHED, Problem
from crm_api.kernel.projection import plain
from crm_api.kernel.repository import delete, find, restore, update
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Count, Id, Wire
from crm_api.kernel.sight import seen

MOST = 1_000
"""Records that refer to the one that is merged; all of them move in one transaction."""
Name = Annotated[str, Field(max_length=LONGEST_NAME)]
_HANGING = ("object_type", "object_id")
"""Columns of what hangs on records of any kind."""
_FROM, _TO = sa.bindparam("other", type_=sa.Uuid()), sa.bindparam("survivor", type_=sa.Uuid())


class Moved(Wire):
    """How many records of a kind the caller sees move to the survivor, by the field that refers to it."""

    resource: Name
    field: Name
    count: Count


class Kept(Wire):
    """Something that taking back a merge leaves as it is, since it was changed after the merge."""

    resource: Name
    id: Id
    field: Name
    reason: Literal["changed", "gone"]


def _less(row: Mapping[str, Any], twin: Mapping[str, Any], greater: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Values of the twin where the row's are greater."""
    order = {name: values.index for name, values in greater.items() if name in row}
    return {name: twin[name] for name, place in order.items() if place(row[name]) > place(twin[name])}


def referring(catalog: Catalog, resource: Resource) -> Iterator[tuple[Resource, str]]:
    """Every (resource, column) that refers to records of this one: by a foreign key, or beside a type, as files do."""
    for child in catalog.resources.values():
        for column, table in child.references.items():
            if table == resource.table.name:
                yield child, column
        if "delete" in child.operations and set(_HANGING) <= set(child.columns):
            yield child, _HANGING[1]


def _customs(ctx: Context, resource: Resource) -> Iterator[tuple[Resource, Custom]]:
    """Every custom field that refers to records of this one, as far as it takes values and its values are indexed."""
    catalog = ctx.kernel.catalog
    for plural, fields in ctx.access.customs.items():
        for field in fields.values():
            leads = field.target is not None and catalog.resources[field.target].table is resource.table
            if leads and field.filterable and not field.retired:
                yield catalog.resources[plural], field


def _others(child: Resource, column: str) -> list[list[str]]:
    """Of each unique key with this column, the other columns: two rows that agree in them cannot both move."""
    found = []
    for index in child.table.indexes:
        names = [str(item.name) for item in index.columns]
        if index.unique and column in names:
            found.append([name for name in names if name not in ("tenant_id", column)])
    return found


def _rows(ctx: Context, resource: Resource, child: Resource, column: str) -> Statement:
    """Live rows that refer to the record, each with the row of the survivor that says the same, if there is one."""
    table = child.table
    gate = ctx.kernel.policy.gate(ctx.access, child, "read", table)
    twins: list[Any] = []
    for names in _others(child, column):
        twin = table.alias(f"twin{len(twins)}")
        same = [twin.c[name] == table.c[name] for name in names]
        live = [twin.c.tenant_id == TENANT, twin.c.deleted_at.is_(None), twin.c[column] == _TO]
        twins.append(sa.select(sa.cast(twin.c.id, sa.Text())).where(*live, *same).limit(1).scalar_subquery())
    twin_id = sa.func.coalesce(*twins, sa.null()) if twins else sa.cast(sa.null(), sa.Text())
    rows = sa.select(sa.cast(table.c.id, sa.Text()).label("id"), twin_id.label("twin"))
    rows = rows.where(*gate, table.c[column] == _FROM).order_by(table.c.id)
    if column not in child.references:
        rows = rows.where(table.c[_HANGING[0]] == sa.literal(resource.singular, sa.Text()))
    return Statement(rows.limit(sa.literal_column(str(MOST + 1))))


def _custom_rows(ctx: Context, child: Resource, *, indexed: bool) -> Statement:
    """Live rows, other than the record itself, whose custom field `of` refers to it."""
    table = child.table
    other = sa.cast(_FROM, sa.Text())
    if indexed:
        alias = VALUES.alias("custom_reference")
        value = [*entry(table.c.id, "of", alias), alias.c.text_value == other]
        refers: Any = sa.exists(sa.select(sa.literal(1)).select_from(alias).where(*value).correlate(table))
    else:
        refers = expression(table, "reference", sa.bindparam("of", type_=sa.Text())) == other
    gate = ctx.kernel.policy.gate(ctx.access, child, "read", table)
    columns = (sa.cast(table.c.id, sa.Text()).label("id"), sa.cast(sa.null(), sa.Text()).label("twin"))
    rows = sa.select(*columns).where(*gate, refers, table.c.id != _FROM).order_by(table.c.id)
    return Statement(rows.limit(sa.literal_column(str(MOST + 1))))


Found = list[tuple[Resource, str, list[Row]]]


async def gather(
    ctx: Context, ours: Context, resource: Resource, survivor: str, other: str
) -> tuple[Found, list[Moved]]:
    """What refers to the other record, and what of that the caller sees.

    Raises:
        Problem: 409 when it is more than a merge moves.
    """
    found: Found = []
    told, total = [], 0
    asked: list[tuple[Resource, str, Statement, dict[str, Any]]] = []
    for child, column in referring(ctx.kernel.catalog, resource):
        key: tuple[Any, ...] = ("referring", resource.plural, child.plural, column, ours.access.shape)
        build = partial(_rows, ours, resource, child, column)
        asked.append((child, column, ctx.kernel.statement(key, build), {"survivor": survivor}))
    for child, field in _customs(ours, resource):
        key = ("custom_referring", child.plural, field.indexed, ours.access.shape)
        build = partial(_custom_rows, ours, child, indexed=field.indexed)
        of = field.place if field.indexed else field.key
        asked.append((child, field.name, ctx.kernel.statement(key, build), {"of": of}))
    for child, column, statement, values in asked:
        rows = await ours.fetch(statement, {**ours.access.values, **values, "other": other})
        total += len(rows)
        if total > MOST:
            raise Problem(LIMIT_REACHED, f"More than {MOST} records refer to the other one; move some of them first.")
        if rows:
            found.append((child, column, rows))
            visible = await seen(ctx, child, {row["id"] for row in rows})
            if visible and column not in ctx.access.hides(child.plural):
                told.append(Moved(resource=child.plural, field=column, count=len(visible)))
    return found, told


async def move(
    ctx: Context, found: Found, survivor: str, greater: Mapping[str, tuple[Any, ...]]
) -> list[dict[str, Any]]:
    """Moves what `gather` found, and gives the journal of it; what the survivor has already is deleted instead.

    Args:
        ctx: with our own rights.
        found: what refers to the other record.
        survivor: its new target.
        greater: columns of which the greater of two values is kept, with the values in their order.
    """
    journal: list[dict[str, Any]] = []
    for child, column, rows in found:
        for row in rows:
            note = {"resource": child.plural, "id": row["id"], "field": column}
            if row["twin"] is None:
                await update(ctx, child, row["id"], _setting(column, survivor), by_verb=True, recorded="merge")
                journal.append({**note, "how": "moved"})
                continue
            journal += await _raise(ctx, child, row, greater)
            await delete(ctx, child, row["id"])
            journal.append({**note, "how": "removed", "twin": row["twin"]})
    return journal


def _setting(name: str, value: Any) -> dict[str, Any]:
    """Values of a write that sets a field, which may be a custom one."""
    return {CUSTOM: {name.removeprefix(PREFIX): value}} if name.startswith(PREFIX) else {name: value}


def _present(ctx: Context, child: Resource, item: Mapping[str, Any], name: str) -> Any:
    """The value of a field of a record as it is sent; None for a custom one that takes no values by now."""
    if not name.startswith(PREFIX):
        return item[name]
    field = fields_of(ctx.access, child).get(name.removeprefix(PREFIX))
    held = plain(item[CUSTOM])
    return None if field is None else kept_of(field, held.get(field.key))


async def _raise(
    ctx: Context, child: Resource, row: Row, greater: Mapping[str, tuple[Any, ...]]
) -> list[dict[str, Any]]:
    names = [name for name in greater if name in child.columns]
    if not names:
        return []
    theirs, mine = await find(ctx, child, row["id"]), await find(ctx, child, row["twin"])
    assert theirs is not None and mine is not None  # noqa: S101, PT018 - our rights, in the transaction that found them
    values = {
        name: theirs[name] for name in names if greater[name].index(theirs[name]) > greater[name].index(mine[name])
    }
    if not values:
        return []
    await update(ctx, child, row["twin"], values, by_verb=True, recorded="merge")
    return [
        {"resource": child.plural, "id": row["twin"], "field": name, "how": "raised", "from": mine[name], "to": value}
        for name, value in values.items()
    ]


async def put_back(
    ctx: Context, journal: list[dict[str, Any]], survivor: str, other: str, greater: Mapping[str, tuple[Any, ...]]
) -> list[dict[str, Any]]:
    """Undoes `move`, newest first, after the other record is there again; gives what was left as it is.

    What was deleted because the survivor had it already comes back only if the survivor still has it, and with no more
    than that has: a link or a member that was taken away since, or given less, is not to come back by this.
    """
    kept = []
    for note in reversed(journal):
        child = ctx.kernel.catalog.resources.get(note["resource"])
        if child is None:
            continue
        name, place = note["field"], {key: note[key] for key in ("resource", "id", "field")}
        present = await find(ctx, child, note["id"])
        if note["how"] == "removed":
            twin = await find(ctx, child, note["twin"])
            if present is not None or twin is None:
                kept.append({**place, "reason": "gone" if present is None else "changed"})
            elif less := _less(await restore(ctx, child, note["id"]), twin, greater):
                await update(ctx, child, note["id"], less, by_verb=True, recorded="unmerge")
                kept += [{**place, "field": column, "reason": "changed"} for column in less]
            continue
        expected, back = (survivor, other) if note["how"] == "moved" else (note["to"], note["from"])
        if present is None:
            kept.append({**place, "reason": "gone"})
        elif _present(ctx, child, present, name) != expected:
            kept.append({**place, "reason": "changed"})
        else:
            await update(ctx, child, note["id"], _setting(name, back), by_verb=True, recorded="unmerge")
    return kept
