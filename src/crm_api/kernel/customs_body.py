"""What a body brings under `custom`, checked against the tenant's definitions and the records that it points to."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.context import Context, refuse, settled
from crm_api.kernel.customs import CUSTOM, Custom, fields_of, kept_of, pointer, read_values
from crm_api.kernel.customs_index import VALUES, indexed
from crm_api.kernel.database import TENANT, Statement, bound
from crm_api.kernel.external import is_external, resolved
from crm_api.kernel.problems import DUPLICATE, INVALID, Fault, Problem
from crm_api.kernel.query import framed
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource

_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))


async def customized(
    ctx: Context, resource: Resource, values: Mapping[str, Any], id_: str | UUID | None, *, complete: bool = False
) -> Mapping[str, Any]:
    """Values of a write with its custom fields as they are kept.

    Args:
        ctx: the request.
        resource: what is written.
        values: of the body.
        id_: the record; None for one that is made now.
        complete: a client made the body, so that it must bring what is required.

    Raises:
        Problem: 422 for what a field does not take, 409 for a value that another record has.
    """
    sent, fields = values.get(CUSTOM), fields_of(ctx.access, resource)
    if not fields and not sent:
        return {name: value for name, value in values.items() if name != CUSTOM} if id_ is None else values
    if sent is None and id_ is not None:
        return values
    try:
        read = read_values(fields, sent or {}, new=id_ is None, complete=complete)
        found = await _referred(ctx, fields, read)
    except Problem as problem:
        found = await _again(ctx, resource, sent or {}, id_, problem)
    await _refuse_taken(ctx, resource, found, id_)
    return {**values, CUSTOM: found}


async def _again(
    ctx: Context, resource: Resource, sent: Mapping[str, Any], id_: str | UUID | None, problem: Problem
) -> dict[str, Any]:
    """Values of a body that was refused with a problem, if it is for what the record has already.

    A form sends back what it was given: a choice or a field that was retired since, a reference to a record that was
    deleted. Else the problem is raised; a field may have been declared since this process read which there are.
    """
    had = {} if id_ is None else await _had(ctx, resource, str(id_))
    same = {key: value for key, value in sent.items() if value is not None and had.get(key) == value}
    try:
        fields = {
            key: replace(field, choices=field.choices.union(had[key])) if isinstance(had.get(key), list) else field
            for key, field in fields_of(ctx.access, resource).items()
        }
        rest = {key: value for key, value in sent.items() if key not in same}
        read = read_values(fields, rest, new=id_ is None, complete=False) if had else await refuse(ctx, problem)
        return {**await _referred(ctx, fields, read), **same}
    except Problem as still:
        await refuse(ctx, still)


async def _had(ctx: Context, resource: Resource, id_: str) -> dict[str, Any]:
    """Custom fields of a record that the caller sees, by key; none of one that they do not see."""

    def build() -> Statement:
        table = resource.table
        gate = ctx.kernel.policy.gate(ctx.access, resource, "read", table)
        same = table.c.id == sa.bindparam("id", type_=sa.Uuid())
        return framed(sa.select(table.c[CUSTOM].label(CUSTOM)).where(same, *gate).lateral("page"))

    _, rows = await settled(ctx, ("custom_had", resource.plural), build, {"id": id_})
    found = rows[0][CUSTOM] if rows else None
    return dict(orjson.loads(found) if isinstance(found, str | bytes) else found or {})


async def carried(ctx: Context, resource: Resource, row: Mapping[str, Any], target: Resource) -> dict[str, Any]:
    """Custom fields of a loaded row that a new record of `target` takes over, by key.

    Those of the same key and kind, which the caller sees here and may set there; none that is unique, retired, or leads
    to a record that they do not see.
    """
    hidden = ctx.access.hides(resource.plural)
    closed = ctx.access.hides(target.plural) | ctx.access.read_only.get(target.plural, frozenset())
    there, found = fields_of(ctx.access, target), {}
    values = orjson.loads(row[CUSTOM]) if isinstance(row[CUSTOM], str | bytes) else row[CUSTOM]
    for key, field in fields_of(ctx.access, resource).items():
        other = there.get(key)
        if other is None or field.name in hidden | closed or other.unique:
            continue
        alike = (field.kind, field.target) == (other.kind, other.target)
        if alike and (value := kept_of(other, values.get(key))) is not None:
            seen = (
                None
                if field.target is None
                else await _visible(ctx, ctx.kernel.catalog.resources[field.target], {value})
            )
            if seen is None or value in seen:
                found[key] = value
    return found


async def _referred(ctx: Context, fields: Mapping[str, Custom], values: dict[str, Any]) -> dict[str, Any]:
    """The values with references as ids in their one form; 422 for those that lead nowhere the caller may see."""
    leading = {key: fields[key].target for key, value in values.items() if value is not None and fields[key].target}
    found, faults = dict(values), []
    for plural in sorted(set(map(str, leading.values()))):
        target = ctx.kernel.catalog.resources[plural]
        keys = [key for key, to in leading.items() if to == plural]
        externals = {str(values[key]) for key in keys if is_external(values[key])}
        ids = await resolved(ctx, target, externals) if externals else {}
        found |= {key: str(UUID(ids.get(values[key], values[key]))) for key in keys}
        seen = await _visible(ctx, target, {found[key] for key in keys})
        detail = f"There is no such {target.singular}."
        faults += [Fault("reference_not_found", detail, pointer=pointer(key)) for key in keys if found[key] not in seen]
    if faults:
        raise Problem(INVALID, "A reference leads nowhere.", faults)
    return found


async def _visible(ctx: Context, target: Resource, ids: Collection[str]) -> frozenset[str]:
    def build() -> Statement:
        table = target.table
        gate = ctx.kernel.policy.gate(ctx.access, target, "read", table)
        rows = sa.select(sa.cast(table.c.id, sa.Text()).label("id")).where(among(table.c.id, _IDS), *gate)
        return framed(rows.lateral("page"))

    values = {"ids": bound(map(UUID, ids))}
    _, rows = await settled(ctx, ("custom_references", target.plural), build, values)
    return frozenset(row["id"] for row in rows if row["id"] is not None)


async def _refuse_taken(ctx: Context, resource: Resource, values: Mapping[str, Any], id_: str | UUID | None) -> None:
    """409 that names each unique field whose value another live record has; the index has the last word."""
    fields = fields_of(ctx.access, resource)
    own = {fields[key].id: key for key, value in values.items() if value is not None and fields[key].unique}
    if not own:
        return
    typed = [indexed(fields[key].kind.name, values[key]) for key in own.values()]
    asked = {
        "fields": bound(map(UUID, own)),
        "texts": [value if isinstance(value, str) else None for value in typed],
        "numbers": [value if isinstance(value, int) else None for value in typed],
        "id": id_ or UUID(int=0),
    }
    statement = ctx.kernel.statement(("custom_taken", resource.plural), lambda: _taken(resource))
    rows = await ctx.read(statement, asked)
    if taken := sorted({own[row["field_id"]] for row in rows}):
        detail = f"Another record already holds this {' and '.join(taken)}."
        raise Problem(DUPLICATE, detail, [Fault("duplicate", detail, pointer=pointer(key)) for key in taken])


def _taken(resource: Resource) -> Statement:
    """Which fields have the value asked in a live record other than `id`."""
    columns: dict[str, tuple[str, Any]] = {
        "field_id": ("fields", sa.Uuid()),
        "text": ("texts", sa.Text()),
        "number": ("numbers", sa.BigInteger()),
    }
    arrays = sa.func.unnest(*(sa.bindparam(name, type_=ARRAY(type_)) for name, type_ in columns.values()))
    described: list[Any] = [sa.column(name, type_) for name, (_, type_) in columns.items()]
    wanted = arrays.table_valued(*described, name="wanted").render_derived()
    table = resource.table
    live = sa.select(sa.literal(1)).where(
        table.c.tenant_id == TENANT, table.c.id == VALUES.c.object_id, table.c.deleted_at.is_(None)
    )
    same = sa.or_(VALUES.c.text_value == wanted.c.text, VALUES.c.number_value == wanted.c.number)
    return Statement(
        sa.select(sa.cast(VALUES.c.field_id, sa.Text()).label("field_id"))
        .select_from(sa.join(wanted, VALUES, VALUES.c.field_id == wanted.c.field_id))
        .where(
            VALUES.c.tenant_id == TENANT,
            same,
            VALUES.c.object_id != sa.bindparam("id", type_=sa.Uuid()),
            sa.exists(live.correlate(VALUES)),
        )
    )
