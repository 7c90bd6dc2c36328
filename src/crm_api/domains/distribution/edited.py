"""What a job changed in each record, kept so that it can be taken back; it goes when its job is forgotten."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.collective_rows import FIRST
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.jobs import Job
from crm_api.kernel.problems import TRANSITION_REFUSED, Problem
from crm_api.kernel.record import Record, table_of


def _of_job(column: str) -> sa.ForeignKeyConstraint:
    """What is kept of a job is kept as long as the job."""
    return sa.ForeignKeyConstraint(["tenant_id", column], ["jobs.tenant_id", "jobs.id"], ondelete="CASCADE")


class EditedRecord(Record):
    """The fields of one record that a job changed: as they were, and as it left them; both as they are sent."""

    __tablename__ = "edited_records"
    __table_args__ = (_of_job("job_id"), sa.Index("ix_edited_records_object_id", "tenant_id", "object_id"))

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    object_id: Mapped[UUID] = mapped_column(primary_key=True)
    before: Mapped[dict[str, Any]]
    after: Mapped[dict[str, Any]]


class EditUndo(Record):
    """That a job is taken back, and by which other. A job is taken back once; where nothing was, not yet."""

    __tablename__ = "edit_undos"
    __table_args__ = (
        _of_job("job_id"),
        _of_job("undo_id"),
        sa.Index("ix_edit_undos_undo_id", "tenant_id", "undo_id"),
    )

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    undo_id: Mapped[UUID]


_RECORDS, _UNDOS = table_of(EditedRecord), table_of(EditUndo)
_JOB = sa.bindparam("job_id", type_=sa.Uuid())
_COLUMNS = ("object_id", "before", "after")


def _keep() -> Statement:
    columns = [sa.column(name, _RECORDS.c[name].type) for name in _COLUMNS]
    given = sa.func.json_to_recordset(sa.bindparam("records", type_=JSON()))
    records = given.table_valued(*columns, name="records").render_derived(with_types=True)
    rows = sa.select(TENANT, _JOB, *records.c)
    insert = sa.insert(_RECORDS).from_select(["tenant_id", "job_id", *_COLUMNS], rows)
    return Statement(insert.returning(_RECORDS.c.object_id))


_KEEP = _keep()
_OF = (_RECORDS.c.tenant_id == TENANT, _RECORDS.c.job_id == _JOB)
_COUNT = Statement(sa.select(sa.func.count()).where(*_OF))
_NEXT = Statement(
    sa.select(sa.cast(_RECORDS.c.object_id, sa.Text()).label("object_id"), _RECORDS.c.before, _RECORDS.c.after)
    .where(*_OF, _RECORDS.c.object_id > sa.bindparam("after_id", type_=sa.Uuid()))
    .order_by(_RECORDS.c.object_id)
    .limit(sa.bindparam("limit", type_=sa.BigInteger()))
)
_UNDONE = Statement(sa.select(_UNDOS.c.undo_id).where(_UNDOS.c.tenant_id == TENANT, _UNDOS.c.job_id == _JOB))


def _mark() -> Statement:
    """One that succeeded is not tried again, so that no two can ever take the same job back."""
    insert = upsert(_UNDOS).values(tenant_id=TENANT, job_id=_JOB, undo_id=sa.bindparam("undo_id", type_=sa.Uuid()))
    jobs = table_of(Job)
    idle = sa.exists().where(
        jobs.c.tenant_id == TENANT,
        jobs.c.id == _UNDOS.c.undo_id,
        jobs.c.state == sa.literal_column("'succeeded'"),
        jobs.c.result["done"].astext == sa.literal_column("'0'"),
    )
    replaced = insert.on_conflict_do_update(
        index_elements=[*_UNDOS.primary_key], set_={"undo_id": insert.excluded.undo_id}, where=idle
    )
    return Statement(replaced.returning(_UNDOS.c.job_id))


_MARK = _mark()


async def keep(ctx: Context, job_id: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Notes `object_id`, `before` and `after` of records that a job changed; it changes each once.

    Raises:
        Problem: 409 when the job is being taken back.
    """
    if records:
        if await ctx.read(_UNDONE, {"job_id": job_id}):
            raise Problem(TRANSITION_REFUSED, "This job is being taken back, so it does not go on.")
        await ctx.fetch(_KEEP, {"job_id": job_id, "records": list(records)})


async def count(ctx: Context, job_id: str) -> int:
    """How many records a job changed."""
    return int((await ctx.read(_COUNT, {"job_id": job_id}))[0][0])


async def following(ctx: Context, job_id: str, after: str | None, most: int) -> list[dict[str, Any]]:
    """The next records that a job changed, in the order of their ids."""
    rows = await ctx.read(_NEXT, {"job_id": job_id, "after_id": after or FIRST, "limit": most})
    return [
        {"id": row["object_id"], "before": orjson.loads(row["before"]), "after": orjson.loads(row["after"])}
        for row in rows
    ]


async def mark(ctx: Context, job_id: str, undo_id: str) -> bool:
    """Notes that a job takes another back; false when one does already, or has for at least one record."""
    return bool(await ctx.fetch(_MARK, {"job_id": job_id, "undo_id": undo_id}))
