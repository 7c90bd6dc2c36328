"""`/v1/tags`: the tags that are in use on records that the caller may read, with how many have each."""

from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.headers import query
from crm_api.kernel.policy import Met
from crm_api.kernel.predicates import like
from crm_api.kernel.problems import invalid_parameter
from crm_api.kernel.projection import Json
from crm_api.kernel.query import framed
from crm_api.kernel.record import FieldValue, table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Tag
from crm_api.kernel.unit_of_work import open_context

router = APIRouter()
MOST = 200
FIELD = "tags"
_VALUES = table_of(FieldValue)


class TagUse(BaseModel):
    """A tag, and how many records that the caller may read have it."""

    tag: Tag
    number: Annotated[int, Field(ge=1, le=9_007_199_254_740_991)]


class TagList(BaseModel):
    """Tags in their order as text. `has_more`: there are further ones; a longer prefix brings them."""

    data: Annotated[list[TagUse], Field(max_length=MOST)]
    has_more: bool


async def reader(request: Request) -> Context:
    """Who asks; refuses parameters that the route does not declare."""
    query(request, {parameter.alias for parameter in request.scope["route"].dependant.query_params})
    return await open_context(request)


@router.get(
    "/v1/tags",
    operation_id="list_tags",
    summary="List the tags in use",
    response_model=TagList,
    responses={403: {}, 422: {}},
)
async def list_tags(
    ctx: Annotated[Context, Depends(reader)],
    resource: Annotated[str, Query(min_length=1, max_length=63, description="Plural name, e.g. `accounts`.")],
    prefix: Annotated[str, Query(max_length=60, description="What a tag begins with.")] = "",
    limit: Annotated[int, Query(ge=1, le=MOST, description="At most so many tags.")] = 50,
) -> Response:
    """Takes the permission to read the records; of a tag that only others' records have, nothing is told."""
    found = ctx.kernel.catalog.resources.get(resource)
    if found is None or FIELD not in found.values:
        raise invalid_parameter("resource", "unknown_resource", "There are no such records with tags.")
    ctx.require(found, "read")
    values = {"field": f"{found.plural}.{FIELD}", "prefix": like(prefix, prefix=True), "limit": limit + 1}
    _, rows = await settled(ctx, ("tags", found.plural), lambda: _compile(ctx, found), values)
    tags = [{"tag": row["tag"], "number": row["number"]} for row in rows if row["tag"] is not None]
    return Json({"data": tags[:limit], "has_more": len(tags) > limit})


def _compile(ctx: Context, resource: Resource) -> Statement:
    """Values of the index of lists, in its order, joined with the rows that are open to the caller."""
    table = resource.table
    gate = ctx.kernel.policy.gate(ctx.access, resource, "read", table, Met.ALL)
    rows = (
        sa.select(_VALUES.c.value.label("tag"), sa.func.count().label("number"))
        .select_from(sa.join(_VALUES, table, table.c.id == _VALUES.c.object_id))
        .where(
            _VALUES.c.tenant_id == TENANT,
            _VALUES.c.field == sa.bindparam("field", type_=sa.Text()),
            _VALUES.c.value.like(sa.bindparam("prefix", type_=sa.Text())),
            *gate,
        )
        .group_by(_VALUES.c.value)
        .order_by(_VALUES.c.value)
        .limit(sa.bindparam("limit", type_=sa.BigInteger()))
    )
    return framed(rows.lateral("page"))
