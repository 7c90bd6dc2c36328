"""Verb: cancel an order of which nothing was shipped or invoiced."""

from typing import Any

from crm_api.domains.approvals.asking import withdraw_open
from crm_api.kernel.context import Context
from crm_api.kernel.problems import CONFLICT, Fault, Problem
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Line, Wire


class CancelRequest(Wire):
    """Why."""

    reason: Line | None = None


async def cancel(ctx: Context, resource: Resource, row: Any, body: CancelRequest) -> dict[str, Any]:
    """Keeps the reason."""
    await withdraw_open(ctx, resource, row["id"])
    return {"reason": body.reason}


async def under_way(ctx: Context, resource: Resource, row: Any, body: Any) -> None:
    """409 for what is under way: that is returned and credited."""
    del ctx, resource, body
    if row["fulfilment"] != "none" or row["billing"] != "none":
        detail = "Something of the order was shipped or invoiced; return and credit it instead."
        raise Problem(CONFLICT, detail, [Fault("under_way", detail)])
