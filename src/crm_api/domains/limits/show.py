"""`GET /v1/limits`: the caller's policies with what is left of them, and the limits that nobody changes."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.requests import Request

from crm_api import settings
from crm_api.domains.limits.fixed import fixed
from crm_api.domains.limits.limiter import Gate
from crm_api.domains.limits.rate import Meter
from crm_api.kernel.context import Context
from crm_api.kernel.headers import query
from crm_api.kernel.unit_of_work import open_context

router = APIRouter()
_MOST = 2**53 - 1
_Count = Annotated[int, Field(ge=0, le=_MOST)]


class LimitPolicy(BaseModel):
    """A quota and what is left of it, as in the headers `RateLimit-Policy` and `RateLimit`."""

    name: Literal["credential", "tenant", "in_flight"]
    unit: Literal["requests", "concurrent-requests"]
    quota: Annotated[int, Field(ge=1, le=_MOST, description="Most at once.")]
    window: Annotated[
        int | None,
        Field(ge=1, le=60, description="Seconds in which all of the quota comes back, evenly. Null: with the answer."),
    ]
    remaining: _Count
    more_in: Annotated[int | None, Field(ge=0, le=120, description="Seconds until more is there; 0 when all of it is.")]


class FixedLimit(BaseModel):
    """A limit that is the same for everybody."""

    name: Annotated[str, Field(max_length=63)]
    most: _Count
    description: Annotated[str, Field(max_length=200)]


class LimitOverview(BaseModel):
    """What the caller may ask for."""

    object: Literal["limits"]
    policies: Annotated[list[LimitPolicy], Field(max_length=10)]
    fixed: Annotated[list[FixedLimit], Field(max_length=200)]


async def _caller(request: Request) -> Context:
    query(request, ())
    return await open_context(request)


@router.get("/v1/limits", operation_id="get_limits", summary="What the caller may ask for, and what is left of it")
async def get_limits(ctx: Annotated[Context, Depends(_caller)]) -> LimitOverview:
    """The rates of the credential and its tenant, requests at once, and the fixed limits of sizes and numbers."""
    gate = ctx.kernel.limiter
    assert isinstance(gate, Gate)  # noqa: S101 - narrows the type
    caller, now = gate.caller(ctx.principal), gate.clock()
    policies = [_rate("credential", caller.own, now), _rate("tenant", caller.tenant, now)]
    policies.append(
        LimitPolicy(
            name="in_flight",
            unit="concurrent-requests",
            quota=caller.most,
            window=None,
            remaining=caller.most - caller.in_flight,
            more_in=None,
        )
    )
    found = fixed(settings.load_settings())
    known = [FixedLimit(name=name, most=most, description=what) for name, (most, what) in found.items()]
    return LimitOverview(object="limits", policies=policies, fixed=known)


def _rate(name: Literal["credential", "tenant"], meter: Meter, now: float) -> LimitPolicy:
    left, more = meter.standing(now)
    return LimitPolicy(name=name, unit="requests", quota=meter.quota, window=meter.window, remaining=left, more_in=more)
