"""Which records a caller may see now, and which they saw before a change: for what tells of records, not for reads."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Statement, bound
from crm_api.kernel.query import frame, framed
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource

_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))
_IMAGES = sa.bindparam("images", type_=JSONB())
_VERSION = Statement(sa.select(frame().c.access_version))


def may_read(ctx: Context, resource: Resource) -> bool:
    """Whether roles and the credential's scopes let the caller read any of it."""
    return ctx.access.may(resource.plural, "read") and resource.plural not in ctx.access.closed


async def seen(ctx: Context, resource: Resource, ids: Collection[str]) -> frozenset[str]:
    """The records among `ids`, deleted ones too, that the caller may read now."""
    if not ids or not may_read(ctx, resource):
        return frozenset()
    if ctx.access.unrestricted:
        return frozenset(ids)
    return await _ask(ctx, resource, "seen", {"ids": bound([UUID(id_) for id_ in ids])})


async def saw(ctx: Context, resource: Resource, images: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The ids of those rows, given as they were, that the caller may read as such."""
    if not images or not may_read(ctx, resource):
        return frozenset()
    return await _ask(ctx, resource, "saw", {"images": list(images)})


async def settle(ctx: Context) -> None:
    """Makes sure that the caller's rights are those of now: of who may read nothing, no other statement would tell.

    Raises:
        AccessMoved: they are not.
    """
    await settled(ctx, ("version",), lambda: _VERSION, {})


async def _ask(ctx: Context, resource: Resource, question: str, values: dict[str, Any]) -> frozenset[str]:
    build = _seen if question == "seen" else _saw
    _, rows = await settled(ctx, (question, resource.plural), lambda: build(ctx, resource), values)
    return frozenset(row["id"] for row in rows if row["id"] is not None)


def _seen(ctx: Context, resource: Resource) -> Statement:
    table = resource.table
    fixed = [table.c[name] == sa.literal(value, sa.Text()) for name, value in resource.fixed.items()]
    rule = ctx.kernel.policy.rows(ctx.access, resource, "read", table)
    conditions = [table.c.tenant_id == TENANT, among(table.c.id, _IDS), *fixed]
    return _framed(sa.select(table.c.id).where(*conditions, *([] if rule is None else [rule])))


def images(resource: Resource) -> Any:
    """Rows as the parameter `images` has them: like the table, for conditions on records as they were."""
    names = (*resource.columns, *(str(key.key) for key in resource.keys.values()))
    columns = [sa.column(name, resource.table.c[name].type) for name in names]
    row = sa.func.jsonb_to_recordset(_IMAGES).table_valued(*columns, name=f"was_{resource.table.name}")
    return row.render_derived(with_types=True)


def _saw(ctx: Context, resource: Resource) -> Statement:
    was = images(resource)
    rule = ctx.kernel.policy.rows(ctx.access, resource, "read", was)
    return _framed(sa.select(was.c.id).where(sa.true() if rule is None else rule))


def _framed(rows: sa.Select[Any]) -> Statement:
    page = rows.lateral("page")
    return framed(page, [sa.cast(page.c.id, sa.Text()).label("id")])
