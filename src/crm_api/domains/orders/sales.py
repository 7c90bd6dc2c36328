"""`/v1/sales`: what was sold, by seller, account, product and period."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.identity.me import Current
from crm_api.domains.orders.order import ORDERS
from crm_api.domains.orders.order_line import ORDER_LINES
from crm_api.domains.products.product import PRODUCTS
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.external import is_external, own_id
from crm_api.kernel.policy import Met
from crm_api.kernel.problems import QUERY_TOO_BROAD, Problem, invalid_parameter
from crm_api.kernel.query import framed
from crm_api.kernel.record import among
from crm_api.kernel.schema import Count, Currency, Id, Ref, Total, money_text
from crm_api.kernel.sight import may_read

router = APIRouter()
MOST_LINES = 1_000
_SOLD = sa.literal(["confirmed", "on_hold", "closed"], ARRAY(sa.Text()))
_FROM, _UNTIL = (sa.bindparam(name, type_=sa.Date()) for name in ("start", "until"))
Dimension = Literal["seller", "account", "product"]
Period = Literal["month", "quarter", "year"]
_UNITS: dict[str, sa.ColumnElement[str]] = {
    "month": sa.literal_column("'month'"),
    "quarter": sa.literal_column("'quarter'"),
    "year": sa.literal_column("'year'"),
}


class SalesLine(BaseModel):
    """What was sold of one group in one currency; what is not grouped by is null."""

    seller_id: Annotated[Id | None, Field(description="Who owns the orders.")]
    account_id: Id | None
    product_id: Annotated[Id | None, Field(description="Null for lines without a product, too.")]
    period_start: Annotated[date | None, Field(description="The first day of the period.")]
    currency: Currency
    orders: Annotated[Count, Field(description="How many orders.")]
    net: Total
    tax: Total
    gross: Total
    margin: Annotated[
        Total | None, Field(description="Net less cost; null where the cost of something is unknown or hidden.")
    ]


class Sales(BaseModel):
    """What was sold, from the orders that the caller sees: those confirmed, on hold or closed."""

    object: Literal["sales"]
    data: Annotated[list[SalesLine], Field(max_length=MOST_LINES)]


@router.get(
    "/v1/sales", operation_id="get_sales", summary="What was sold, by group and period", responses={403: {}, 422: {}}
)
async def sales(
    ctx: Current,
    start: Annotated[date, Query(alias="from", description="The first day of orders.")],
    until: Annotated[date, Query(description="The last day of orders.")],
    by: Annotated[
        list[Dimension] | None,
        Query(max_length=3, description="What to group by, once each; everything together, unless given."),
    ] = None,
    period: Annotated[Period | None, Query(description="Group by the day of the order, too.")] = None,
    currency: Annotated[Currency | None, Query(description="Only orders in it.")] = None,
    seller_id: Annotated[Ref | None, Query(description="Only their orders.")] = None,
    account_id: Annotated[Ref | None, Query(description="Only its orders.")] = None,
    product_id: Annotated[Ref | None, Query(description="Only its lines.")] = None,
) -> Sales:
    """Sums by group and currency, under the caller's policies, largest net first within a period; at most 1,000."""
    ctx.require(ORDERS, "read")
    if until < start:
        raise invalid_parameter("until", "not_in_order", "It ends before it begins.")
    groups = tuple(dict.fromkeys(by or ()))
    only = {"seller": seller_id, "account": account_id, "product": product_id}
    values: dict[str, Any] = {name: await _id(ctx, name, given) for name, given in only.items() if given is not None}
    by_line = "product" in groups or "product" in values
    if by_line:
        ctx.require(ORDER_LINES, "read")
    asked = (*sorted(values), *(("currency",) if currency else ()))
    shape = ("sales", groups, period, asked)
    values |= {"start": start, "until": until} | ({"currency": currency} if currency else {})
    _, rows = await settled(ctx, shape, lambda: _compile(ctx, groups, period, asked, by_line=by_line), values)
    found = [row for row in rows if row["orders"]]
    if len(found) > MOST_LINES:
        raise Problem(QUERY_TOO_BROAD, f"There are more than {MOST_LINES} groups; narrow the query.")
    dear = "cost" in ctx.access.hides(PRODUCTS.plural) or not may_read(ctx, PRODUCTS)
    return Sales(object="sales", data=[_line(row, hidden=dear) for row in found])


def _line(row: Row, *, hidden: bool) -> SalesLine:
    unknown = hidden or row["margin"] is None
    return SalesLine(
        **{name: row[name] for name in ("seller_id", "account_id", "product_id", "period_start", "currency", "orders")},
        **{name: money_text(int(row[name])) for name in ("net", "tax", "gross")},
        margin=None if unknown else money_text(int(row["margin"])),
    )


def _compile(
    ctx: Context, groups: Sequence[str], period: Period | None, asked: Sequence[str], *, by_line: bool
) -> Statement:
    order, line = ORDERS.table, ORDER_LINES.table
    of = {"seller": order.c.owner_id, "account": order.c.account_id, "product": line.c.product_id}
    if by_line:
        source: Any = order.join(line, line.c.order_id == order.c.id)
        net, tax, gross = line.c.net_amount, line.c.tax_amount, line.c.gross_amount
        margin, number = line.c.net_amount - line.c.cost, sa.func.count(order.c.id.distinct())
    else:
        source, margin, number = order, order.c.margin, sa.func.count()
        net, tax, gross = order.c.net_total, order.c.tax_total, order.c.gross_total
    known = sa.func.count(margin) == sa.func.count()
    day = sa.cast(order.c.ordered_on, sa.DateTime())
    begins = sa.cast(sa.func.date_trunc(_UNITS[period or "year"], day), sa.Date())
    keys = {name: sa.cast(of[name], sa.Text()) for name in groups} | ({"period": begins} if period else {})
    rows = (
        sa.select(
            *(
                keys.get(name, sa.cast(sa.null(), sa.Text())).label(f"{name}_id")
                for name in ("seller", "account", "product")
            ),
            keys.get("period", sa.cast(sa.null(), sa.Date())).label("period_start"),
            order.c.currency,
            number.label("orders"),
            *(_sum(column).label(name) for name, column in (("net", net), ("tax", tax), ("gross", gross))),
            sa.case((known, _sum(margin))).label("margin"),
        )
        .select_from(source)
        .where(
            *ctx.kernel.policy.gate(ctx.access, ORDERS, "read", order, Met.ALL),
            among(order.c.state, _SOLD),
            order.c.ordered_on.between(_FROM, _UNTIL),
            *(of[name] == sa.bindparam(name, type_=sa.Uuid()) for name in of if name in asked),
            *([order.c.currency == sa.bindparam("currency", type_=sa.Text())] if "currency" in asked else []),
            *([line.c.tenant_id == TENANT, line.c.deleted_at.is_(None)] if by_line else []),
        )
        .group_by(order.c.currency, *keys.values())
        .order_by(*([keys["period"]] if period else []), _sum(net).desc(), *keys.values())
        .limit(sa.literal_column(str(MOST_LINES + 1)))
    )
    return framed(rows.lateral("page"))


def _sum(column: Any) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(sa.func.sum(sa.cast(column, sa.Numeric)), sa.literal_column("0"))


async def _id(ctx: Context, name: str, given: str) -> str:
    """The id of what is asked for; nothing is sold of what is not there, so it is not looked for."""
    plural = {"seller": "principals", "account": "accounts", "product": "products"}[name]
    if not is_external(given):
        return given
    target = ctx.kernel.catalog.resources[plural]
    ctx.access.through(target)
    return str(await own_id(ctx, target, given))
