"""Who can act: users in a manager tree, and service accounts. One table, two resources."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped

from crm_api.domains.identity.delegation import open_rows
from crm_api.domains.identity.invite import INVITE, may_become
from crm_api.domains.identity.issue_key import ISSUE_KEY
from crm_api.domains.identity.leaving import left
from crm_api.domains.identity.role import ROLES_OF, act_as
from crm_api.domains.identity.team import MEMBERS_ROLES
from crm_api.kernel.context import Context
from crm_api.kernel.database import bound
from crm_api.kernel.joints import Build
from crm_api.kernel.problems import CONFLICT, Problem
from crm_api.kernel.record import Entity, one_of, reference, sortable, unique
from crm_api.kernel.resource import READS, Check, Resource
from crm_api.kernel.schema import Email, Id, Input, Instant, Language, Line, Name, Output, Ref
from crm_api.kernel.tree import acyclic, ancestors

ERASED_USER = "Erased user"
"""What a user is called whose data was erased: an actor that is known by its id alone."""


class Principal(Entity):
    """A user or a service account."""

    __tablename__ = "principals"
    __table_args__ = (
        one_of("kind", ("user", "service")),
        reference("manager_id", "principals"),
        reference("team_id", "teams"),
        unique("uq_principals_email", "email"),
        sa.CheckConstraint("erased_at IS NULL OR (email IS NULL AND NOT is_active)", name="erased"),
        *sortable("principals", "name_key", "created_at", "manager_id", "team_id"),
    )

    kind: Mapped[str]
    name: Mapped[str]
    name_key: Mapped[str]
    email: Mapped[str | None]
    title: Mapped[str | None]
    language: Mapped[str | None]
    time_zone: Mapped[str | None]
    manager_id: Mapped[UUID | None]
    team_id: Mapped[UUID | None]
    is_active: Mapped[bool] = sa.orm.mapped_column(server_default="true")
    erased_at: Mapped[datetime | None]
    description: Mapped[str | None]
    search_text: Mapped[str]


TimeZone = Annotated[
    str, Field(pattern=r"^[A-Za-z_+\-0-9]+(/[A-Za-z_+\-0-9]+){0,2}$", max_length=64, examples=["Europe/Berlin"])
]


class UserCreate(Input):
    """A person who works with the CRM."""

    id: Id | None = None
    name: Name
    email: Email
    title: Name | None = None
    language: Language | None = None
    time_zone: TimeZone | None = None
    manager_id: Annotated[Ref | None, Field(description="Sees what this user sees, with reach `subordinates`.")] = None
    team_id: Annotated[Ref | None, Field(description="Team that new records of this user belong to.")] = None
    is_active: bool = True


class User(Output):
    """A person who works with the CRM."""

    object: Literal["user"]
    name: Name
    email: Email | None
    title: Name | None
    language: Language | None
    time_zone: TimeZone | None
    manager_id: Id | None
    team_id: Id | None
    is_active: bool
    erased_at: Annotated[Instant | None, Field(description="When the personal data was erased; for good.")]


class ServiceAccountCreate(Input):
    """A program that works with the CRM."""

    id: Id | None = None
    name: Name
    description: Line | None = None
    manager_id: Ref | None = None
    team_id: Ref | None = None
    is_active: bool = True


class ServiceAccount(Output):
    """A program that works with the CRM."""

    object: Literal["service_account"]
    name: Name
    description: Line | None
    manager_id: Id | None
    team_id: Id | None
    is_active: bool


class PrincipalView(Output):
    """Anyone who can own or do something: a user or a service account."""

    object: Literal["principal"]
    kind: Literal["user", "service"]
    name: Name
    email: Email | None
    title: Name | None
    manager_id: Id | None
    team_id: Id | None
    is_active: bool


async def _managed(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 unless the caller holds what the new manager and those above get to see of the principal's tree."""
    above = set(await ancestors(ctx, resource, "manager_id", values["manager_id"]))
    if before is not None and before["manager_id"] is not None:
        above -= set(await ancestors(ctx, resource, "manager_id", before["manager_id"]))
    roles = await ctx.fetch(ROLES_OF, {"principals": bound(UUID(id_) for id_ in above)})
    open_rows(ctx, roles, "subordinates", _shown_by(ctx, values["manager_id"] if before is None else before["id"]))


