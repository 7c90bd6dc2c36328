"""`POST /v1/access/simulate`: what a change of rights would give and take away, before anything changes."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field, WithJsonSchema
from starlette.requests import Request

from crm_api.domains.identity.me import Current, EffectivePermission, administers_access
from crm_api.domains.identity.principal import PRINCIPALS, SERVICE_ACCOUNTS, USERS
from crm_api.domains.identity.role import ACCESS_DEFAULTS, ROLE_ASSIGNMENTS, ROLES
from crm_api.domains.identity.simulation import compare, fields_between, nothing, permissions_beyond, told
from crm_api.domains.identity.team import TEAM_MEMBERS, TEAMS
from crm_api.domains.identity.territory import TERRITORIES, TERRITORY_MEMBERS
from crm_api.kernel.batch import Entry, Step, perform
from crm_api.kernel.batch_requests import MAX_OPERATIONS, OperationFrame, steps_of
from crm_api.kernel.collective_rows import next_ids
from crm_api.kernel.context import Context, Principal
from crm_api.kernel.customs import FieldName
from crm_api.kernel.filters import Group
from crm_api.kernel.headers import parse, read_body
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import QUERY_TOO_BROAD, UNAUTHENTICATED, AccessMoved, Fault, Problem, invalid, wrong
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Code, Id, Wire
from crm_api.kernel.spec_routes import takes
from crm_api.kernel.unit_of_work import transact
from crm_api.kernel.writes import writes

router = APIRouter()
MOST_PRINCIPALS = 200
"""Principals that one simulation looks at."""
SECONDS = 10.0
"""How long it may count."""
CHARGE = 10
"""Requests that it counts for, beside itself."""
_DECIDING = (
    *(ROLES, ROLE_ASSIGNMENTS, ACCESS_DEFAULTS, USERS, SERVICE_ACCOUNTS),
    *(TEAMS, TEAM_MEMBERS, TERRITORIES, TERRITORY_MEMBERS),
)
_KINDS = ("create", "update", "delete", "restore")
KNOWN = {write.operation_id: write for resource in _DECIDING for write in writes(resource) if write.kind in _KINDS}
"""Writes that may be simulated: those that decide what principals may do, and have no effect beyond that."""
_FREE: dict[str, Any] = {"anyOf": [{"type": "string", "maxLength": 300}, {"type": "object"}]}


class SimulatedChange(OperationFrame):
    """One write, as an operation of `/v1/batch`: its id, and what is in its body, may refer to those before it."""

    operation: Annotated[str, Field(max_length=130, description=f"One of {', '.join(sorted(KNOWN))}.")]
    id: Annotated[Any, WithJsonSchema(_FREE)] = None
    if_match: Annotated[Any, WithJsonSchema({"type": "integer"})] = None


class SimulationRequest(Wire):
    """The change, and what is to be told of it."""

    operations: Annotated[list[SimulatedChange], Field(min_length=1, max_length=MAX_OPERATIONS)]
    principals: Annotated[
        list[Id] | None,
        Field(min_length=1, max_length=MOST_PRINCIPALS, description="Whom to look at; unless told, all in turn."),
    ] = None
    after: Annotated[Id | None, Field(description="Look at those after this one: `next_after` of the reply.")] = None
    resources: Annotated[
        list[Code] | None,
        Field(min_length=1, max_length=50, description="Of which records to count; unless told, all."),
    ] = None
    actions: Annotated[list[Code], Field(min_length=1, max_length=5, description="For which actions to count.")] = [
        "read"
    ]
    samples: Annotated[int, Field(ge=0, le=10, description="Records to show of each count.")] = 3


class SampleRecord(BaseModel):
    """A record that is gained or lost."""

    object: Code
    id: Id
    name: Annotated[str | None, Field(max_length=1000)]


class RecordCount(BaseModel):
    """How many records, of those that the caller may read; `gte` when there are more than were counted."""

    value: Annotated[int, Field(ge=0)]
    relation: Literal["eq", "gte"]
    samples: Annotated[list[SampleRecord], Field(max_length=10)]


class RecordChange(BaseModel):
    """Records of one resource that a principal may then do something with, and that he may not any more."""

    resource: Code
    action: Code
    gained: RecordCount
    lost: RecordCount


class FieldChange(BaseModel):
    """A field that opens or closes."""

    resource: Code
    field: Annotated[FieldName, Field(examples=["annual_revenue"])]
    before: Literal["open", "read_only", "hidden"]
    after: Literal["open", "read_only", "hidden"]


_Permissions = Annotated[list[EffectivePermission], Field(max_length=5000)]


class PrincipalChange(BaseModel):
    """What becomes of one principal."""

    principal_id: Id
    name: Annotated[str, Field(max_length=200)]
    permissions_gained: _Permissions
    permissions_lost: _Permissions
    fields: Annotated[list[FieldChange], Field(max_length=5000)]
    records: Annotated[list[RecordChange], Field(max_length=500)]


class Simulation(BaseModel):
    """What a change would do; nothing was changed."""

    object: Literal["access_simulation"]
    considered: Annotated[int, Field(ge=0, description="Principals that were looked at.")]
    data: Annotated[
        list[PrincipalChange], Field(max_length=2 * MOST_PRINCIPALS, description="Those whose rights would change.")
    ]
    has_more: bool
    next_after: Annotated[Id | None, Field(description="Send it as `after` to look at the next ones.")]


@router.post(
    "/v1/access/simulate",
    operation_id="simulate_access",
    summary="Who would gain and lose what by a change of rights",
    responses={403: {}, 404: {}, 409: {}, 412: {}, 413: {}, 415: {}, 422: {}, 428: {}},
)
@takes(
    SimulationRequest,
    operations=[
        {
            "operation": "update_user",
            "id": "019aa1d0-0000-7000-8000-000000000002",
            "body": {"manager_id": "019aa1d0-0000-7000-8000-000000000003"},
        }
    ],
)
async def simulate(request: Request, ctx: Current) -> Simulation:
    """Makes the change as `/v1/batch` would, reads the rights of each principal, and undoes it.

    Then it counts, under the rights of before and of after, the records of now.
    """
    administers_access(ctx)
    body = parse(await read_body(request), SimulationRequest)
    ctx.kernel.limiter.charge(ctx.principal, CHARGE)
    resources = _resources(ctx, body)
    steps = steps_of(KNOWN, body.operations)
    ids, more = await _principals(ctx, body)
    before, after = await _rights(ctx, steps, ids)
    until = time.monotonic() + SECONDS
    data = []
    for id_ in after:
        then, now = nothing(before.get(id_), id_), nothing(after[id_], id_)
        if told(then) != told(now):
            data.append(await _change(ctx, body, resources, then, now, until))
    return Simulation(
        object="access_simulation",
        considered=len(after),
        data=data,
        has_more=more,
        next_after=str(ids[-1]) if more else None,
    )


def _resources(ctx: Context, body: SimulationRequest) -> list[Resource]:
    known = ctx.kernel.catalog.resources
    faults = [
        Fault("unknown_resource", "There is no such resource.", pointer=f"/resources/{i}")
        for i, name in enumerate(body.resources or ())
        if name not in known
    ]
    actions = {action for resource in known.values() for action in resource.permitted_actions} - {"create"}
    faults += [
        Fault("unknown_action", "There is no such thing to be done with a record.", pointer=f"/actions/{i}")
        for i, name in enumerate(body.actions)
        if name not in actions
    ]
    if faults:
        raise wrong(faults)
    return [
        resource
        for name, resource in known.items()
        if name not in ctx.access.closed and name in (body.resources or known) and ctx.access.may(name, "read")
    ]


async def _principals(ctx: Context, body: SimulationRequest) -> tuple[list[UUID], bool]:
    if body.principals is not None:
        if body.after is not None:
            raise invalid("/after", "contradiction", "It goes through all; you name principals.")
        return sorted({UUID(id_) for id_ in body.principals}), False
    ids = await next_ids(ctx, PRINCIPALS, Group("and"), {}, body.after, MOST_PRINCIPALS + 1)
    return [UUID(id_) for id_ in ids[:MOST_PRINCIPALS]], len(ids) > MOST_PRINCIPALS


Rights = dict[UUID, Access | None]


async def _rights(ctx: Context, steps: Sequence[Step], ids: Sequence[UUID]) -> tuple[Rights, Rights]:
    """The rights of principals before and after a change, which is undone; those of new ones after it."""

    async def work(inner: Context) -> tuple[Rights, Rights]:
        before = await _read(inner, ids)
        for access in before.values():
            if access is not None and access.version != ctx.access.version:
                raise AccessMoved(access.version)
        entries = await perform(inner, steps)
        return before, await _read(inner, [*ids, *_new(entries)])

    found: tuple[Rights, Rights] = await transact(replace(ctx, dry_run=True, idempotency=None), work, patient=True)
    return found


def _new(entries: Sequence[Entry]) -> list[UUID]:
    people = (USERS, SERVICE_ACCOUNTS)
    return [UUID(entry.id) for entry in entries if entry.id and entry.status == 201 and entry.write.resource in people]


async def _read(ctx: Context, ids: Sequence[UUID]) -> Rights:
    """The rights of each, as the open transaction sees them; None for who cannot sign in."""
    found: Rights = {}
    for id_ in ids:
        try:
            principal = Principal(ctx.principal.tenant_id, id_, "user")
            found[id_] = await ctx.kernel.authenticator.access(principal, link=ctx.link)
        except Problem as problem:
            if problem.kind is not UNAUTHENTICATED:
                raise
            found[id_] = None
    return found


async def _change(
    ctx: Context, body: SimulationRequest, resources: Sequence[Resource], then: Access, now: Access, until: float
) -> PrincipalChange:
    records = []
    for resource in resources:
        for action in dict.fromkeys(body.actions):
            if action not in resource.permitted_actions:
                continue
            if time.monotonic() > until:
                raise Problem(QUERY_TOO_BROAD, "Counting takes too long; name `principals` or `resources`.")
            both = await compare(ctx, resource, action, then, now, body.samples)
            if both is not None:
                gained, lost = (RecordCount(**each) for each in both)
                records.append(RecordChange(resource=resource.plural, action=action, gained=gained, lost=lost))
    return PrincipalChange(
        principal_id=str(now.principal_id),
        name=now.name or then.name,
        permissions_gained=[EffectivePermission(**item) for item in permissions_beyond(now, then)],
        permissions_lost=[EffectivePermission(**item) for item in permissions_beyond(then, now)],
        fields=[FieldChange(**item) for item in fields_between(then, now)],
        records=records,
    )
