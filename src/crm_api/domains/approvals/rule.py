"""Approval rules: which documents need approval, by whom, one step after the other."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.accounts.account import Level
from crm_api.domains.products.percent import Percent
from crm_api.kernel.context import Context
from crm_api.kernel.domain import Catalog
from crm_api.kernel.external import To
from crm_api.kernel.parts import items_of
from crm_api.kernel.problems import INVALID, Fault, Problem, invalid
from crm_api.kernel.record import Entity, MoneyAmount, Ratio, reference, sortable, sparse
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Code, Currency, Id, Input, Money, Name, Output, Ref, Wire

MOST_STEPS = 10
_KINDS = {"principal": "principal_id", "role": "role_id"}
_TYPE = "The kind of document, as its `object` says: `order`."
_EXEMPT = "Who holds one of these roles needs no approval by this rule."
_MARGIN = "Of the lines whose cost is known, in percent of what they come to; not where no product has one."
_EXAMPLE = {"kind": "manager", "principal_id": None, "role_id": None, "remind_after_hours": 24}
Hours = Annotated[int, Field(ge=1, le=8760, description="Reminds the approver as often, at most ten times.")]


class ApprovalStepInput(Wire):
    """Who is asked: the requester's manager (at the next such step theirs), somebody, or whoever holds a role."""

    kind: Literal["manager", "principal", "role"]
    principal_id: Annotated[Ref, To("principals")] | None = None
    role_id: Annotated[Ref, To("roles")] | None = None
    remind_after_hours: Hours | None = None


class ApprovalStep(Wire):
    """Who is asked."""

    kind: Literal["manager", "principal", "role"]
    principal_id: Id | None
    role_id: Id | None
    remind_after_hours: Hours | None


class ApprovalRule(Entity):
    """When documents need approval, and by whom."""

    __tablename__ = "approval_rules"
    __table_args__ = (
        reference("account_id", "accounts"),
        sa.CheckConstraint("amount_over IS NULL OR currency IS NOT NULL", name="currency"),
        *sortable("approval_rules", "name", "created_at"),
        sparse("approval_rules", "account_id"),
    )

    name: Mapped[str]
    object_type: Mapped[str]
    is_active: Mapped[bool]
    amount_over: Mapped[int | None] = mapped_column(MoneyAmount)
    currency: Mapped[str | None]
    discount_over: Mapped[int | None] = mapped_column(Ratio)
    margin_under: Mapped[int | None] = mapped_column(Ratio)
    account_id: Mapped[UUID | None]
    account_tier: Mapped[str | None]
    account_risk: Mapped[str | None]
    exempt_role_ids: Mapped[list[Any]]
    steps: Mapped[list[Any]]


Tier = Annotated[str, Field(min_length=1, max_length=40)]


class ApprovalRuleCreate(Input):
    """When documents need approval: if all that is given holds. Without a condition, all of them do."""

    id: Id | None = None
    name: Name
    object_type: Annotated[Code, Field(description=_TYPE, examples=["order"])]
    is_active: bool = True
    amount_over: Annotated[Money | None, Field(description="Gross, in this currency; others are not looked at.")] = None
    currency: Currency | None = None
    discount_over: Annotated[Percent | None, Field(description="Of any line, off the price by the books.")] = None
    margin_under: Annotated[Percent | None, Field(description=_MARGIN)] = None
    account_id: Ref | None = None
    account_tier: Tier | None = None
    account_risk: Level | None = None
    exempt_role_ids: Annotated[list[Annotated[Ref, To("roles")]], Field(max_length=50, description=_EXEMPT)] = []
    steps: Annotated[
        list[ApprovalStepInput],
        Field(min_length=1, max_length=MOST_STEPS, examples=[[_EXAMPLE]]),
    ]


class ApprovalRuleView(Output):
    """When documents need approval, and by whom."""

    object: Literal["approval_rule"]
    name: Name
    object_type: Code
    is_active: bool
    amount_over: Money | None
    currency: Currency | None
    discount_over: Percent | None
    margin_under: Percent | None
    account_id: Id | None
    account_tier: Tier | None
    account_risk: Level | None
    exempt_role_ids: Annotated[list[Id], Field(max_length=50, description=_EXEMPT)]
    steps: Annotated[list[ApprovalStep], Field(max_length=MOST_STEPS)]


def approvable(catalog: Catalog) -> tuple[str, ...]:
    """The kinds of documents whose graphs are moved by an approval."""
    graphs = {resource.singular: resource.lifecycle for resource in catalog.resources.values()}
    return tuple(name for name, graph in graphs.items() if graph and (edge := graph.edge("approve")) and edge.internal)


async def _type(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    del resource, before
    known = approvable(ctx.kernel.catalog)
    if values["object_type"] not in known:
        raise invalid("/object_type", "unknown_resource", f"One of {', '.join(known)}.")


async def _currency(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 for an amount without a currency."""
    del ctx, resource
    row = {**(before or {}), **values}
    if row["amount_over"] is not None and row["currency"] is None:
        raise invalid("/currency", "required", "An amount is one of a currency.")


async def _people(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 unless each step names what its kind asks for, and that is there, as are the roles that are exempt."""
    del resource, before
    faults, sought = [], []
    for i, step in enumerate(items_of(values, "steps")):
        for kind, name in _KINDS.items():
            place = f"/steps/{i}/{name}"
            if (step[name] is not None) != (step["kind"] == kind):
                faults.append(Fault("step", f"A step of the kind {kind}, and no other, has it.", pointer=place))
            elif step[name] is not None:
                sought.append((f"{kind}s", step[name], place))
    sought += [("roles", id_, f"/exempt_role_ids/{i}") for i, id_ in enumerate(items_of(values, "exempt_role_ids"))]
    for plural, id_, place in sought:
        target = ctx.kernel.catalog.resources[plural]
        if await find(ctx, target, id_) is None:
            faults.append(Fault("reference_not_found", f"There is no such {target.singular}.", pointer=place))
    if faults:
        raise Problem(INVALID, faults[0].detail, faults)


def _stored_steps(steps: Any) -> Mapping[str, Any]:
    return {"steps": [{**step, **{name: _id(step[name]) for name in _KINDS.values()}} for step in steps or ()]}


def _stored_roles(ids: Any) -> Mapping[str, Any]:
    return {"exempt_role_ids": [_id(id_) for id_ in ids or ()]}


def _id(value: Any) -> str | None:
    return None if value is None else str(value).lower()


APPROVAL_RULES = Resource(
    singular="approval_rule",
    plural="approval_rules",
    model=ApprovalRule,
    output=ApprovalRuleView,
    create=ApprovalRuleCreate,
    default_access="read",
    derive={"steps": _stored_steps, "exempt_role_ids": _stored_roles},
    checks=(
        Check(frozenset({"object_type"}), _type),
        Check(frozenset({"amount_over", "currency"}), _currency, cleared=frozenset({"currency"})),
        Check(frozenset({"steps", "exempt_role_ids"}), _people),
    ),
    filters=(
        ApprovalRule.name,
        ApprovalRule.object_type,
        ApprovalRule.is_active,
        ApprovalRule.currency,
        ApprovalRule.account_id,
        ApprovalRule.created_at,
    ),
    sorts=(ApprovalRule.name, ApprovalRule.created_at),
)
