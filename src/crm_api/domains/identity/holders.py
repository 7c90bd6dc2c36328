"""`GET /v1/access/who`: everybody who may do something with a record, and why each of them may."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from crm_api.domains.identity.grants import expand
from crm_api.domains.identity.me import Current, administers_access
from crm_api.domains.identity.principal import PRINCIPALS
from crm_api.domains.identity.role import ROLES
from crm_api.kernel.collective_rows import next_ids
from crm_api.kernel.context import Context, Principal, settled
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.external import own_id
from crm_api.kernel.filters import Group
from crm_api.kernel.paging import encode, opened
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import Problem, invalid_parameter, not_found
from crm_api.kernel.query import framed
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Code, Id, Name, Ref
from crm_api.kernel.sharing import ShareView, is_for, share_actions

router = APIRouter()
MOST_SEEN = 200
"""Principals that are looked at for one page."""
_COLUMN = {"own": "owner_id", "subordinates": "owner_id", "team": "team_id", "territory": "territory_id"}


class RoleGranting(BaseModel):
    """A role that grants the permission."""

    id: Id
    name: Name


class GrantedVia(BaseModel):
    """The record that a grant goes by."""

    object: Code
    id: Id


class AccessGrant(BaseModel):
    """One rule that lets a principal act on the record."""

    rule: Annotated[str, Field(max_length=60, description="As `/v1/access/explain` calls it.")]
    roles: Annotated[
        list[RoleGranting],
        Field(max_length=1000, description="Through which the rule holds; none when the default alone grants."),
    ]
    via: Annotated[
        GrantedVia | None,
        Field(
            description="The owner, team or territory that the reach is over, or the record that this one is part of."
        ),
    ]
    shares: Annotated[list[ShareView], Field(max_length=200, description="With rule `share`: which ones.")]


class AccessHolder(BaseModel):
    """Somebody who may do it."""

    principal_id: Id
    kind: Literal["user", "service"]
    name: Name
    grants: Annotated[list[AccessGrant], Field(max_length=50)]


class AccessHolders(BaseModel):
    """Those of the principals looked at who may do it; a page may have none and still not be the last."""

    object: Literal["access_holders"]
    object_type: Code
    object_id: Id
    action: Annotated[str, Field(max_length=63)]
    data: Annotated[list[AccessHolder], Field(max_length=MOST_SEEN)]
    has_more: bool
    next_cursor: Annotated[str | None, Field(max_length=2000)]


@router.get(
    "/v1/access/who",
    operation_id="list_access_holders",
    summary="Everybody who may do something with a record, and why",
    responses={403: {}, 404: {}},
)
async def who(
    ctx: Current,
    object_type: Annotated[str, Query(max_length=63, description="As events call it, e.g. `account`.")],
    object_id: Annotated[Ref, Query(description="The record.")],
    action: Annotated[str, Query(max_length=63, description="What would be done, e.g. `update`.")] = "read",
    limit: Annotated[int, Query(ge=1, le=MOST_SEEN, description="Principals to look at.")] = 50,
    cursor: Annotated[str | None, Query(max_length=2000, description="From `next_cursor` of the page before.")] = None,
) -> AccessHolders:
    """Told to who may read all roles, of records that they see; of active principals that they see, by id."""
    resource = ctx.kernel.catalog.by_type.get(object_type)
    if resource is None or action not in resource.permitted_actions or action == "create":
        name = "object_type" if resource is None else "action"
        raise invalid_parameter(name, "invalid_value", "There is no such thing to be done with a record.")
    administers_access(ctx)
    ctx.access.through(resource)
    id_ = str(await own_id(ctx, resource, object_id))
    item = await find(ctx, resource, id_)
    if item is None:
        raise not_found(resource.singular)
    binding = f"who {ctx.principal.tenant_id} {ctx.principal.id} {resource.plural} {id_} {action}".encode()
    after = opened(ctx.kernel.cursor_keys, binding, cursor)[0] if cursor else None
    ids = await next_ids(ctx, PRINCIPALS, Group("and"), {}, after, limit + 1)
    asked = _Asked(resource, id_, action, item, await _roles(ctx), await _shares(ctx, resource, id_))
    held = [await asked.holder(ctx, UUID(each)) for each in ids[:limit]]
    more = len(ids) > limit
    return AccessHolders(
        object="access_holders",
        object_type=object_type,
        object_id=id_,
        action=action,
        data=[one for one in held if one is not None],
        has_more=more,
        next_cursor=encode(ctx.kernel.cursor_keys, binding, [ids[limit - 1]]) if more else None,
    )


async def _roles(ctx: Context) -> Mapping[str, Any]:
    """Permissions and name of each role, by id."""
    table = ROLES.table

    def build() -> Statement:
        columns = (sa.cast(table.c.id, sa.Text()).label("id"), table.c.name, table.c.permissions)
        gate = ctx.kernel.policy.gate(ctx.access, ROLES, "read", table)
        return framed(sa.select(*columns).where(*gate).lateral("page"))

    _, rows = await settled(ctx, ("roles that grant",), build, {})
    return {row["id"]: (row["name"], orjson.loads(row["permissions"])) for row in rows if row["id"] is not None}


async def _shares(ctx: Context, resource: Resource, id_: str) -> list[dict[str, Any]]:
    """The shares of a record, those that have just expired too."""
    (listing,) = (action for action in share_actions() if action.verb == "shares")
    found: list[dict[str, Any]] = (await listing.run(ctx, resource, {"id": id_}, None))["data"]
    return found


class _Asked:
    """One record and action, asked of each principal."""

    def __init__(
        self,
        resource: Resource,
        id_: str,
        action: str,
        item: Mapping[str, Any],
        roles: Mapping[str, Any],
        shares: list[dict[str, Any]],
    ) -> None:
        self._resource, self._id, self._action, self._item, self._shares = resource, id_, action, item, shares
        self._roles = roles

    async def holder(self, ctx: Context, principal: UUID) -> AccessHolder | None:
        """Somebody with all that lets them do it; None when nothing does."""
        identity = Principal(ctx.principal.tenant_id, principal, "user")
        try:
            access = await ctx.kernel.authenticator.access(identity, at_least=ctx.access.version)
        except Problem:  # not active: they cannot sign in
            return None
        if not access.may(self._resource.plural, self._action):
            return None
        key = ("holder", self._resource.plural, self._action, access.shape)
        statement = ctx.kernel.statement(key, partial(self._compile, ctx, access))
        rows = await ctx.read(statement, {**access.values, "id": self._id})
        if not rows or not rows[0]["allowed"]:
            return None
        rules = [str(name).removeprefix("rule ") for name, holds in rows[0].items() if holds and name != "allowed"]
        return AccessHolder(
            principal_id=str(principal),
            kind="user" if access.kind == "user" else "service",
            name=access.name,
            grants=[self._grant(ctx, access, rule) for rule in rules],
        )

    def _compile(self, ctx: Context, access: Access) -> Statement:
        """Whether the gate is open for the record, and each rule by itself."""
        resource, action, policy, table = self._resource, self._action, ctx.kernel.policy, self._resource.table
        rules = [
            (sa.true() if condition is None else condition).label(f"rule {name}")
            for name, condition in policy.rules(access, resource, action, table)
        ]
        gate = policy.gate(access, resource, action, table)
        row = sa.select(sa.and_(*gate).label("allowed"), *rules)
        return Statement(row.where(table.c.tenant_id == TENANT, table.c.id == sa.bindparam("id", type_=sa.Uuid())))

    def _grant(self, ctx: Context, access: Access, rule: str) -> AccessGrant:
        reach = rule.removeprefix("reach:") if rule.startswith("reach:") else None
        return AccessGrant(
            rule=rule,
            roles=self._granting(ctx, access, reach),
            via=self._via(ctx, rule, reach),
            shares=[
                ShareView(**share)
                for share in (self._shares if rule == "share" else ())
                if is_for(access, share["grantee_type"], share["grantee_id"])
                and (self._action == "read" or share["level"] == "write")
            ],
        )

    def _granting(self, ctx: Context, access: Access, reach: str | None) -> list[RoleGranting]:
        wanted = (self._resource.plural, self._action)
        return [
            RoleGranting(id=id_, name=name)
            for id_, (name, permissions) in sorted(self._roles.items())
            if id_ in access.role_ids
            and any(
                reach in (None, grant["reach"]) and wanted in expand(ctx.kernel.catalog, grant["permission"])
                for grant in permissions
            )
        ]

    def _via(self, ctx: Context, rule: str, reach: str | None) -> GrantedVia | None:
        if reach is not None:
            column = self._resource.owner.key if reach in ("own", "subordinates") and self._resource.owner else None
            column = column or _COLUMN.get(reach)
        else:
            column = next((each.column for each in self._resource.rows if each.name == rule), None)
        if column is None or self._item.get(column) is None:
            return None
        target = PRINCIPALS if column == "id" else ctx.kernel.catalog.target(self._resource, column)
        return None if target is None else GrantedVia(object=target.singular, id=self._item[column])
