"""Verb: make a pipeline the one of opportunities that name none."""

from typing import Any

import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.problems import CONFLICT, Problem
from crm_api.kernel.repository import update
from crm_api.kernel.resource import Action, Resource


async def make_default(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Takes the mark from the pipeline that has it."""
    del body
    if not row["is_active"]:
        raise Problem(CONFLICT, "The pipeline is not active.")
    if row["is_default"]:
        raise Problem(CONFLICT, "The pipeline is the default already.")
    table = resource.table
    marked = sa.select(sa.cast(table.c.id, sa.Text()).label("id")).where(
        table.c.tenant_id == TENANT, table.c.is_default, table.c.deleted_at.is_(None)
    )
    statement = ctx.kernel.statement(("default_pipeline",), lambda: Statement(marked))
    for other in await ctx.fetch(statement, {}):
        await update(
            ctx,
            resource,
            other["id"],
            {"is_default": False},
            action="make_default",
            by_verb=True,
            recorded="make_default",
        )
    return {"is_default": True}


MAKE_DEFAULT = Action(
    "make_default", "Make it the pipeline of opportunities that name none", make_default, event="default_made"
)
