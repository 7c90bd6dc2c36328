"""Whether a document needs approval, and asking for it: what documents call."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from crm_api.domains.accounts.account import Account
from crm_api.domains.approvals.authors import authors_of
from crm_api.domains.approvals.people import agents_of, approver_of, exists_role, one
from crm_api.domains.approvals.rule import ApprovalRule
from crm_api.domains.identity.role import RoleAssignment
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.parts import items_of
from crm_api.kernel.record import table_of
from crm_api.kernel.repository import create
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import money_text, ratio_text
from crm_api.kernel.sight import may_read
from crm_api.kernel.unit_of_work import as_system
from crm_api.kernel.writes import run_edge

_RULES, _ACCOUNTS = table_of(ApprovalRule), table_of(Account)
_HOLDS = table_of(RoleAssignment)
_TYPE, _SELF = sa.bindparam("object_type", type_=sa.Text()), sa.bindparam("self", type_=sa.Uuid())
_ID = sa.bindparam("id", type_=sa.Uuid())


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules look at: amounts in ten-thousandths, percentages in millionths, as columns have them.

    `discount` is the deepest of any line; `margin` is of the lines whose cost is known, None where that says nothing.
    """

    account_id: str
    currency: str
    amount: int
    discount: int
    margin: int | None


@dataclass(frozen=True, slots=True)
class Demand:
    """Why approval is needed and whom to ask, one after the other."""

    reasons: Sequence[Mapping[str, Any]]
    steps: Sequence[Mapping[str, Any]]


def _rules() -> Statement:
    held = sa.select(sa.func.jsonb_agg(_HOLDS.c.role_id)).where(
        _HOLDS.c.tenant_id == TENANT, _HOLDS.c.principal_id == _SELF, _HOLDS.c.deleted_at.is_(None), exists_role(_HOLDS)
    )
    account = sa.and_(_ACCOUNTS.c.tenant_id == TENANT, _ACCOUNTS.c.id == sa.bindparam("account_id", type_=sa.Uuid()))
    names = ("amount_over", "currency", "discount_over", "margin_under", "account_tier", "account_risk")
    return Statement(
        sa.select(
            *(sa.cast(_RULES.c[name], sa.Text()).label(name) for name in ("id", "account_id")),
            *(_RULES.c[name] for name in (*names, "name", "steps", "exempt_role_ids")),
            _ACCOUNTS.c.tier,
            _ACCOUNTS.c.risk,
            sa.type_coerce(held.scalar_subquery(), JSONB()).label("held"),
        )
        .select_from(_RULES.outerjoin(_ACCOUNTS, account))
        .where(
            _RULES.c.tenant_id == TENANT,
            _RULES.c.deleted_at.is_(None),
            _RULES.c.is_active,
            _RULES.c.object_type == _TYPE,
        )
        .order_by(_RULES.c.name, _RULES.c.id)
    )


async def _applying(ctx: Context, object_type: str, account_id: str | None) -> list[Any]:
    """The rules for such documents that the caller is not exempt from."""
    values = {"object_type": object_type, "account_id": account_id, "self": ctx.principal.id}
    rows: list[Any] = await ctx.fetch(ctx.kernel.statement(("approval rules",), _rules), values)
    return [row for row in rows if not {*items_of(row, "held")} & {*items_of(row, "exempt_role_ids")}]


async def demanded(ctx: Context, object_type: str, facts: Facts) -> Demand | None:
    """Which approval the caller needs for a document with these facts; None for none."""
    untold = _untold(ctx)
    reasons: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    for rule in await _applying(ctx, object_type, facts.account_id):
        causes = _causes(rule, facts, untold)
        if causes is None:
            continue
        reasons += [{"code": code, "detail": detail, "rule_id": rule["id"]} for code, detail in causes]
        for step in items_of(rule, "steps"):
            if step["kind"] == "manager" or step not in steps:
                steps.append(step)
    return Demand(reasons, steps) if steps else None


def _untold(ctx: Context) -> frozenset[str]:
    """The fields of rules that the caller may not see; what asks for approval does not tell them either."""
    rules = ctx.kernel.catalog.resources["approval_rules"]
    return ctx.access.hides(rules.plural) if may_read(ctx, rules) else rules.hideable


