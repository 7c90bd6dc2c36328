"""Merged records: which record took one in, and what the old id answers."""

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.external import EXTERNAL_ID, IDS, SOURCE, is_external, key_parameters, kind_of
from crm_api.kernel.problems import CATALOGUE, CONFLICT, Kind, Problem, not_found
from crm_api.kernel.query import framed
from crm_api.kernel.record import Record, table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import external_key

MERGED = CATALOGUE["merged"] = Kind("merged", 308, "The record was merged into another")
_MOST_HOPS = 16


class Merge(Record):
    """A record that was merged into another. `journal` is what was done, for taking it back."""

    __tablename__ = "merges"
    __table_args__ = (
        sa.Index("ix_merges_merged_id", "tenant_id", "object_type", "merged_id", "id"),
        sa.Index("ix_merges_survivor_id", "tenant_id", "object_type", "survivor_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    object_type: Mapped[str]
    survivor_id: Mapped[UUID]
    merged_id: Mapped[UUID]
    merged_at: Mapped[datetime]
    merged_by: Mapped[UUID | None]
    undone_at: Mapped[datetime | None]
    journal: Mapped[dict[str, Any]]


_MERGES = table_of(Merge)


async def absent(ctx: Context, resource: Resource, id_: str | UUID) -> Problem:
    """404; or 308 when the record was merged into one that the caller may see, at the end of however many merges."""
    if "merge" not in resource.verbs:
        return not_found(resource.singular)
    external = external_key(id_) if is_external(id_) else None
    values = {"id": None if is_external(id_) else id_, **key_parameters(external or ("", ""))}
    _, rows = await settled(ctx, ("merged_into", resource.plural), lambda: _survivor(ctx, resource), values)
    if (into := rows[0]["id"]) is None:
        return not_found(resource.singular)
    extra, headers = {"merged_into": into}, {"Location": f"/v1/{resource.plural}/{into}"}
    return Problem(MERGED, "The record was merged into another one.", headers=headers, extra=extra)


def answered(problem: Problem, method: str) -> Problem:
    """The problem as a method is answered: a client that follows redirects by itself must not delete the survivor."""
    if problem.kind is not MERGED or method in ("GET", "HEAD"):
        return problem
    return replace(problem, kind=CONFLICT, headers={})


def _survivor(ctx: Context, resource: Resource) -> Statement:
    kind = sa.literal(kind_of(ctx.kernel.catalog, resource), sa.Text())
    held = sa.select(IDS.c.object_id).where(
        IDS.c.tenant_id == TENANT,
        IDS.c.object_type == kind,
        IDS.c.source == SOURCE,
        IDS.c.external_id == EXTERNAL_ID,
        IDS.c.deleted_at.is_(None),
    )
    start = sa.func.coalesce(sa.bindparam("id", type_=sa.Uuid()), held.scalar_subquery())
    one: sa.ColumnElement[int] = sa.literal_column("1")

    def of(table: Any) -> list[Any]:
        same = table.c.object_type == sa.literal(resource.singular, sa.Text())
        return [table.c.tenant_id == TENANT, same, table.c.undone_at.is_(None)]

    chain = (
        sa.select(_MERGES.c.survivor_id.label("id"), one.label("depth"))
        .where(*of(_MERGES), _MERGES.c.merged_id == start)
        .cte("chain", recursive=True)
    )
    further = _MERGES.alias("further")
    chain = chain.union_all(
        sa.select(further.c.survivor_id, chain.c.depth + one).where(
            *of(further), further.c.merged_id == chain.c.id, chain.c.depth < sa.literal_column(str(_MOST_HOPS))
        )
    )
    table = resource.table
    gate = ctx.kernel.policy.gate(ctx.access, resource, "read", table)
    rows = (
        sa.select(sa.cast(table.c.id, sa.Text()).label("id"))
        .select_from(sa.join(chain, table, table.c.id == chain.c.id))
        .where(*gate)
        .order_by(chain.c.depth.desc())
        .limit(one)
        .lateral("found")
    )
    return framed(rows)
