"""Works out the lines and totals of an order from what was sent of it."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.orders.totals import Amounts, Priced, of_line, summed
from crm_api.domains.products.product import PRODUCTS
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import Statement
from crm_api.kernel.parts import identified, items_of
from crm_api.kernel.problems import INVALID, Fault, Problem
from crm_api.kernel.query import framed
from crm_api.kernel.record import MONEY_SCALE, among
from crm_api.kernel.resource import Resource

MOST_LINES = 1000
_GREATEST = Decimal(10) ** 13
PRICED = frozenset({"lines"})
_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))


async def price(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The lines with their prices, and the totals.

    Raises:
        Problem: 422 with a pointer for each line whose product is unknown or retired, which has no price in the
            currency of the order, or is worth more than amounts can be.
    """
    del resource
    whole = {**(before or {}), **values}
    currency, gross = str(whole["currency"]), whole["prices"] == "gross"
    items = identified(values["lines"], before, "lines", _same)
    products = await products_of(ctx, {str(item["product_id"]) for item in items if item["product_id"]})
    stored = {item["id"]: item for item in items_of(before, "lines")}
    faults: list[Fault] = []
    lines, amounts = [], []
    for i, item in enumerate(items):
        line, fault = _line(item, products, currency, stored)
        if fault is not None:
            faults.append(Fault(fault[1], fault[2], pointer=f"/lines/{i}/{fault[0]}"))
            continue
        worth = of_line(
            Priced(line["quantity"], line["unit_price"], line["discount_percent"], line["tax_percent"]),
            currency,
            gross=gross,
        )
        if max(abs(worth.net), abs(worth.gross)) >= _GREATEST:
            faults.append(Fault("too_large", "The line is worth too much.", pointer=f"/lines/{i}/quantity"))
            continue
        amounts.append(worth)
        lines.append(
            {
                **line,
                "net_amount": worth.net,
                "tax_amount": worth.tax,
                "gross_amount": worth.gross,
                "currency": currency,
            }
        )
    total = summed(amounts)
    if abs(total.gross) >= _GREATEST or abs(total.net) >= _GREATEST:
        faults.append(Fault("too_large", "The order is worth too much.", pointer="/lines"))
    if faults:
        raise Problem(INVALID, faults[0].detail, faults)
    return {"lines": lines, **_totals(total)}


def _totals(total: Amounts) -> dict[str, Decimal]:
    return {"net_total": total.net, "tax_total": total.tax, "gross_total": total.gross}


def _same(item: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether an item that was sent without an id is a line that is there: of the same product, or so described."""
    product, description = item["product_id"], item["description"]
    if product is not None:
        return str(product).lower() == old["product_id"] and description in (None, old["description"])
    return old["product_id"] is None and description == old["description"]


def _line(
    item: Mapping[str, Any],
    products: Mapping[str, Mapping[str, Any]],
    currency: str,
    stored: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, Any], tuple[str, str, str] | None]:
    """A line with product and price, or (field, code, detail) of what is wrong with it."""
    product = products.get(str(item["product_id"]).lower()) if item["product_id"] else None
    line = dict(item)
    if item["product_id"] and product is None:
        return line, ("product_id", "reference_not_found", "There is no such product.")
    kept = stored.get(line["id"], {}).get("product_id")
    if product is not None and product["status"] != "active" and product["id"] != kept:
        return line, ("product_id", "retired", "The product is no longer sold.")
    line["product_id"] = product["id"] if product else None
    line["sku"] = product["sku"] if product else None
    line["description"] = item["description"] or (product["name"] if product else None)
    if line["description"] is None:
        return line, ("description", "required", "A line without a product needs a description.")
    listed = product is not None and product["currency"] == currency and product["list_price"] is not None
    line["list_price"] = Decimal(product["list_price"]) / MONEY_SCALE if product and listed else None
    if line["unit_price"] is None:
        line["unit_price"] = line["list_price"]
    if line["unit_price"] is None:
        return line, ("unit_price", "no_price", f"There is no list price in {currency}; give the price.")
    return line, None


async def products_of(ctx: Context, ids: set[str]) -> dict[str, Mapping[str, Any]]:
    """Those of some products that the caller may see, by id; with the price only where no rule hides it."""
    if not ids:
        return {}
    priced = "list_price" not in ctx.access.hides(PRODUCTS.plural)

    def build() -> Statement:
        table = PRODUCTS.table
        names = ("sku", "name", "status", "currency")
        price_: Any = table.c.list_price if priced else sa.cast(sa.null(), sa.BigInteger())
        columns = [sa.cast(table.c.id, sa.Text()).label("id"), *(table.c[name] for name in names)]
        gate = ctx.kernel.policy.gate(ctx.access, PRODUCTS, "read", table)
        rows = sa.select(*columns, sa.type_coerce(price_, sa.BigInteger()).label("list_price"))
        return framed(rows.where(among(table.c.id, _IDS), *gate).lateral("page"))

    _, rows = await settled(ctx, ("products of an order", priced), build, {"ids": sorted(ids)})
    return {row["id"]: dict(row) for row in rows if row["id"] is not None}
