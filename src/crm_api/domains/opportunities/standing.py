"""Whether open opportunities stand in a stage or pipeline."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.problems import IN_USE, Problem
from crm_api.kernel.record import Record


async def refuse_if_open(ctx: Context, column: str, id_: str | UUID) -> None:
    """409 while an open opportunity refers to this record by the column."""

    def build() -> Statement:
        table = Record.metadata.tables["opportunities"]
        rows: Any = sa.select(sa.literal_column("1").label("found")).where(
            table.c.tenant_id == TENANT,
            table.c[column] == sa.bindparam("id", type_=sa.Uuid()),
            table.c.status == sa.literal("open", sa.Text()),
            table.c.deleted_at.is_(None),
        )
        return Statement(rows.limit(sa.literal_column("1")))

    if await ctx.fetch(ctx.kernel.statement(("open_opportunities", column), build), {"id": id_}):
        raise Problem(IN_USE, "Open opportunities are in it; move them first.")
