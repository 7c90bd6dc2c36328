"""The account team: principals who work on an account beside its owner."""

from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Mapped

from crm_api.kernel.policy import through
from crm_api.kernel.record import Entity, one_of, reference, sortable, unique
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Input, Name, Output, Ref


class AccountTeamMember(Entity):
    """A principal who works on an account."""

    __tablename__ = "account_team_members"
    __table_args__ = (
        reference("account_id", "accounts"),
        reference("principal_id", "principals"),
        one_of("level", ("read", "write")),
        unique("uq_account_team_members_account_id", "account_id", "principal_id"),
        *sortable("account_team_members", "principal_id", "created_at"),
    )

    account_id: Mapped[UUID]
    principal_id: Mapped[UUID]
    role: Mapped[str | None]
    level: Mapped[str]


class AccountTeamMemberCreate(Input):
    """Puts a principal into the team of an account."""

    id: Id | None = None
    account_id: Ref
    principal_id: Ref
    role: Name | None = None
    level: Literal["read", "write"] = "read"


class AccountTeamMemberView(Output):
    """A principal who works on an account."""

    object: Literal["account_team_member"]
    account_id: Id
    principal_id: Id
    role: Name | None
    level: Literal["read", "write"]


ACCOUNT_TEAM_MEMBERS = Resource(
    singular="account_team_member",
    plural="account_team_members",
    model=AccountTeamMember,
    output=AccountTeamMemberView,
    title="role",
    create=AccountTeamMemberCreate,
    rows=(through("account_id", "accounts", grants=True),),
    sorts=(AccountTeamMember.created_at,),
    filters=(AccountTeamMember.account_id, AccountTeamMember.principal_id, AccountTeamMember.level),
    rights=lambda _past, _changed, row, me: bool(row["principal_id"] == me),
)
