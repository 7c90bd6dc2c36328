"""Verbs: give a lead up, and take it up again."""

from typing import Any

from crm_api.kernel.context import Context
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Line, Wire


class DisqualifyRequest(Wire):
    """Why nothing will come of it."""

    reason: Line


async def disqualify(ctx: Context, resource: Resource, row: Any, body: DisqualifyRequest) -> dict[str, Any]:
    """Notes the reason."""
    del ctx, resource, row
    return {"disqualified_reason": body.reason}


async def recycle(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Counts how often that was done; the reason stays in the audit log."""
    del ctx, resource, body
    return {"disqualified_reason": None, "recycle_count": row["recycle_count"] + 1}
