"""Verbs: block an account from further business, and lift the block."""

from typing import Any

from crm_api.kernel.context import Context
from crm_api.kernel.problems import CONFLICT, Problem
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Line, Wire


class BlockRequest(Wire):
    """Why."""

    reason: Line


async def block(ctx: Context, resource: Resource, row: Any, body: BlockRequest) -> dict[str, Any]:
    """Sets the flag and its reason."""
    del ctx, resource
    if row["is_blocked"]:
        raise Problem(CONFLICT, "The account is blocked already.")
    return {"is_blocked": True, "blocked_reason": body.reason}


async def unblock(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Lifts the block."""
    del ctx, resource, body
    if not row["is_blocked"]:
        raise Problem(CONFLICT, "The account is not blocked.")
    return {"is_blocked": False, "blocked_reason": None}


BLOCK = Action("block", "Block the account from further business", block, event="blocked", body=BlockRequest)
UNBLOCK = Action("unblock", "Lift the block", unblock, event="unblocked")
