"""Roles: permissions with a reach, and field rules; who has which; organisation-wide defaults."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped

from crm_api.domains.identity.delegation import open_to_all, parsed, pass_on, pass_on_role, speak_for
from crm_api.domains.identity.grants import expand
from crm_api.kernel.context import Context
from crm_api.kernel.customs import PREFIX, FieldName, fields_of
from crm_api.kernel.database import TENANT, Statement, bound
from crm_api.kernel.problems import invalid, meant
from crm_api.kernel.record import Entity, one_of, reference, sortable, table_of, unique
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Code, Id, Input, Line, Name, Output, Ref, Wire


class Role(Entity):
    """What its holders may do, and on which rows."""

    __tablename__ = "roles"
    __table_args__ = (
        unique("uq_roles_name", "name_key"),
        *sortable("roles", "created_at"),
    )

    name: Mapped[str]
    name_key: Mapped[str]
    description: Mapped[str | None]
    permissions: Mapped[list[Any]]
    field_rules: Mapped[list[Any]]
    default_role: Mapped[str | None]
    default_grants: Mapped[list[Any]] = sa.orm.mapped_column(server_default="[]")


class Grant(Wire):
    """One permission and how far it reaches; `*` stands for every resource or every action."""

    permission: Annotated[
        str, Field(pattern=r"^(\*|[a-z_]+):(\*|[a-z_]+)$", max_length=130, examples=["accounts:read"])
    ]
    reach: Literal["own", "subordinates", "team", "territory", "all"]


class FieldRule(Wire):
    """Hides a field from holders of the role, or makes it read-only."""

    resource: Code
    field: Annotated[FieldName, Field(examples=["credit_limit"])]
    rule: Literal["hidden", "read_only"]


class RoleCreate(Input):
    """What its holders may do, and on which rows."""

    id: Id | None = None
    name: Name
    description: Line | None = None
    permissions: Annotated[list[Grant], Field(max_length=1000)] = []
    field_rules: Annotated[list[FieldRule], Field(max_length=1000)] = []


class RoleView(Output):
    """What its holders may do, and on which rows."""

    object: Literal["role"]
    name: Name
    description: Line | None
    permissions: Annotated[list[Grant], Field(max_length=1000)]
    field_rules: Annotated[list[FieldRule], Field(max_length=1000)]
    default_role: Annotated[
        Name | None, Field(description="The default role it was made from, and gets what new versions add to that.")
    ]


async def _known(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """422 for a permission or field that does not exist: a typing error must not pass as a rule."""
    del resource, before
    catalog = ctx.kernel.catalog
    for i, grant in enumerate(parsed(values.get("permissions"))):
        if not [*expand(catalog, grant["permission"])]:
            detail = f"There is no such permission.{meant(grant['permission'], catalog.permissions)}"
            raise invalid(f"/permissions/{i}/permission", "unknown_permission", detail)
    for i, rule in enumerate(parsed(values.get("field_rules"))):
        target = catalog.resources.get(rule["resource"])
        if target is None:
            raise invalid(f"/field_rules/{i}/resource", "unknown_resource", "There is no such resource.")
        if rule["field"].startswith(PREFIX):
            known = rule["field"].removeprefix(PREFIX) in fields_of(ctx.access, target)
        else:
            known = rule["field"] in target.hideable or (
                rule["rule"] == "read_only" and rule["field"] in target.output.model_fields
            )
        if not known:
            raise invalid(f"/field_rules/{i}/field", "unknown_field", "There is no such field, or it cannot be hidden.")


async def _within(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 for a role that gives more than the caller holds."""
    del resource
    whole = {**(before or {}), **values}
    pass_on(ctx, parsed(whole.get("permissions")), parsed(whole.get("field_rules")))


class RoleAssignment(Entity):
    """A principal's hold of a role."""

    __tablename__ = "role_assignments"
    __table_args__ = (
        reference("role_id", "roles"),
        reference("principal_id", "principals"),
        unique("uq_role_assignments_principal_id", "principal_id", "role_id"),
        *sortable("role_assignments", "role_id"),
    )

    role_id: Mapped[UUID]
    principal_id: Mapped[UUID]


class RoleAssignmentCreate(Input):
    """Gives a principal a role."""

    id: Id | None = None
    role_id: Ref
    principal_id: Ref


class RoleAssignmentView(Output):
    """A principal's hold of a role."""

    object: Literal["role_assignment"]
    role_id: Id
    principal_id: Id


class AccessDefault(Entity):
    """What everyone in the organisation may do with a resource, beside what roles reach."""

    __tablename__ = "access_defaults"
    __table_args__ = (
        one_of("level", ("private", "read", "write")),
        unique("uq_access_defaults_resource", "resource"),
    )

    resource: Mapped[str]
    level: Mapped[str]


class AccessDefaultCreate(Input):
    """The default of one resource; `private` leaves it to reach and shares."""

    id: Id | None = None
    resource: Annotated[Code, Field(examples=["accounts"])]
    level: Literal["private", "read", "write"]


