"""Verb: tell how much of each line was shipped and invoiced; what follows for the order is worked out."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from pydantic import Field

from crm_api.domains.orders.order_line import OrderLine, OrderLineItem
from crm_api.domains.pricing.items import line_fault
from crm_api.domains.pricing.price_lookup import decimals_of
from crm_api.domains.selling.line import MOST_LINES, DocumentLine
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.joints import Build
from crm_api.kernel.parts import items_of
from crm_api.kernel.problems import INVALID, TRANSITION_REFUSED, Fault, Problem
from crm_api.kernel.record import table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Quantity, Wire

_LINES = table_of(OrderLine)
_HIDDEN = Statement(
    sa.select(
        sa.cast(_LINES.c.id, sa.Text()).label("id"),
        *(_LINES.c[name] for name in DocumentLine.__annotations__ if name not in OrderLineItem.model_fields),
    ).where(_LINES.c.tenant_id == TENANT, _LINES.c.order_id == sa.bindparam("order_id", type_=sa.Uuid()))
)
"""What the list of lines does not have of them; raw, as rows take it."""
_STATES = ("closed", "confirmed", "on_hold")
_COUNTED = ("shipped_quantity", "invoiced_quantity")
_WHOLE = "In all so far, in the unit of the line; what is left out stays."


class LineProgress(Wire):
    """How far a line is."""

    id: Annotated[Id, Field(description="Of the line.")]
    shipped_quantity: Annotated[Quantity | None, Field(description=_WHOLE)] = None
    invoiced_quantity: Annotated[Quantity | None, Field(description=_WHOLE)] = None


class ProgressRequest(Wire):
    """How far the order is, by line: sums, not what came last, so that to tell it again changes nothing."""

    lines: Annotated[list[LineProgress], Field(min_length=1, max_length=MOST_LINES)]


async def progress(ctx: Context, resource: Resource, row: Any, body: ProgressRequest) -> dict[str, Any]:
    """Keeps the quantities, and derives fulfilment and billing.

    Raises:
        Problem: 409 unless the order is binding; 422 for a line that it does not have, or that is told twice, and for
            parts of what comes in whole units.
    """
    if row["state"] not in _STATES:
        detail = f"Nothing is shipped or invoiced of an order that is {row['state']}."
        raise Problem(TRANSITION_REFUSED, detail, extra={"state": row["state"], "allowed_from": list(_STATES)})
    hidden = await hidden_of(ctx, row["id"])
    lines = {item["id"]: _numbers(resource, item) | hidden[item["id"]] for item in items_of(row, "lines")}
    decimals = await _decimals(ctx, body, lines)
    faults, told = [], set()
    for i, line in enumerate(body.lines):
        id_ = str(UUID(line.id))
        if id_ not in lines or id_ in told:
            detail = "The order has no such line, or it is told twice."
            faults.append(Fault("unknown_item", detail, pointer=f"/lines/{i}/id"))
            continue
        told.add(id_)
        given = {name: getattr(line, name) for name in _COUNTED if getattr(line, name) is not None}
        places = decimals.get(lines[id_]["unit_id"], 6)
        faults += [
            line_fault(i, name, "too_many_decimals", f"A quantity in this unit has at most {places} decimals.")
            for name, value in given.items()
            if value != round(value, places)
        ]
        lines[id_] = lines[id_] | given
    if faults:
        raise Problem(INVALID, faults[0].detail, faults)
    whole = list(lines.values())
    goods = [line for line in whole if line["kind"] != "shipping"] or whole
    shipped, invoiced = _axis(goods, "shipped_quantity"), _axis(whole, "invoiced_quantity")
    return {"lines": whole, "fulfilment": shipped, "billing": "complete" if invoiced == "over" else invoiced}


async def _decimals(ctx: Context, body: ProgressRequest, lines: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The decimals of the units in which parts of one are told; nothing is read for whole numbers."""
    parts = {
        str(UUID(line.id))
        for line in body.lines
        for name in _COUNTED
        if (value := getattr(line, name)) is not None and value != int(value)
    }
    units = sorted({lines[id_]["unit_id"] for id_ in parts & lines.keys()} - {None})
    return await decimals_of(ctx, [UUID(unit) for unit in units]) if units else {}


async def hidden_of(ctx: Context, id_: Any) -> dict[str, dict[str, Any]]:
    """What is kept of the lines of an order and not told, by line."""
    rows = await ctx.fetch(_HIDDEN, {"order_id": id_})
    return {row["id"]: {**row, "explanation": orjson.loads(row["explanation"] or "null")} for row in rows}


def _axis(lines: Sequence[Mapping[str, Any]], name: str) -> str:
    """none, partial, complete, or over when more than was ordered."""
    if not any(line[name] for line in lines):
        return "none"
    if any(line[name] < line["quantity"] for line in lines):
        return "partial"
    return "over" if any(line[name] > line["quantity"] for line in lines) else "complete"


def _numbers(resource: Resource, line: Mapping[str, Any]) -> dict[str, Any]:
    """A line as a build gives it: numbers in place of their texts."""
    columns = table_of(resource.parts["lines"].model).c
    scaled = {name for name in line if name in columns and getattr(columns[name].type, "scale", None)}
    return {name: Decimal(value) if name in scaled and value is not None else value for name, value in line.items()}


async def _counted(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    del ctx, resource
    return {"lines": counted(values["lines"], before)}


def counted(lines: Sequence[Mapping[str, Any]], before: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Lines with the quantities that were told of those that are there."""
    old = {item["id"]: item for item in items_of(before, "lines")}
    return [{**line, **{name: Decimal(old.get(line["id"], {}).get(name) or 0) for name in _COUNTED}} for line in lines]


COUNTED = Build(frozenset({"lines"}), _counted)
