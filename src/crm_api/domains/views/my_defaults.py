"""`/v1/me/default_views`: which view of each resource the caller begins with."""

from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on
from starlette.responses import Response

from crm_api.domains.views.default_view import DEFAULTS, Audience
from crm_api.domains.views.saved_view import SAVED_VIEWS
from crm_api.domains.views.tags import reader
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.policy import SELF
from crm_api.kernel.problems import invalid_parameter
from crm_api.kernel.projection import Json
from crm_api.kernel.query import framed
from crm_api.kernel.record import among
from crm_api.kernel.schema import Code, Id, Name
from crm_api.kernel.sight import may_read

router = APIRouter()
_ROLES = sa.bindparam("p_roles", type_=ARRAY(sa.Uuid()))


class MyDefaultViewView(BaseModel):
    """The view of a resource that the caller begins with, and whose choice it is."""

    resource: Code
    saved_view_id: Id
    name: Name
    audience: Audience
    role_id: Id | None


class MyDefaultViews(BaseModel):
    """One view of each resource that has any, in the order of the resources' names."""

    data: Annotated[list[MyDefaultViewView], Field(max_length=200)]


@router.get(
    "/v1/me/default_views",
    operation_id="list_my_default_views",
    summary="List the views that the caller begins with",
    response_model=MyDefaultViews,
    responses={403: {}, 422: {}},
)
async def list_my_default_views(
    ctx: Annotated[Context, Depends(reader)],
    resource: Annotated[
        str | None, Query(min_length=1, max_length=63, description="Plural name: only the one of these records.")
    ] = None,
) -> Response:
    """The caller's own choice goes before that of a role, and that before everyone's; only views they see count."""
    ctx.require(SAVED_VIEWS, "read")
    resources = ctx.kernel.catalog.resources
    if resource is not None and (resource not in resources or "search" not in resources[resource].operations):
        raise invalid_parameter("resource", "unknown_resource", "There are no such records to look at.")
    _, rows = await settled(ctx, ("default views",), lambda: _compile(ctx), {})
    shown = [
        {name: row[name] for name in MyDefaultViewView.model_fields}
        for row in rows
        if row["saved_view_id"] is not None
        and resource in (None, row["resource"])
        and row["resource"] in resources
        and may_read(ctx, resources[row["resource"]])
    ]
    return Json({"data": shown})


def _compile(ctx: Context) -> Statement:
    """Of the defaults that are for the caller, with a view that they see, the first of each resource."""
    views = SAVED_VIEWS.table
    of_role = among(DEFAULTS.c.role_id, _ROLES)
    rank = sa.case((DEFAULTS.c.principal_id.is_not(None), 0), (DEFAULTS.c.role_id.is_not(None), 1), else_=2)
    rows = (
        sa.select(
            DEFAULTS.c.resource,
            sa.cast(views.c.id, sa.Text()).label("saved_view_id"),
            views.c.name,
            DEFAULTS.c.audience,
            sa.cast(DEFAULTS.c.role_id, sa.Text()).label("role_id"),
        )
        .ext(distinct_on(DEFAULTS.c.resource))
        .select_from(sa.join(DEFAULTS, views, views.c.id == DEFAULTS.c.saved_view_id))
        .where(
            DEFAULTS.c.tenant_id == TENANT,
            sa.or_(DEFAULTS.c.audience == sa.literal("everyone", sa.Text()), DEFAULTS.c.principal_id == SELF, of_role),
            views.c.resource == DEFAULTS.c.resource,
            *ctx.kernel.policy.gate(ctx.access, SAVED_VIEWS, "read", views),
        )
        .order_by(DEFAULTS.c.resource, rank, views.c.position, views.c.id)
    )
    return framed(rows.lateral("page"))
