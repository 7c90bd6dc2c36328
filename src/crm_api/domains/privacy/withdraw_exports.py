"""Takes back the files of exports that may tell of a person, and stops those that are being written."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.exchange.export import EXPORT
from crm_api.domains.files.lease import give_up
from crm_api.domains.jobs.job import JOBS
from crm_api.domains.privacy.emptying import belonging
from crm_api.domains.privacy.person import SUBJECTS
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.jobs import trusted
from crm_api.kernel.record import among
from crm_api.kernel.repository import update
from crm_api.kernel.schema import instant_text

PERSON_EXPORT = "export_person"
"""The kind of jobs that export one person."""
_AT_ONCE = 50
_ON_ITS_WAY = timedelta(hours=1)
"""The bytes of an export that was stopped may still be under way to the store."""
_TABLE = JOBS.table
_TEXTS = ARRAY(sa.Text())


def _parameter(*names: str) -> Any:
    return sa.func.coalesce(*(_TABLE.c.parameters[name].astext for name in names), sa.literal_column("''"))


_FOUND = Statement(
    sa.select(sa.cast(_TABLE.c.id, sa.Text()).label("id"), _TABLE.c.state, _TABLE.c.position, _TABLE.c.result)
    .where(
        _TABLE.c.tenant_id == TENANT,
        _TABLE.c.deleted_at.is_(None),
        sa.or_(
            sa.and_(
                _TABLE.c.kind == sa.literal(EXPORT.name, sa.Text()),
                among(_parameter("resource"), sa.bindparam("resources", type_=_TEXTS)),
            ),
            sa.and_(
                _TABLE.c.kind == sa.literal(PERSON_EXPORT, sa.Text()),
                among(_parameter(*SUBJECTS), sa.bindparam("people", type_=_TEXTS)),
            ),
        ),
        sa.or_(
            among(_TABLE.c.state, sa.literal_column("ARRAY['queued', 'running']", _TEXTS)),
            sa.and_(
                _TABLE.c.state == sa.literal_column("'succeeded'"),
                sa.cast(_TABLE.c.result["expires_at"].astext, sa.DateTime(timezone=True))
                > sa.bindparam("now", type_=sa.DateTime(timezone=True)),
            ),
        ),
        _TABLE.c.created_at <= sa.bindparam("until", type_=sa.DateTime(timezone=True)),
    )
    .order_by(_TABLE.c.id)
    .limit(sa.literal_column(str(_AT_ONCE)))
    .with_for_update(key_share=True)
)


async def withdraw_exports(ctx: Context, people: list[str], references: Collection[str], until: Any) -> int:
    """Withdraws some exports that were asked for up to a time; gives how many, 0 when none is left.

    `references` are those by which the people are named, which tell whose exports these are.
    """
    catalog = ctx.kernel.catalog
    tables = {SUBJECTS[name].table for name in references}
    own = [item.plural for item in catalog.resources.values() if item.table in tables]
    resources = [*own, *(item.plural for item in belonging(catalog, references))]
    values = {"resources": [*resources, "files"], "people": people, "now": ctx.now, "until": until}
    rows = await ctx.fetch(_FOUND, values)
    for row in rows:
        await _withdraw(ctx, row)
    return len(rows)


async def _withdraw(ctx: Context, row: Row) -> None:
    key = orjson.loads(row["position"]).get("storage_key")
    if row["state"] == "succeeded":
        result = {**orjson.loads(row["result"]), "expires_at": instant_text(ctx.now)}
        change: dict[str, Any] = {"result": result}
        events: tuple[str, ...] = ("updated",)
    else:
        change = {"state": "cancelled", "finished_at": ctx.now, "lease": None, "lease_until": None}
        events = ("updated", "cancelled")
    await update(trusted(ctx), JOBS, row["id"], change, action="cancel", events=events, by_verb=True)
    if key is not None:
        await give_up(ctx, key, timedelta(0) if row["state"] == "succeeded" else _ON_ITS_WAY)
