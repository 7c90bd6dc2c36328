"""Teams and who is in them."""

from typing import Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from crm_api.kernel.record import Entity, reference, sortable
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Input, Line, Name, Output


class Team(Entity):
    """A group of principals that may see each other's records."""

    __tablename__ = "teams"
    __table_args__ = (
        sa.Index("uq_teams_name", "tenant_id", "name_key", unique=True, postgresql_where=sa.text("deleted_at IS NULL")),
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
        sa.Index(
            "uq_team_members_principal_id",
            "tenant_id",
            "principal_id",
            "team_id",
            unique=True,
            postgresql_where=sa.text("deleted_at IS NULL"),
        ),
        *sortable("team_members", "team_id"),
    )

    team_id: Mapped[UUID]
    principal_id: Mapped[UUID]


class TeamMemberCreate(Input):
    """Puts a principal into a team."""

    id: Id | None = None
    team_id: Id
    principal_id: Id


class TeamMemberView(Output):
    """A principal's membership of a team."""

    object: Literal["team_member"]
    team_id: Id
    principal_id: Id


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
    access_fields=frozenset({"deleted_at"}),
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
    operations=frozenset({"get", "list", "create", "delete"}),
    access_fields=frozenset({"team_id", "principal_id"}),
)
