"""Verb: confirm an order. It becomes binding: it gets its number, and no body changes it any more."""

from collections import Counter
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.accounts.account import ACCOUNTS
from crm_api.domains.approvals.asking import ask
from crm_api.domains.numbering.numbers import next_number
from crm_api.domains.orders.reserving import reserve
from crm_api.domains.pricing.currency_rate import no_rate, rates_on
from crm_api.domains.pricing.price_lookup import products_of
from crm_api.domains.selling.approving import demand_of
from crm_api.domains.selling.base_totals import issued
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.parts import items_of
from crm_api.kernel.problems import CONFLICT, INVALID, Fault, Problem, invalid
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource
from crm_api.kernel.unit_of_work import as_system

PREFIX = "SO-"
_OPEN = sa.literal(["confirmed", "on_hold"], ARRAY(sa.Text()))
_ACCOUNT = sa.bindparam("account_id", type_=sa.Uuid())


async def confirm(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Makes it binding, or asks for the approval that it needs first."""
    del body
    demand = await demand_of(ctx, resource, row)
    if demand is not None:
        await ask(ctx, resource, row, demand)
        return {"state": "pending_approval"}
    return await _binding(ctx, resource, row)


async def approve(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """All who were asked agree: it is binding, if it can be by now."""
    del body
    return {**await _binding(ctx, resource, row), "is_approved": True}


async def unsellable(ctx: Context, resource: Resource, row: Any, body: None) -> None:
    """What stands in the way of a binding order.

    Raises:
        Problem: 422 for an order without lines or with a product that is no longer sold; 409 for a blocked account, or
            one whose open orders would come to more than its credit limit.
    """
    del body
    lines = items_of(row, "lines")
    if not lines:
        raise invalid("/lines", "required", "An order without lines cannot be confirmed.")
    await _sold(ctx, lines)
    await creditworthy(ctx, resource, row)


async def creditworthy(ctx: Context, resource: Resource, row: Any) -> None:
    """409 for a blocked account, or one whose open orders would come to more than its credit limit with this one."""
    account = await _account(ctx, str(row["account_id"]))
    if account["is_blocked"]:
        raise Problem(CONFLICT, "The account is blocked.", [Fault("account_blocked", "It is blocked from business.")])
    await _credit(ctx, resource, row, account)


async def _binding(ctx: Context, resource: Resource, row: Any) -> dict[str, Any]:
    await reserve(ctx, resource, row)
    base = await issued(ctx, row, "ordered_on")
    number = row["number"] or await next_number(ctx, resource, row["ordered_on"], prefix=PREFIX)
    return {**base, "number": number, "confirmed_at": ctx.now, "reason": None}


async def _account(ctx: Context, id_: str) -> Any:
    """The account as it is, whoever may see which of its fields; two orders of one account wait for each other.

    Who only asks what stands in the way has no transaction, and neither waits nor makes others wait.
    """
    table, binding = ACCOUNTS.table, ctx.link is not None

    def build() -> Statement:
        columns = (table.c.is_blocked, table.c.credit_limit, table.c.currency)
        rows = sa.select(*columns).where(table.c.tenant_id == TENANT, table.c.id == _ACCOUNT)
        return Statement(rows.with_for_update(key_share=True) if binding else rows)

    statement = ctx.kernel.statement(("account of an order", binding), build)
    return (await ctx.fetch(statement, {"account_id": id_}))[0]


async def _credit(ctx: Context, resource: Resource, row: Any, account: Any) -> None:
    """409 when the open orders and this one come to more than the limit, at the rates of its day.

    An order of credits opens no room for others before it is paid out, so it counts as nothing.
    A limit holds in the currency of the account; without one, there is nothing to compare with.
    """
    limit, currency = account["credit_limit"], account["currency"]
    if limit is None or currency is None:
        return
    table = resource.table

    def build() -> Statement:
        zero: sa.ColumnElement[int] = sa.literal_column("0")
        owed = sa.func.greatest(sa.type_coerce(table.c.gross_total, sa.BigInteger()), zero)
        total = sa.func.coalesce(sa.func.sum(owed), zero)
        return Statement(
            sa.select(table.c.currency, sa.cast(total, sa.BigInteger()).label("total"))
            .where(
                table.c.tenant_id == TENANT,
                table.c.account_id == _ACCOUNT,
                among(table.c.state, _OPEN),
                table.c.id != sa.bindparam("id", type_=sa.Uuid()),
                table.c.deleted_at.is_(None),
            )
            .group_by(table.c.currency)
        )

    statement = ctx.kernel.statement(("open orders of an account",), build)
    owed = Counter({row["currency"]: max(0, row["gross_total"])})
    for other in await ctx.fetch(statement, {name: row[name] for name in ("id", "account_id")}):
        owed[other["currency"]] += other["total"]
    day = row["ordered_on"]
    rates = await rates_on(as_system(ctx), owed, currency, day)
    if unknown := sorted(owed.keys() - rates.keys()):
        raise Problem(CONFLICT, "The credit cannot be compared.", [no_rate(name, currency, day) for name in unknown])
    if sum(amount * rates[name] for name, amount in owed.items()) > limit:
        detail = "The open orders of the account would come to more than its credit limit."
        raise Problem(CONFLICT, detail, [Fault("credit_exceeded", detail)])


async def _sold(ctx: Context, lines: list[dict[str, Any]]) -> None:
    ids = {UUID(line["product_id"]) for line in lines if line["product_id"]}
    products = await products_of(ctx, list(ids)) if ids else {}
    faults = [
        Fault("product_retired", "The product is no longer sold.", pointer=f"/lines/{i}/product_id")
        for i, line in enumerate(lines)
        if line["product_id"]
        and (line["product_id"] not in products or products[line["product_id"]]["status"] != "active")
    ]
    if faults:
        raise Problem(INVALID, "The order has products that are no longer sold.", faults)
