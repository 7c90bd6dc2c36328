"""Relations between accounts: of a type, for a time, open to whom both accounts are open to."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.policy import Scope, through
from crm_api.kernel.problems import DUPLICATE, Fault, Problem, invalid
from crm_api.kernel.record import Entity, reference, sortable
from crm_api.kernel.repository import check_references
from crm_api.kernel.resource import Check, Resource, RowRule
from crm_api.kernel.schema import Id, Input, Output, Ref

_FOR_EVER = "Null: without end."


class AccountRelation(Entity):
    """What one account is to another, both days included."""

    __tablename__ = "account_relations"
    __table_args__ = (
        reference("from_account_id", "accounts"),
        reference("to_account_id", "accounts"),
        reference("type_id", "account_relation_types"),
        sa.CheckConstraint("from_account_id <> to_account_id", name="accounts"),
        sa.CheckConstraint("valid_until >= valid_from", name="period"),
        *sortable("account_relations", "from_account_id", "to_account_id", "type_id", "created_at"),
    )

    from_account_id: Mapped[UUID]
    to_account_id: Mapped[UUID]
    type_id: Mapped[UUID]
    valid_from: Mapped[date | None] = mapped_column(sa.Date)
    valid_until: Mapped[date | None] = mapped_column(sa.Date)


class AccountRelationCreate(Input):
    """What one account is to another."""

    id: Id | None = None
    from_account_id: Annotated[Ref, Field(description="The account that `label` of the type is said of.")]
    to_account_id: Annotated[Ref, Field(description="The account that `inverse_label` is said of.")]
    type_id: Ref
    valid_from: Annotated[date | None, Field(description="Null: ever since.")] = None
    valid_until: Annotated[date | None, Field(description=_FOR_EVER)] = None


class AccountRelationView(Output):
    """What one account is to another."""

    object: Literal["account_relation"]
    from_account_id: Id
    to_account_id: Id
    type_id: Id
    valid_from: date | None
    valid_until: date | None


_SAME = Statement(
    sa.select(AccountRelation.id)
    .where(
        AccountRelation.tenant_id == TENANT,
        AccountRelation.deleted_at.is_(None),
        AccountRelation.id != sa.bindparam("own", type_=sa.Uuid()),
        *(
            getattr(AccountRelation, name) == sa.bindparam(name, type_=sa.Uuid())
            for name in ("from_account_id", "to_account_id", "type_id")
        ),
        sa.func.coalesce(AccountRelation.valid_from, sa.literal_column("'-infinity'::date"))
        <= sa.func.coalesce(sa.bindparam("until", type_=sa.Date()), sa.literal_column("'infinity'::date")),
        sa.func.coalesce(AccountRelation.valid_until, sa.literal_column("'infinity'::date"))
        >= sa.func.coalesce(sa.bindparam("since", type_=sa.Date()), sa.literal_column("'-infinity'::date")),
    )
    .limit(sa.literal_column("1"))
)


async def _sound(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """422 for an account's relation to itself or an end before its beginning, 409 for the same at the same time."""
    row = {**(before or {}), **values}
    ends = [str(row[name]).lower() for name in ("from_account_id", "to_account_id")]
    if ends[0] == ends[1]:
        raise invalid("/to_account_id", "same_record", "An account has no relation to itself.")
    since, until = row["valid_from"], row["valid_until"]
    if since is not None and until is not None and until < since:
        raise invalid("/valid_until", "invalid_period", "valid_until is before valid_from.")
    await check_references(ctx, resource, row)  # or the next answer would tell of accounts that are hidden
    await one_at_a_time(ctx, f"{resource.plural}.{ends[0]}")
    names = {"from_account_id": ends[0], "to_account_id": ends[1], "type_id": row["type_id"]}
    if await ctx.fetch(_SAME, {**names, "own": row["id"], "since": since, "until": until}):
        detail = "The two accounts have this relation already at that time."
        raise Problem(DUPLICATE, detail, [Fault("overlapping", detail, pointer="/valid_from")])


_PERIOD = frozenset({"valid_from", "valid_until"})
_FROM, _TO = through("from_account_id", "accounts"), through("to_account_id", "accounts")


def _both_ends(scope: Scope, table: Any, action: str) -> sa.ColumnElement[bool] | None:
    """Whoever may see both accounts sees their relation; who may change the first as well may change it."""
    ways = [_FROM.condition(scope, table, action), _TO.condition(scope, table, "read")]
    return None if any(way is None for way in ways) else sa.and_(*ways)  # type: ignore[arg-type]


ACCOUNT_RELATIONS = Resource(
    singular="account_relation",
    plural="account_relations",
    model=AccountRelation,
    output=AccountRelationView,
    create=AccountRelationCreate,
    title="id",
    rows=(RowRule("both_accounts", _both_ends),),
    once=frozenset({"from_account_id", "to_account_id", "type_id"}),
    checks=(Check(frozenset({"from_account_id", "to_account_id", "deleted_at"}) | _PERIOD, _sound, cleared=_PERIOD),),
    filters=(
        AccountRelation.from_account_id,
        AccountRelation.to_account_id,
        AccountRelation.type_id,
        AccountRelation.valid_from,
        AccountRelation.valid_until,
        AccountRelation.created_at,
    ),
    sorts=(AccountRelation.created_at,),
)
