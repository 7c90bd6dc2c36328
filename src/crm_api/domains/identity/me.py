"""`/v1/me` and `/v1/access/explain`: who am I, and why may or may not someone do something."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from starlette.requests import Request

from crm_api.kernel.context import Context, Principal
from crm_api.kernel.customs import LONGEST_NAME, MOST_FIELDS
from crm_api.kernel.external import own_id
from crm_api.kernel.headers import query
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import Problem, forbidden, invalid_parameter, meant, not_found
from crm_api.kernel.repository import find, holds
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Ref
from crm_api.kernel.unit_of_work import open_context

router = APIRouter()
_Name = Annotated[str, Field(max_length=200)]
_Fields = Annotated[list[Annotated[str, Field(max_length=LONGEST_NAME)]], Field(max_length=200 + MOST_FIELDS)]


class EffectivePermission(BaseModel):
    """What the caller may do, and how far it reaches; an empty reach means the organisation-wide default only."""

    permission: Annotated[str, Field(max_length=130)]
    reach: Annotated[list[Annotated[str, Field(max_length=20)]], Field(max_length=5)]


class Me(BaseModel):
    """The caller."""

    id: Id
    object: Literal["me"]
    tenant_id: Id
    kind: Literal["user", "service"]
    name: _Name
    credential_id: Id
    roles: Annotated[list[_Name], Field(max_length=1000)]
    role_ids: Annotated[list[Id], Field(max_length=1000, description="Of the roles, for filters by role.")]
    scopes: Annotated[
        list[Annotated[str, Field(max_length=80)]] | None,
        Field(max_length=100, description="Null: the credential bounds nothing."),
    ]
    permissions: Annotated[
        list[EffectivePermission], Field(max_length=5000, description="Of the roles, within the scopes.")
    ]
    hidden_fields: Annotated[dict[str, _Fields], Field(description="By resource.")]
    read_only_fields: Annotated[dict[str, _Fields], Field(description="By resource.")]


class Rule(BaseModel):
    """One rule that was asked, and its answer."""

    rule: Annotated[str, Field(max_length=60)]
    grants: bool
    detail: Annotated[str, Field(max_length=500)]


class Explanation(BaseModel):
    """Whether a principal may do something with a record, and by which rules."""

    object: Literal["access_explanation"]
    principal_id: Id
    resource: Annotated[str, Field(max_length=63)]
    record_id: Id
    action: Annotated[str, Field(max_length=63)]
    allowed: bool
    rules: Annotated[list[Rule], Field(max_length=50)]


async def current(request: Request, ctx: Annotated[Context, Depends(open_context)]) -> Context:
    """A context whose rights were read just now; refuses parameters that the route does not declare."""
    query(request, {parameter.alias for parameter in request.scope["route"].dependant.query_params})
    ctx.access = await ctx.kernel.authenticator.access(ctx.principal, at_least=ctx.access.version + 1)
    return ctx


def administers_access(ctx: Context) -> None:
    """403 unless the caller may read all roles, and so may know what others may do."""
    ctx.access.through(ctx.kernel.catalog.resources["roles"])
    if "all" not in ctx.access.reach.get(("roles", "read"), ()):
        raise forbidden("roles:read over all")


Current = Annotated[Context, Depends(current)]


def missing(ctx: Context, resource: Resource, action: str) -> str | None:
    """The permission, or the scope of the credential, that an action takes and the caller lacks."""
    try:
        ctx.require(resource, action)
    except Problem as problem:
        return str(problem.extra["permission"])
    return None


@router.get("/v1/me", operation_id="get_me", summary="Who the caller is and what they may do")
async def me(ctx: Current) -> Me:
    """The caller, their roles, scopes and effective permissions: what a role grants and the scopes allow."""
    access = ctx.access
    return Me(
        object="me",
        id=str(ctx.principal.id),
        tenant_id=str(ctx.principal.tenant_id),
        kind="user" if ctx.principal.kind == "user" else "service",
        name=access.name,
        credential_id=str(ctx.principal.credential_id),
        roles=sorted(access.roles),
        role_ids=sorted(access.role_ids),
        scopes=None if ctx.principal.scopes is None else sorted(ctx.principal.scopes),
        permissions=[
            EffectivePermission(permission=f"{name}:{action}", reach=sorted(reach))
            for (name, action), reach in sorted(access.reach.items())
            if missing(ctx, ctx.kernel.catalog.resources[name], action) is None
        ],
        hidden_fields={name: sorted(fields) for name, fields in access.hidden.items()},
        read_only_fields={name: sorted(fields) for name, fields in access.read_only.items()},
    )


@router.get(
    "/v1/access/explain",
    operation_id="explain_access",
    summary="Every rule that grants or denies an action on a record",
    responses={403: {}, 404: {}},
)
async def explain(
    ctx: Current,
    resource: Annotated[str, Query(max_length=63, description="Plural name, e.g. `accounts`.")],
    id: Annotated[Ref, Query(description="The record.")],  # noqa: A002 - the contract's name
    action: Annotated[str, Query(max_length=63, description="What would be done, e.g. `update`.")] = "read",
    principal: Annotated[
        Ref | None, Query(description="Whose access; default: the caller. Others need roles:read over all.")
    ] = None,
) -> Explanation:
    """The answer for someone else is given to those who may read roles, and for records the caller may see."""
    declared = ctx.kernel.catalog.resources.get(resource)
    if declared is None:
        detail = f"There is no such resource.{meant(resource, ctx.kernel.catalog.resources)}"
        raise invalid_parameter("resource", "invalid_value", detail)
    if action not in declared.permitted_actions:
        detail = f"An action on {resource} is one of {', '.join(sorted(declared.permitted_actions))}."
        raise invalid_parameter("action", "invalid_value", detail)
    access = ctx.access
    access.through(declared)
    principals = ctx.kernel.catalog.resources["principals"]
    id = str(await own_id(ctx, declared, id))  # noqa: A001 - the contract's name
    principal = None if principal is None else str(await own_id(ctx, principals, principal))
    if principal is not None and principal != str(ctx.principal.id):
        administers_access(ctx)
        if await find(ctx, declared, id) is None:
            raise not_found(declared.singular)
        identity = Principal(ctx.principal.tenant_id, UUID(principal), "user")
        try:
            access = await ctx.kernel.authenticator.access(identity, at_least=ctx.access.version)
        except Problem:  # for a credential's own principal it is 401; here it is somebody who is not there
            raise not_found("active principal") from None
    elif await find(ctx, declared, id) is None:
        raise not_found(declared.singular)
    rules = await _rules(ctx, access, declared, id, action)
    permitted = access.may(declared.plural, action)
    if principal is None or principal == str(ctx.principal.id):
        rules.insert(0, _scope_rule(ctx, declared, action))
        permitted = permitted and rules[0].grants
    granted = any(rule.grants for rule in rules if rule.rule not in ("permission", "scope"))
    return Explanation(
        object="access_explanation",
        principal_id=str(access.principal_id),
        resource=resource,
        record_id=id,
        action=action,
        allowed=permitted and granted,
        rules=rules,
    )


def _scope_rule(ctx: Context, resource: Resource, action: str) -> Rule:
    scopes = ctx.principal.scopes
    needed = f"{resource.domain}:{ {'read': 'read', 'delete': 'delete'}.get(action, 'write') }"
    granted = scopes is None or needed in scopes or f"{resource.domain}:admin" in scopes
    return Rule(rule="scope", grants=granted, detail=f"The credential {'allows' if granted else 'lacks'} {needed}.")


async def _rules(ctx: Context, access: Access, resource: Resource, id_: str, action: str) -> list[Rule]:
    name = f"{resource.plural}:{action}"
    may = access.may(resource.plural, action)
    rules = [
        Rule(rule="permission", grants=may, detail=f"{'A role or default grants' if may else 'No role grants'} {name}.")
    ]
    for label, condition in ctx.kernel.policy.rules(access, resource, action, resource.table):
        granted = condition is None or await holds(ctx, resource, id_, condition, access.values)
        rules.append(
            Rule(
                rule=label,
                grants=granted,
                detail=f"{label} {'covers' if granted else 'does not cover'} this record for {name}.",
            )
        )
    return rules
