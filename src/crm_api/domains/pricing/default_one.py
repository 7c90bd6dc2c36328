"""At most one live record is the default, of all or of those with the same value in a field."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.problems import DUPLICATE, Fault, Problem
from crm_api.kernel.resource import Check, Resource


def only_default(of: str | None = None) -> Check:
    """The check of a resource with a column `is_default`; `of` is the field of which each value has its default."""

    async def check(
        ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
    ) -> None:
        row = {**(before or {}), **values}
        if not row["is_default"]:
            return
        await one_at_a_time(ctx, f"{resource.plural}.is_default")
        statement = ctx.kernel.statement(("default", resource.plural), lambda: _others(resource, of))
        sent = {"own": row["id"], "of": row[of] if of else None}
        if await ctx.fetch(statement, sent):
            detail = f"Another record is the default{f' of this {of}' if of else ''}; change that one first."
            raise Problem(DUPLICATE, detail, [Fault("duplicate", detail, pointer="/is_default")])

    return Check(frozenset({"is_default", "deleted_at"} | ({of} if of else set())), check)


def _others(resource: Resource, of: str | None) -> Statement:
    table = resource.table
    alike = [table.c[of] == sa.bindparam("of", type_=sa.Text())] if of else []
    return Statement(
        sa.select(table.c.id).where(
            table.c.tenant_id == TENANT,
            table.c.is_default,
            table.c.deleted_at.is_(None),
            table.c.id != sa.bindparam("own", type_=sa.Uuid()),
            *alike,
        )
    )
