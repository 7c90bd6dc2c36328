"""Verb: how the profile of an account came to be what it is, from the audit trail."""

from typing import Annotated, Any, Literal

import orjson
import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.record import AuditEntry, table_of
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Id, Instant, Tag, Wire

PROFILE = ("tier", "risk", "interests", "habits")
"""The customer profile."""
MOST = 500
_AUDIT = table_of(AuditEntry)
_FIELDS = sa.bindparam("fields", type_=ARRAY(sa.Text()))
_Values = Annotated[list[Tag], Field(max_length=50)]


class ProfileChange(Wire):
    """One field of the profile became something else."""

    field: Literal["tier", "risk", "interests", "habits"]
    old: Annotated[_Values, Field(description="Empty where there was nothing; one value of a field that has one.")]
    new: _Values
    at: Instant
    by: Annotated[Id | None, Field(description="Who changed it; null for the system.")]
    version: Annotated[int, Field(ge=1, le=9_007_199_254_740_991, description="Of the account since then.")]


class ProfileHistory(Wire):
    """What the profile was and became, the newest first."""

    data: Annotated[list[ProfileChange], Field(max_length=4 * MOST)]
    has_more: Annotated[bool, Field(description="Older changes are in the audit log.")]


_CHANGES = Statement(
    sa.select(
        _AUDIT.c.at,
        sa.cast(_AUDIT.c.actor_id, sa.Text()).label("actor_id"),
        _AUDIT.c.version,
        _AUDIT.c.before,
        _AUDIT.c.after,
    )
    .where(
        _AUDIT.c.tenant_id == TENANT,
        _AUDIT.c.object_type == sa.literal("account", sa.Text()),
        _AUDIT.c.object_id == sa.bindparam("id", type_=sa.Uuid()),
        sa.or_(_AUDIT.c.before.has_any(_FIELDS), _AUDIT.c.after.has_any(_FIELDS)),
    )
    .order_by(_AUDIT.c.version.desc(), _AUDIT.c.id.desc())
    .limit(sa.literal_column(str(MOST + 1)))
)


async def profile_history(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Of the fields that the caller may see."""
    del body
    shown = [name for name in PROFILE if name not in ctx.access.hides(resource.plural)]
    rows = await ctx.read(_CHANGES, {"id": row["id"], "fields": shown})
    data = []
    for entry in rows[:MOST]:
        before, after = orjson.loads(entry["before"]), orjson.loads(entry["after"])
        data += [
            {
                "field": name,
                "old": _values(before.get(name)),
                "new": _values(after.get(name)),
                "at": entry["at"],
                "by": entry["actor_id"],
                "version": entry["version"],
            }
            for name in shown
            if _values(before.get(name)) != _values(after.get(name))
        ]
    return {"data": data, "has_more": len(rows) > MOST}


def _values(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


PROFILE_HISTORY = Action(
    "profile_history",
    "List how the profile of the account changed",
    profile_history,
    reply=ProfileHistory,
    method="GET",
    level="read",
)