async def _teamed(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 unless the caller holds what the members of the team get to see of the principal's new records."""
    del resource
    if before is None or str(before["team_id"]) != str(values["team_id"]).lower():
        roles = await ctx.fetch(MEMBERS_ROLES, {"team": values["team_id"]})
        open_rows(ctx, roles, "team", _shown_by(ctx, values.get("manager_id") if before is None else before["id"]))


def _shown_by(ctx: Context, id_: Any) -> str:
    """The reach that shows the caller what belongs to a principal, or to who is put below one."""
    return "subordinates" if id_ is not None and UUID(str(id_)) in ctx.access.subordinates else "all"


async def _back(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """403 for bringing back, from deletion or inactivity, a principal whose roles give more than the caller holds."""
    del resource
    if values.get("deleted_at") is not None or (before and values.get("is_active") and not before["is_active"]):
        await act_as(ctx, UUID(str((before or values)["id"])))


async def _addressed(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 for another e-mail address of somebody whom the caller may not invite: a link to it becomes the person.

    So a credential that is bounded or has scopes changes nobody's, not even that of its own person.
    """
    del resource
    if before is not None and values["email"] != before["email"]:
        await may_become(ctx, UUID(str(before["id"])))


async def _erased(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """Refuses to make somebody of an erased user: what this one did would be theirs then; nothing follows from it."""
    del ctx, resource, values
    if before is not None and before["erased_at"] is not None:
        raise Problem(CONFLICT, "The user is erased. Create another.")
    return {}


PRINCIPALS = Resource(
    singular="principal",
    plural="principals",
    model=Principal,
    output=PrincipalView,
    keys={"name": Principal.name_key},
    owner=Principal.id,
    default_access="read",
    operations=READS,
    filters=(Principal.kind, Principal.name, Principal.is_active),
    sorts=(Principal.name, Principal.created_at),
    search=("name", "email"),
)

_CHECKS = (
    Check(frozenset({"manager_id"}), acyclic("manager_id")),
    Check(frozenset({"manager_id"}), _managed),
    Check(frozenset({"team_id"}), _teamed),
    Check(frozenset({"is_active", "deleted_at"}), _back),
)
_SHARED: dict[str, Any] = {
    "model": Principal,
    "keys": {"name": Principal.name_key},
    "owner": Principal.id,
    "access_fields": frozenset({"manager_id", "team_id", "is_active"}),
    "rights": lambda _past, changed, _row, _me: "manager_id" in changed,
}
USERS = Resource(
    singular="user",
    plural="users",
    output=User,
    create=UserCreate,
    fixed={"kind": "user"},
    default_access="read",
    filters=(Principal.email, Principal.manager_id, Principal.team_id, Principal.is_active, Principal.name),
    sorts=(Principal.name, Principal.created_at),
    search=("name", "email"),
    actions=(ISSUE_KEY, INVITE),
    checks=(*_CHECKS, Check(frozenset({"is_active"}), left), Check(frozenset({"email"}), _addressed)),
    builds=(Build(frozenset(UserCreate.model_fields) - {"id"}, _erased),),
    deletable=left,
    notices=("erased",),
    personal={"name": ERASED_USER, **dict.fromkeys(("email", "title", "language", "time_zone"))},
    **_SHARED,
)
SERVICE_ACCOUNTS = Resource(
    singular="service_account",
    plural="service_accounts",
    output=ServiceAccount,
    create=ServiceAccountCreate,
    fixed={"kind": "service"},
    filters=(Principal.is_active, Principal.name),
    sorts=(Principal.name, Principal.created_at),
    search=("name", "email"),
    actions=(ISSUE_KEY,),
    checks=_CHECKS,
    **_SHARED,
)
