"""What an account paid for a product the last time."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on

from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.query import framed
from crm_api.kernel.record import among

_ORDERS_BACK = 200
_SOLD = sa.literal(["confirmed", "on_hold", "closed"], ARRAY(sa.Text()))
_OF_LINE = ("quantity", "unit_price", "discount", "net_amount")


async def last_sales(
    ctx: Context, account_id: str, products: Sequence[str], *, until: date | None = None, beside: str | None = None
) -> Mapping[str, Row] | None:
    """The latest line of each product among the account's last 200 confirmed orders that the caller sees.

    Those up to a day, and all but one, where told. None for who may read no orders or their lines at all.
    """
    orders, lines = (ctx.kernel.catalog.resources[name] for name in ("orders", "order_lines"))  # of a later domain
    if any(not ctx.access.may(item.plural, "read") or item.plural in ctx.access.closed for item in (orders, lines)):
        return None

    def build() -> Statement:
        order, line = orders.table, lines.table
        recent = (
            sa.select(order.c.id, order.c.ordered_on, order.c.currency, order.c.prices)
            .where(
                *ctx.kernel.policy.gate(ctx.access, orders, "read", order),
                order.c.account_id == sa.bindparam("account", type_=sa.Uuid()),
                among(order.c.state, _SOLD),
                *([] if until is None else [order.c.ordered_on <= sa.bindparam("until", type_=sa.Date())]),
                *([] if beside is None else [order.c.id != sa.bindparam("beside", type_=sa.Uuid())]),
            )
            .order_by(order.c.id.desc())
            .limit(sa.literal_column(str(_ORDERS_BACK)))
            .subquery("recent")
        )
        found = (
            sa.select(
                *(sa.cast(line.c[name], sa.Text()).label(name) for name in ("id", "product_id", "order_id", "unit_id")),
                *(line.c[name] for name in _OF_LINE),
                *(recent.c[name] for name in ("ordered_on", "currency", "prices")),
            )
            .select_from(recent.join(line, line.c.order_id == recent.c.id))
            .where(
                line.c.tenant_id == TENANT,
                line.c.deleted_at.is_(None),
                among(line.c.product_id, sa.bindparam("products", type_=ARRAY(sa.Uuid()))),
            )
            .ext(distinct_on(line.c.product_id))
            .order_by(line.c.product_id, recent.c.ordered_on.desc(), line.c.id.desc())
        )
        return framed(found.lateral("page"))

    values: dict[str, Any] = {"account": account_id, "products": [UUID(id_) for id_ in products]}
    values |= {name: value for name, value in (("until", until), ("beside", beside)) if value is not None}
    _, rows = await settled(ctx, ("last sales", until is None, beside is None), build, values)
    return {row["product_id"]: row for row in rows if row["id"] is not None}
