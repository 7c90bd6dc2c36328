"""Verb: an accepted quote becomes an order, once, at the prices that were accepted."""

from datetime import date
from typing import Annotated, Any

from pydantic import Field

from crm_api.domains.orders.order import ORDERS
from crm_api.domains.selling.copying import book_on, lines_at_price, make, terms_of
from crm_api.domains.selling.document import today
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM
from crm_api.kernel.customs_body import carried
from crm_api.kernel.problems import CONFLICT, TRANSITION_REFUSED, Fault, Problem
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Name, Wire


class ConvertRequest(Wire):
    """What the order says beside the quote."""

    client_reference: Annotated[Name | None, Field(description="The quote's, unless given.")] = None
    requested_on: date | None = None
    promised_on: date | None = None


async def convert(ctx: Context, resource: Resource, row: Any, body: ConvertRequest) -> dict[str, Any]:
    """Makes a draft of an order with the caller's own rights; it is taxed as of today.

    Raises:
        Problem: 403 for a field of orders that the caller may not set; 409 unless the quote is accepted, and when it
            was converted before.
    """
    if row["state"] != "accepted":
        detail = f"A quote that is {row['state']} cannot be converted."
        raise Problem(TRANSITION_REFUSED, detail, extra={"state": row["state"], "allowed_from": ["accepted"]})
    if row["order_id"] is not None:
        detail = "The quote was converted before."
        raise Problem(CONFLICT, detail, [Fault("already_converted", detail)], extra={"order_id": str(row["order_id"])})
    day = today()
    terms = {**terms_of(ctx, resource, row), CUSTOM: await carried(ctx, resource, row, ORDERS)}
    ctx.kernel.policy.writable(ctx.access, ORDERS, dict.fromkeys(body.model_fields_set))
    told = {name: value for name, value in body.model_dump().items() if value is not None}
    book = {"price_book_id": await book_on(ctx, terms.get("price_book_id"), day)}
    lines = lines_at_price(row)
    order = {**terms, **book, **told, "ordered_on": day, "lines": lines, "is_approved": row["is_approved"]}
    return {"order_id": (await make(ctx, ORDERS, order))["id"]}
