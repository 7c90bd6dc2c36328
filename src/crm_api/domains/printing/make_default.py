"""Verb: make a template the form of its type of document in its language."""

from typing import Any

import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.problems import CONFLICT, Problem
from crm_api.kernel.repository import update
from crm_api.kernel.resource import Action, Resource


async def make_default(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Takes the mark from the template that has it for this type and language."""
    del body
    if row["is_default"]:
        raise Problem(CONFLICT, "The template is the default already.")
    await one_at_a_time(ctx, "document_templates.is_default")
    statement = ctx.kernel.statement(("default_template",), lambda: _marked(resource))
    for other in await ctx.fetch(statement, {"object_type": row["object_type"], "language": row["language"]}):
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


def _marked(resource: Resource) -> Statement:
    table = resource.table
    return Statement(
        sa.select(sa.cast(table.c.id, sa.Text()).label("id")).where(
            table.c.tenant_id == TENANT,
            table.c.deleted_at.is_(None),
            table.c.is_default,
            table.c.object_type == sa.bindparam("object_type", type_=sa.Text()),
            table.c.language == sa.bindparam("language", type_=sa.Text()),
        )
    )


MAKE_DEFAULT = Action("make_default", "Make it the form of its type and language", make_default, event="default_made")
