"""Records as they were at an instant, folded from the audit trail: the row of now with each later change taken back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from starlette.responses import Response

from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.external import own_id
from crm_api.kernel.ledger import image
from crm_api.kernel.merged import absent
from crm_api.kernel.problems import invalid_parameter
from crm_api.kernel.projection import Json, Projection
from crm_api.kernel.query import framed
from crm_api.kernel.record import AuditEntry, table_of
from crm_api.kernel.resource import Resource

_ID = sa.bindparam("id", type_=sa.Uuid())
_AS_OF = sa.bindparam("as_of", type_=sa.DateTime(timezone=True))
_ENTRIES = table_of(AuditEntry)


def parse_as_of(ctx: Context, text: str) -> datetime:
    """The instant of `as_of`.

    Raises:
        Problem: 422, as it is no instant with an offset, or is still to come.
    """
    try:
        instant = datetime.fromisoformat(text.upper())
    except ValueError:
        raise invalid_parameter("as_of", "invalid_value", "An instant, as 2026-01-31T12:00:00Z.") from None
    if instant.tzinfo is None or not 1 < instant.year < 9999:
        raise invalid_parameter("as_of", "invalid_value", "An instant, as 2026-01-31T12:00:00Z.")
    if instant > ctx.now:
        raise invalid_parameter("as_of", "invalid_value", "An instant that has passed.")
    return instant


async def get_as_of(
    ctx: Context, resource: Resource, id_: str | UUID, text: str, beside: Mapping[str, Any]
) -> Response:
    """The record as it was; it has no ETag, since it cannot be written.

    Raises:
        Problem: 404, as it was not there then or the caller may not see it now; 422 for `as_of` or what is `beside` it.
    """
    instant = parse_as_of(ctx, text)
    if beside:
        raise invalid_parameter(next(iter(beside)), "not_as_of", "What is related is read as it is now, not as it was.")
    own = await own_id(ctx, resource, id_, deleted=True)
    shape = ("as_of", resource.plural)
    _, rows = await settled(ctx, shape, lambda: _get(ctx, resource), {"id": own, "as_of": instant})
    if rows[0]["image"] is None:
        raise await absent(ctx, resource, id_)
    was = orjson.loads(rows[0]["image"])
    return Json(Projection(resource, ctx.access).from_image(was))


def _get(ctx: Context, resource: Resource) -> Statement:
    table = resource.table
    fixed = [table.c[name] == sa.literal(value, sa.Text()) for name, value in resource.fixed.items()]
    rule = ctx.kernel.policy.rows(ctx.access, resource, "read", table, narrow=True)
    last = _last(table)
    was = _was(table, last)
    page = (
        sa.select(
            image(resource, str(table.name))
            .op("||", return_type=JSONB())(sa.func.coalesce(was, sa.literal_column("'{}'::jsonb", JSONB())))
            .op("||", return_type=JSONB())(_stamp(last))
            .label("image")
        )
        .select_from(sa.join(table, last, sa.true()))
        .where(table.c.tenant_id == TENANT, table.c.id == _ID, *fixed, *([] if rule is None else [rule]))
        .where(~last.c.gone)
        .lateral("page")
    )
    return framed(page)


def _last(table: sa.Table) -> Any:
    """The change that made the version of then: by version, as clocks of processes differ."""
    entry = _ENTRIES.alias("entry")
    gone = sa.and_(entry.c.before.has_key("id"), ~entry.c.after.has_key("id"))
    return (
        sa.select(entry.c.version, entry.c.at, entry.c.actor_id, gone.label("gone"))
        .where(entry.c.tenant_id == TENANT, entry.c.object_id == table.c.id, entry.c.at <= _AS_OF)
        .order_by(entry.c.version.desc(), entry.c.id)
        .limit(sa.literal_column("1"))
        .correlate(table)
        .lateral("last")
    )


def _was(table: sa.Table, last: Any) -> Any:
    """What later changes replaced. The first change of a field counts: the last of a key stays in an object."""
    entry = _ENTRIES.alias("later")
    old = (
        sa.func.jsonb_each(entry.c.before).table_valued("key", sa.column("value", JSONB()), name="old").render_derived()
    )
    value = aggregate_order_by(old.c.value, entry.c.version.desc(), entry.c.id.desc())
    return (
        sa.select(sa.func.jsonb_object_agg(old.c.key, value))
        .select_from(sa.join(entry, old, sa.true()))
        .where(entry.c.tenant_id == TENANT, entry.c.object_id == table.c.id, entry.c.version > last.c.version)
        .correlate(table, last)
        .scalar_subquery()
    )


def _stamp(last: Any) -> Any:
    names = ("version", "updated_at", "updated_by", "deleted_at")
    values = (last.c.version, last.c.at, last.c.actor_id, sa.null())
    pairs: list[Any] = []
    for name, value in zip(names, values, strict=True):
        pairs += [sa.literal_column(f"'{name}'"), value]
    return sa.func.jsonb_build_object(*pairs, type_=JSONB())
