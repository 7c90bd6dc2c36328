"""Verb: change an order that is binding already; each amendment has an event of its own."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

from crm_api.domains.accounts.contact_points import Address
from crm_api.domains.orders.cancel import under_way
from crm_api.domains.orders.confirm import creditworthy
from crm_api.domains.orders.progress import counted, hidden_of
from crm_api.domains.selling.approving import approval_required, demand_of
from crm_api.domains.selling.line import MOST_LINES, LineInput
from crm_api.domains.selling.pricing import price_document
from crm_api.kernel.context import Context
from crm_api.kernel.external import referred
from crm_api.kernel.parts import items_of
from crm_api.kernel.problems import TRANSITION_REFUSED, Problem
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Line, Name, Ref, Wire

_STATES = ("confirmed", "on_hold")
_FIGURES = ("gross_total", "deepest_discount", "known_margin")


class AmendRequest(Wire):
    """What becomes different; what is left out stays."""

    reason: Annotated[Line | None, Field(description="Why; kept with the order.")] = None
    contact_id: Ref | None = None
    client_reference: Name | None = None
    requested_on: date | None = None
    promised_on: date | None = None
    billing_address: Address | None = None
    shipping_address: Address | None = None
    lines: Annotated[
        Annotated[list[LineInput], Field(min_length=1, max_length=MOST_LINES)] | None,
        Field(description="All lines from now on. Those that are there keep their prices, unless one is given."),
    ] = None


async def amend(ctx: Context, resource: Resource, row: Any, body: AmendRequest) -> dict[str, Any]:
    """Prices new lines as of the day of the order, and checks the whole as a confirmation does.

    Raises:
        Problem: 403 for a field that the caller may not change; 409 unless it is confirmed or on hold, when something
            of it was shipped or invoiced, when it would go beyond the credit limit of its account, and when it would
            need an approval; 422 for lines that cannot be.
    """
    if row["state"] not in _STATES:
        detail = f"An order that is {row['state']} cannot be amended."
        raise Problem(TRANSITION_REFUSED, detail, extra={"state": row["state"], "allowed_from": sorted(_STATES)})
    ctx.kernel.policy.writable(ctx.access, resource, dict.fromkeys(body.model_fields_set - {"reason"}))
    await under_way(ctx, resource, row, None)
    told = body.model_dump()
    sent = {name: told[name] for name in body.model_fields_set - {"reason"}}
    if sent.get("lines", ()) is None:
        del sent["lines"]
    values = await referred(ctx, resource, sent)
    if {"lines", "shipping_address"} & values.keys():
        hidden = await hidden_of(ctx, row["id"])
        whole = {**row, "lines": [item | hidden[item["id"]] for item in items_of(row, "lines")]}
        values = {**values, **await price_document(ctx, values, whole, "ordered_on", keep=True)}
        values["lines"] = counted(values["lines"], row)
        after = {**row, **values, **{name: _scaled(resource, name, values[name]) for name in _FIGURES}}
        after["is_approved"] = row["is_approved"] and not _gives_more(row, after)
        await creditworthy(ctx, resource, after)
        demand = await demand_of(ctx, resource, after)
        if demand is not None:
            raise approval_required(demand)
        values["is_approved"] = after["is_approved"]
    return {**values, "amendment": row["amendment"] + 1, "amendment_reason": body.reason}


def _scaled(resource: Resource, name: str, value: Decimal | None) -> int | None:
    """A figure as its column has it."""
    type_: Any = resource.table.c[name].type
    return None if value is None else int(value * type_.scale)


def _gives_more(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether it goes beyond what was approved: in amount, in discount, or by earning less, as far as was known."""
    if any(after[name] > before[name] for name in ("gross_total", "deepest_discount")):
        return True
    margins = before["known_margin"], after["known_margin"]
    if margins[0] is None:
        return margins[1] is not None
    return margins[1] is None or margins[1] < margins[0]
