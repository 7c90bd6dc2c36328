"""What to tell a writer whose version of a record is not the present one."""

from uuid import UUID

import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, fields_of
from crm_api.kernel.customs_index import customs_changed
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.problems import VERSION_MISMATCH, Problem
from crm_api.kernel.record import AuditEntry, table_of
from crm_api.kernel.resource import Resource

_AUDIT = table_of(AuditEntry)
_SINCE = (
    _AUDIT.c.tenant_id == TENANT,
    _AUDIT.c.object_id == sa.bindparam("id", type_=sa.Uuid()),
    _AUDIT.c.object_type == sa.bindparam("type", type_=sa.Text()),
    _AUDIT.c.version > sa.bindparam("version", type_=sa.BigInteger()),
)
_CHANGED = Statement(
    sa.union(
        sa.select(sa.func.jsonb_object_keys(_AUDIT.c.after).label("name")).where(*_SINCE),
        customs_changed(_AUDIT, *_SINCE),
    )
)


async def stale(ctx: Context, resource: Resource, id_: str | UUID, expected: int, current: int) -> Problem:
    """412 that names the present version and what changed since, as far as the caller may see it."""
    rows = await ctx.read(_CHANGED, {"id": id_, "type": resource.singular, "version": expected})
    shown = {*resource.columns, *(field.name for field in fields_of(ctx.access, resource).values())} - {CUSTOM}
    shown -= ctx.access.hides(resource.plural)
    changed = sorted(row["name"] for row in rows if row["name"] in shown)
    return Problem(
        VERSION_MISMATCH,
        f"The record is at version {current}, not {expected}.",
        extra={"current_version": current, "changed": changed},
        headers={"ETag": f'"{current}"'},
    )