def _causes(rule: Any, facts: Facts, untold: frozenset[str]) -> list[tuple[str, str]] | None:
    """Why a rule holds, without the bounds that are untold; None when it does not."""

    def said(name: str, bound: str, less: str) -> str:
        return less if name in untold else bound

    found = []
    if rule["amount_over"] is not None:
        if facts.currency != rule["currency"] or facts.amount <= rule["amount_over"]:
            return None
        bound = f"More than {money_text(rule['amount_over'])} {rule['currency']}."
        found.append(("amount", said("amount_over", bound, "The amount.")))
    if rule["discount_over"] is not None:
        if facts.discount <= rule["discount_over"]:
            return None
        bound = f"A discount of more than {ratio_text(rule['discount_over'])} percent."
        found.append(("discount", said("discount_over", bound, "The discount.")))
    if rule["margin_under"] is not None:
        if facts.margin is None or facts.margin >= rule["margin_under"]:
            return None
        bound = f"A margin of less than {ratio_text(rule['margin_under'])} percent."
        found.append(("margin", said("margin_under", bound, "The margin.")))
    for name, value in (
        ("account_id", facts.account_id),
        ("account_tier", rule["tier"]),
        ("account_risk", rule["risk"]),
    ):
        if rule[name] is not None:
            if rule[name] != value:
                return None
            found.append(("account", said(name, f"The account: {rule['name']}."[:500], "The account.")))
    return found or [("always", f"Always: {rule['name']}."[:500])]


async def allowed_discount(ctx: Context, object_type: str, account_id: str | None) -> int | None:
    """Up to how many percent, in millionths, the caller may give without approval; None for any, and where untold.

    What else a rule asks for may come to be, with an amount or a margin, so only rules for other accounts do not count.
    """
    if "discount_over" in _untold(ctx):
        return None
    limits = [
        rule["discount_over"]
        for rule in await _applying(ctx, object_type, account_id)
        if rule["discount_over"] is not None and rule["account_id"] in (None, account_id)
    ]
    return min(limits, default=None)


async def ask(ctx: Context, resource: Resource, row: Mapping[str, Any], demand: Demand) -> None:
    """Opens the approval of a document in the open transaction; the caller is who asks."""
    requester = None if ctx.principal.id is None else str(ctx.principal.id)
    draft = {
        "requested_by_id": requester,
        "object_type": resource.singular,
        "object_id": row["id"],
        "steps": list(demand.steps),
    }
    values = {
        **draft,
        "reasons": list(demand.reasons),
        "decisions": [],
        "decided_at": None,
        "reminders": 0,
        **await current(ctx, draft, 0, await barred(ctx, draft)),
    }
    await create(as_system(ctx), ctx.kernel.catalog.resources["approvals"], values)


async def barred(ctx: Context, row: Mapping[str, Any]) -> Collection[str]:
    """The ids of who does not decide an approval: whoever asked, the document's authors, and what acts for them."""
    authors = await authors_of(ctx, ctx.kernel.catalog.by_type[row["object_type"]], row["object_id"])
    people = {*authors, *([] if row["requested_by_id"] is None else [str(row["requested_by_id"])])}
    return {*people, *await agents_of(ctx, people)}


async def current(ctx: Context, row: Mapping[str, Any], step: int, barred: Collection[str]) -> dict[str, Any]:
    """The columns that say who decides at a step, nobody who is barred, and when they are reminded."""
    steps = items_of(row, "steps")
    asked = steps[step]
    rank = sum(earlier["kind"] == "manager" for earlier in steps[:step])
    requester = None if row["requested_by_id"] is None else str(row["requested_by_id"])
    approver, role = await approver_of(ctx, asked, requester, rank, barred)
    hours = asked["remind_after_hours"]
    remind_at = None if hours is None else ctx.now + timedelta(hours=hours)
    return {"step": step, "approver_id": approver, "approver_role_id": role, "remind_at": remind_at}


async def withdraw_open(ctx: Context, resource: Resource, id_: str | UUID) -> None:
    """Ends the approval that a document waits for, if there is one, because the document goes another way.

    A decision locks the approval before the document, and this comes after the document: so it does not wait for one.

    Raises:
        LockNotAvailableError: somebody is deciding.
    """
    approvals = ctx.kernel.catalog.resources["approvals"]
    table = approvals.table

    def build() -> Statement:
        pending = table.c.status == sa.literal("pending", sa.Text())
        rows = one(table.c.id, table.c.object_type == _TYPE, table.c.object_id == _ID, pending)
        return Statement(rows.with_for_update(nowait=True, key_share=True))

    values = {"object_type": resource.singular, "id": id_}
    for row in await ctx.fetch(ctx.kernel.statement(("open approval",), build), values):
        await run_edge(ctx, approvals, row["id"], "lapse")
