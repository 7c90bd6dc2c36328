"""`GET /v1/me/capabilities`: what this very token may do, for a frontend that shows what can be pressed."""

import hashlib
from functools import cache
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from crm_api import settings
from crm_api.domains.identity.me import Current, missing
from crm_api.domains.limits.fixed import fixed
from crm_api.domains.limits.limiter import Gate
from crm_api.kernel.collective import collective_operations
from crm_api.kernel.context import Context
from crm_api.kernel.domain import Catalog
from crm_api.kernel.headers import header
from crm_api.kernel.resource import Resource
from crm_api.kernel.router import operations
from crm_api.kernel.spec_style import parameter

router = APIRouter()
_Word = Annotated[str, Field(max_length=130)]
_Fields = Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=200)]
_Most = Annotated[int, Field(ge=0, le=2**53 - 1)]


class ActionCapability(BaseModel):
    """Whether the token may do something at all, and to whose records; a record may still refuse it."""

    action: Annotated[_Word, Field(examples=["update"])]
    allowed: Annotated[bool, Field(description="False: each of the operations answers 403.")]
    missing: Annotated[
        _Word | None, Field(description="As `permission` of that 403: a permission, or `scope …` of the token.")
    ]
    reach: Annotated[
        list[Annotated[str, Field(max_length=20)]],
        Field(max_length=5, description="Whose records; empty and allowed: those that a default or a share opens."),
    ]
    operations: Annotated[
        list[_Word], Field(max_length=200, description="`operationId` of what needs it; one may stand at two actions.")
    ]


class ResourceCapabilities(BaseModel):
    """What the token may do with the records of one resource."""

    resource: Annotated[_Word, Field(examples=["accounts"])]
    actions: Annotated[list[ActionCapability], Field(max_length=100)]
    hidden_fields: Annotated[_Fields, Field(description="Sent as null and named in `redacted`; refused in filters.")]
    read_only_fields: Annotated[_Fields, Field(description="Refused in bodies; those that are hidden, too.")]


class CapabilityLimits(BaseModel):
    """How much it may ask. What is left of it is in `/v1/limits`."""

    requests_per_second: Annotated[dict[str, _Most], Field(description="By `credential` and `tenant`.")]
    requests_in_flight: _Most
    fixed: Annotated[dict[str, _Most], Field(description="By name, as in `/v1/limits`.")]


class Capabilities(BaseModel):
    """What a token may do: its scopes and the permissions of who it acts as, together."""

    object: Literal["capabilities"]
    resources: Annotated[list[ResourceCapabilities], Field(max_length=500)]
    limits: CapabilityLimits


@router.get(
    "/v1/me/capabilities",
    operation_id="get_my_capabilities",
    summary="What the caller's token may do, by resource and action",
    responses={200: {"headers": {"ETag": {}}}, 304: {"description": "It is as it was.", "headers": {"ETag": {}}}},
    response_model=Capabilities,
    openapi_extra={"parameters": [parameter("If-None-Match", "An ETag.", place="header", minLength=0, maxLength=8192)]},
)
async def mine(request: Request, ctx: Current) -> Response:
    """Each action of each resource with what it takes, and the limits. It has an ETag: `If-None-Match` answers 304."""
    resources = [_resource(ctx, resource) for resource in ctx.kernel.catalog.resources.values()]
    body = Capabilities(object="capabilities", resources=resources, limits=_limits(ctx)).model_dump_json().encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if tag in (header(request, b"if-none-match") or ""):
        return Response(None, 304, headers)
    return Response(body, media_type="application/json", headers=headers)


def _resource(ctx: Context, resource: Resource) -> ResourceCapabilities:
    needs = needed(ctx.kernel.catalog)[resource.plural]
    return ResourceCapabilities(
        resource=resource.plural,
        actions=[_action(ctx, resource, action, needs.get(action, [])) for action in resource.permitted_actions],
        hidden_fields=sorted(ctx.access.hides(resource.plural)),
        read_only_fields=sorted(ctx.access.read_only.get(resource.plural, ())),
    )


def _action(ctx: Context, resource: Resource, action: str, names: list[str]) -> ActionCapability:
    lacking = missing(ctx, resource, action)
    reach = [] if lacking else sorted(ctx.access.reach.get((resource.plural, action), ()))
    return ActionCapability(action=action, allowed=lacking is None, missing=lacking, reach=reach, operations=names)


@cache
def needed(catalog: Catalog) -> dict[str, dict[str, list[str]]]:
    """Resource -> action -> the operations that need it. A PUT needs either of two; a batch what its items need."""
    found: dict[str, dict[str, list[str]]] = {name: {} for name in catalog.resources}
    derived = [operation for resource in catalog.resources.values() for operation in operations(resource)]
    for operation in [*derived, *collective_operations(catalog)]:
        action = operation.permission.partition(":")[2]
        for each in ("create", "update") if operation.kind == "upsert" else (action,) if action else ():
            found[operation.resource.plural].setdefault(each, []).append(operation.operation_id)
    return found


def _limits(ctx: Context) -> CapabilityLimits:
    gate = ctx.kernel.limiter
    assert isinstance(gate, Gate)  # noqa: S101 - narrows the type
    caller = gate.caller(ctx.principal)
    meters = {"credential": caller.own, "tenant": caller.tenant}
    return CapabilityLimits(
        requests_per_second={name: meter.quota // meter.window for name, meter in meters.items()},
        requests_in_flight=caller.most,
        fixed={name: most for name, (most, _) in fixed(settings.load_settings()).items()},
    )
