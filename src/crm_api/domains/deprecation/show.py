"""`GET /v1/me/deprecations`: what the caller's credential uses that will go."""

from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.requests import Request

from crm_api.domains.deprecation.use import USES, used
from crm_api.kernel.context import Context
from crm_api.kernel.headers import query
from crm_api.kernel.schema import Instant
from crm_api.kernel.spec_deprecation import deprecations
from crm_api.kernel.unit_of_work import open_context

router = APIRouter()
_MOST = 2**53 - 1


class DeprecationInUse(BaseModel):
    """Something of the contract that will go, and that the credential used."""

    name: Annotated[
        str,
        Field(
            max_length=200,
            description="An operation id, `{operation}?{parameter}`, or `{Schema}.{field}` of a body.",
            examples=["list_accounts?domain"],
        ),
    ]
    since: Annotated[date, Field(description="Deprecated since.")]
    sunset: Annotated[date | None, Field(description="It may be gone from this day on; null: no day is set.")]
    instead: Annotated[str, Field(max_length=500, description="What to use.")]
    uses: Annotated[int, Field(ge=1, le=_MOST, description="Requests so far.")]
    last_used_at: Instant


class DeprecationOverview(BaseModel):
    """What the caller's credential used of what will go, the latest use first; other processes tell within a minute."""

    object: Literal["deprecations"]
    data: Annotated[list[DeprecationInUse], Field(max_length=1000)]


async def _caller(request: Request) -> Context:
    query(request, ())
    return await open_context(request)


@router.get(
    "/v1/me/deprecations",
    operation_id="list_my_deprecations",
    summary="What the caller's credential uses that will go",
    responses={422: {}},
)
async def mine(ctx: Annotated[Context, Depends(_caller)]) -> DeprecationOverview:
    """Deprecated operations, parameters and fields that requests with this credential used; empty is good."""
    await USES.flush(ctx.kernel.database)
    declared = deprecations(ctx.kernel.catalog)
    rows = [row for row in await used(ctx.kernel.database, ctx.principal) if row["name"] in declared]
    found = [
        DeprecationInUse(
            name=row["name"],
            since=declared[row["name"]].since,
            sunset=declared[row["name"]].sunset,
            instead=declared[row["name"]].instead,
            uses=row["uses"],
            last_used_at=row["last_used_at"],
        )
        for row in rows
    ]
    return DeprecationOverview(
        object="deprecations", data=sorted(found, key=lambda item: item.last_used_at, reverse=True)
    )
