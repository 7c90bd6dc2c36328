"""Verbs: stop what follows from an order, with a reason, and let it go on."""

from typing import Any

from crm_api.kernel.context import Context
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Line, Wire


class HoldRequest(Wire):
    """Why."""

    reason: Line | None = None


async def hold(ctx: Context, resource: Resource, row: Any, body: HoldRequest) -> dict[str, Any]:
    """Keeps the reason."""
    del ctx, resource, row
    return {"reason": body.reason}


async def release(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Clears the reason."""
    del ctx, resource, row, body
    return {"reason": None}
