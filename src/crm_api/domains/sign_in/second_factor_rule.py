"""Rules for second factors: who must have one to sign in with a password, everybody or the holders of a role."""

from typing import Annotated, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped

from crm_api.kernel.record import Entity, reference, sortable, unique
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Input, Output, Ref


class SecondFactorRule(Entity):
    """Who must have a second factor."""

    __tablename__ = "second_factor_rules"
    __table_args__ = (
        reference("role_id", "roles"),
        unique("uq_second_factor_rules_role_id", "role_id"),
        *sortable("second_factor_rules", "role_id", "created_at"),
    )

    role_id: Mapped[UUID | None] = sa.orm.mapped_column(sa.Uuid())


_Role = Field(description="Its holders must have a second factor; null: everybody must.")


class SecondFactorRuleCreate(Input):
    """Who must have a second factor."""

    id: Id | None = None
    role_id: Annotated[Ref | None, _Role] = None


class SecondFactorRuleView(Output):
    """Who must have a second factor."""

    object: Literal["second_factor_rule"]
    role_id: Annotated[Id | None, _Role]


SECOND_FACTOR_RULES = Resource(
    singular="second_factor_rule",
    plural="second_factor_rules",
    model=SecondFactorRule,
    output=SecondFactorRuleView,
    title="role_id",
    create=SecondFactorRuleCreate,
    filters=(SecondFactorRule.role_id,),
    sorts=(SecondFactorRule.created_at,),
    operations=frozenset({"get", "list", "create", "delete"}),
    in_whole=True,
)
