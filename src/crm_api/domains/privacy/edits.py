"""Which jobs edited records of a person: what such a job set, added or removed is theirs, too."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from crm_api.domains.distribution.edited import EditedRecord
from crm_api.domains.jobs.job import JOBS
from crm_api.domains.privacy.emptying import Rows, plain
from crm_api.domains.privacy.person import PEOPLE
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement, bound
from crm_api.kernel.record import among, table_of

_TABLE, _EDITED = JOBS.table, table_of(EditedRecord)
_TEXTS = ARRAY(sa.Text())
_KEPT = sa.select(_EDITED.c.job_id).where(
    _EDITED.c.tenant_id == TENANT, among(_EDITED.c.object_id, sa.bindparam("ids", type_=ARRAY(sa.Uuid())))
)
_NAMED = sa.cast(sa.func.lower(_TABLE.c.parameters["ids"].astext), JSONB)
_FOUND = Statement(
    sa.select(sa.cast(_TABLE.c.id, sa.Text()).label("id")).where(
        _TABLE.c.tenant_id == TENANT,
        sa.or_(
            _TABLE.c.id.in_(_KEPT),
            _NAMED.op("?|", return_type=sa.Boolean())(sa.bindparam("names", type_=_TEXTS)),
        ),
    )
)


async def edits_of(ctx: Context, found: Rows) -> set[str]:
    """The ids of jobs that name a record of a person, by its id or an external one, or have changed it."""
    rows = [row for resource in PEOPLE.values() for row in found.get(resource, ())]
    external = {f"ext:{source}:{id_}" for row in rows for source, id_ in plain(row["external_ids"]).items()}
    names = sorted({row["id"] for row in rows} | {name.lower() for name in external})
    jobs = await ctx.fetch(_FOUND, {"ids": bound(UUID(row["id"]) for row in rows), "names": names})
    return {row["id"] for row in jobs}