class AccessDefaultView(Output):
    """The default of one resource."""

    object: Literal["access_default"]
    resource: Code
    level: Literal["private", "read", "write"]


async def _resource(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    del resource, before
    if "resource" in values and values["resource"] not in ctx.kernel.catalog.resources:
        raise invalid("/resource", "unknown_resource", "There is no such resource.")


KNOWN_RESOURCE = Check(frozenset({"resource"}), _resource)
"""For settings of one resource."""


async def _assignable(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 for a role that gives more than the caller holds."""
    del resource, before
    await pass_on_role(ctx, _ROLE, {"id": values["role_id"]})


async def act_as(ctx: Context, principal_id: UUID, *, as_reader: bool = False) -> None:
    """403 for a credential of another principal whose roles give more than the caller holds.

    With `as_reader`, who is to read what that principal may read sees all rows of it: the same reach opens other rows.
    """
    if principal_id != ctx.principal.id:
        rows = await ctx.fetch(ROLES_OF, {"principals": bound([principal_id])})
        roles = [{name: parsed(row[name]) for name in ("permissions", "field_rules")} for row in rows]
        for role in roles:
            whole = [
                {"permission": f"{plural}:read", "reach": "all"}
                for grant in (role["permissions"] if as_reader else ())
                for plural, action in expand(ctx.kernel.catalog, grant["permission"])
                if action == "read"
            ]
            pass_on(ctx, [*role["permissions"], *whole], role["field_rules"], scoped=False)
        speak_for(ctx, roles)


_ROLES, _HOLDS = table_of(Role), table_of(RoleAssignment)
_GIVEN = sa.select(_ROLES.c.permissions, _ROLES.c.field_rules).where(
    _ROLES.c.tenant_id == TENANT, _ROLES.c.deleted_at.is_(None)
)
_ROLE = Statement(_GIVEN.where(_ROLES.c.id == sa.bindparam("id", type_=sa.Uuid())))


def roles_of(principals: sa.Select[Any]) -> Statement:
    """Permissions and field rules of each role that any of these principals holds."""
    held = sa.select(_HOLDS.c.role_id).where(
        _HOLDS.c.tenant_id == TENANT, _HOLDS.c.principal_id.in_(principals), _HOLDS.c.deleted_at.is_(None)
    )
    return Statement(_GIVEN.where(_ROLES.c.id.in_(held)))


ROLES_OF = roles_of(sa.select(sa.func.unnest(sa.bindparam("principals", type_=ARRAY(sa.Uuid())))))


async def _for_all(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 for a default that opens more than the caller holds."""
    del resource
    whole = {**(before or {}), **values}
    open_to_all(ctx, whole["resource"], whole["level"])


async def _without(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 for taking a default away where the one of the product, which then holds, opens what the caller lacks."""
    del resource, values
    if before is not None and (declared := ctx.kernel.catalog.resources.get(before["resource"])) is not None:
        open_to_all(ctx, declared.plural, declared.default_access or "private")


def _given(past: str, changed: frozenset[str], row: Mapping[str, Any], me: str) -> bool:
    """A new role gives nobody anything yet; a changed one does if what it grants or hides changed."""
    del row, me
    return past in ("deleted", "restored") or not changed.isdisjoint({"permissions", "field_rules"})


ROLES = Resource(
    singular="role",
    plural="roles",
    model=Role,
    output=RoleView,
    create=RoleCreate,
    keys={"name": Role.name_key},
    filters=(Role.name,),
    sorts=(Role.name, Role.created_at),
    checks=(
        Check(frozenset({"permissions", "field_rules"}), _known),
        Check(frozenset({"permissions", "field_rules"}), _within),
    ),
    access_fields=frozenset({"permissions", "field_rules"}),
    rights=_given,
)
ROLE_ASSIGNMENTS = Resource(
    singular="role_assignment",
    plural="role_assignments",
    model=RoleAssignment,
    output=RoleAssignmentView,
    title="id",
    create=RoleAssignmentCreate,
    filters=(RoleAssignment.role_id, RoleAssignment.principal_id),
    checks=(Check(frozenset({"role_id"}), _assignable),),
    operations=frozenset({"get", "list", "create", "delete"}),
    access_fields=frozenset({"role_id", "principal_id"}),
    rights=lambda _past, _changed, row, me: bool(row["principal_id"] == me),
)
ACCESS_DEFAULTS = Resource(
    singular="access_default",
    plural="access_defaults",
    model=AccessDefault,
    output=AccessDefaultView,
    title="resource",
    create=AccessDefaultCreate,
    filters=(AccessDefault.resource,),
    checks=(KNOWN_RESOURCE, Check(frozenset({"resource", "level"}), _for_all)),
    deletable=_without,
    operations=frozenset({"get", "list", "create", "update", "delete"}),
    access_fields=frozenset({"resource", "level"}),
    rights=lambda _past, _changed, _row, _me: True,
)
