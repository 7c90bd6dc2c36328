"""`/v1/saved_views/{id}/records`: the records that a view shows, to whoever looks at them, under their own rights."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.views.listing import shown_by
from crm_api.domains.views.saved_view import SAVED_VIEWS
from crm_api.kernel.collections import MAX_LIMIT, path_id, run
from crm_api.kernel.headers import query, single
from crm_api.kernel.problems import invalid_parameter
from crm_api.kernel.projection import Json, plain
from crm_api.kernel.query import COUNT_LIMITS
from crm_api.kernel.repository import get
from crm_api.kernel.schema import Code
from crm_api.kernel.spec_style import parameter
from crm_api.kernel.unit_of_work import permitted

router = APIRouter()
_COUNT = {"type": "string", "enum": ["none", *COUNT_LIMITS], "default": "none"}
_LIMIT = {"type": "integer", "format": "int32", "minimum": 1, "maximum": MAX_LIMIT, "default": 50}


class ViewCount(BaseModel):
    """How many records there are; `gte` when there are more than were counted."""

    value: Annotated[int, Field(ge=0, le=1_000_000)]
    relation: Literal["eq", "gte"]


class ViewNotice(BaseModel):
    """A part of the view that the caller cannot have, and that was left out; or a field that was retired since."""

    part: Literal["filter", "sort", "columns", "expand"]
    name: Annotated[str, Field(max_length=200)]
    code: Annotated[
        Code,
        Field(
            description="`field_hidden` and `forbidden`: not for the caller. `field_retired`: still shown. Others as a "
            "search is refused with."
        ),
    ]
    detail: Annotated[str, Field(max_length=1000)]


class ViewRecords(BaseModel):
    """A page of the records that a view shows, each with the columns of the view, as a search gives them."""

    data: Annotated[list[dict[str, Any]], Field(max_length=MAX_LIMIT)]
    has_more: bool
    next_cursor: Annotated[str, Field(max_length=2000)] | None
    count: Annotated[ViewCount | None, Field(description="If it was asked for.")] = None
    notices: Annotated[list[ViewNotice], Field(max_length=200)]


@router.get(
    "/v1/saved_views/{id}/records",  # noqa: FAST003 - endpoints take the request, as derived ones do
    name="list_saved_view_records",
    operation_id="list_saved_view_records",
    summary="List the records that a view shows",
    response_model=ViewRecords,
    responses={403: {}, 404: {}, 422: {}},
    openapi_extra={
        "parameters": [
            parameter("id", "The view.", required=True, place="path", maxLength=300),
            {"name": "limit", "in": "query", "required": False, "description": "At most so many.", "schema": _LIMIT},
            parameter("cursor", "`next_cursor` of the page before.", maxLength=2000),
            {"name": "count", "in": "query", "required": False, "description": "As of a list.", "schema": _COUNT},
        ]
    },
)
async def list_saved_view_records(request: Request) -> Response:
    """What the caller may not see is not among them; a filter by a hidden field is 403 and says which."""
    ctx = await permitted(request, SAVED_VIEWS, "read")
    pairs = query(request, ("limit", "cursor", "count"))
    limit, cursor, count = (single(pairs, name) for name in ("limit", "cursor", "count"))
    if limit is not None and not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= MAX_LIMIT):
        raise invalid_parameter("limit", "out_of_range", f"1 to {MAX_LIMIT}.")
    if count not in (None, "none", *COUNT_LIMITS):
        raise invalid_parameter("count", "invalid_value", "none, estimate or exact.")
    view = plain(await get(ctx, SAVED_VIEWS, path_id(request, SAVED_VIEWS)))
    shown = await shown_by(ctx, view, limit=int(limit or 50), count=count or "none")
    body, _ = await run(ctx, shown.target, shown.listing, cursor, sent=True)
    return Json({**body, "notices": shown.notices})
