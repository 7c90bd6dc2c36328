"""Teams and who is in them."""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from crm_api.domains.identity.delegation import open_rows, opened_by_shares, shared_with
from crm_api.domains.identity.role import ROLES_OF, roles_of
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Row, bound
from crm_api.kernel.record import Entity, reference, sortable, table_of, unique
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Id, Input, Line, Name, Output, Ref


class Team(Entity):
    """A group of principals that may see each other's records."""

    __tablename__ = "teams"
    __table_args__ = (
        unique("uq_teams_name", "name_key"),
        *sortable("teams", "created_at"),
    )

    name: Mapped[str]
    name_key: Mapped[str]
    description: Mapped[str | None]


class TeamCreate(Input):
    """A group of principals that may see each other's records."""

    id: Id | None = None
    name: Name
    description: Line | None = None


class TeamView(Output):
    """A group of principals that may see each other's records."""

    object: Literal["team"]
    name: Name
    description: Line | None


class TeamMember(Entity):
    """A principal's membership of a team."""

    __tablename__ = "team_members"
    __table_args__ = (
        reference("team_id", "teams"),
        reference("principal_id", "principals"),
        unique("uq_team_members_principal_id", "principal_id", "team_id"),
        *sortable("team_members", "team_id"),
    )

    team_id: Mapped[UUID]
    principal_id: Mapped[UUID]


class TeamMemberCreate(Input):
    """Puts a principal into a team."""

    id: Id | None = None
    team_id: Ref
    principal_id: Ref


class TeamMemberView(Output):
    """A principal's membership of a team."""

    object: Literal["team_member"]
    team_id: Id
    principal_id: Id


_TEAM = sa.bindparam("team", type_=sa.Uuid())
_MEMBERS = table_of(TeamMember)
MEMBERS_ROLES = roles_of(
    sa.select(_MEMBERS.c.principal_id).where(
        _MEMBERS.c.tenant_id == TENANT, _MEMBERS.c.team_id == _TEAM, _MEMBERS.c.deleted_at.is_(None)
    )
)
_SHARED = shared_with("team", [_TEAM])


async def _joined(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 unless the caller holds what the new member gets to see: the team's rows, and what is shared with it."""
    del resource, before
    principals = bound([UUID(str(values["principal_id"]))])
    await _opened(ctx, values["team_id"], await ctx.fetch(ROLES_OF, {"principals": principals}))


async def _reopened(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """The same for all members of a team that is restored."""
    del resource, before
    await _opened(ctx, values["id"], await ctx.fetch(MEMBERS_ROLES, {"team": values["id"]}))


async def _opened(ctx: Context, team_id: Any, roles: list[Row]) -> None:
    member = UUID(str(team_id)) in ctx.access.teams
    shared = await opened_by_shares(ctx, _SHARED, {"team": team_id}, among_them=member)
    open_rows(ctx, roles, "team", "team" if member else "all", shared)


TEAMS = Resource(
    singular="team",
    plural="teams",
    model=Team,
    output=TeamView,
    create=TeamCreate,
    keys={"name": Team.name_key},
    filters=(Team.name,),
    sorts=(Team.name, Team.created_at),
    default_access="read",
    checks=(Check(frozenset({"deleted_at"}), _reopened),),
    access_fields=frozenset({"deleted_at"}),
    rights=lambda past, _changed, _row, _me: past in ("deleted", "restored"),
)
TEAM_MEMBERS = Resource(
    singular="team_member",
    plural="team_members",
    model=TeamMember,
    output=TeamMemberView,
    create=TeamMemberCreate,
    title="id",
    filters=(TeamMember.team_id, TeamMember.principal_id),
    default_access="read",
    checks=(Check(frozenset({"team_id"}), _joined),),
    operations=frozenset({"get", "list", "create", "delete"}),
    access_fields=frozenset({"team_id", "principal_id"}),
    rights=lambda _past, _changed, row, me: bool(row["principal_id"] == me),
)
