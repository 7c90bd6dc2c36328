"""What people call custom fields: their labels, which definitions as requests know them leave out."""

import orjson
import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.customs import fields_of
from crm_api.kernel.customs_records import CustomField
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.record import table_of
from crm_api.kernel.resource import Resource

_FIELDS = table_of(CustomField)
_LABELS = Statement(
    sa.select(
        sa.cast(_FIELDS.c.id, sa.Text()).label("id"),
        _FIELDS.c.label,
        _FIELDS.c.labels,
    ).where(_FIELDS.c.tenant_id == TENANT, _FIELDS.c.deleted_at.is_(None))
)


async def names_of(ctx: Context, resource: Resource) -> dict[str, list[str]]:
    """By name (`custom.grade`) the fields that the caller may set, with their labels in every language."""
    closed = ctx.access.hides(resource.plural) | ctx.access.read_only.get(resource.plural, frozenset())
    open_ = [field for field in fields_of(ctx.access, resource).values() if field.name not in closed]
    told = {row["id"]: row for row in await ctx.read(_LABELS, {})} if open_ else {}
    return {
        field.name: [told[field.id]["label"], *orjson.loads(told[field.id]["labels"]).values()]
        for field in open_
        if not field.retired and field.id in told
    }
