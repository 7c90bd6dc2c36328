"""Verb: cancel an order of which nothing was shipped or invoiced."""

from typing import Any

from crm_api.kernel.context import Context
from crm_api.kernel.problems import CONFLICT, Problem
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Line, Wire


class CancelRequest(Wire):
    """Why."""

    reason: Line | None = None


async def cancel(ctx: Context, resource: Resource, row: Any, body: CancelRequest) -> dict[str, Any]:
    """Keeps the reason; what is under way is not cancelled but returned and credited."""
    del ctx, resource
    if row["fulfilment"] != "none" or row["billing"] != "none":
        raise Problem(CONFLICT, "Something of the order was shipped or invoiced; return and credit it instead.")
    return {"reason": body.reason}
