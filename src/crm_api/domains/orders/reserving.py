"""The one point where a binding order takes what it needs: a domain that keeps stock says here how."""

from collections.abc import Awaitable, Callable
from typing import Any

from crm_api.kernel.context import Context
from crm_api.kernel.resource import Resource

Reserve = Callable[[Context, Resource, Any], Awaitable[None]]
"""(context, orders, row) -> nothing, or raises a Problem; it runs once, in the transaction that binds the order."""
RESERVING: list[Reserve] = []
"""Filled when domains are imported, and asked in this order."""


async def reserve(ctx: Context, resource: Resource, row: Any) -> None:
    """Reserves for an order that is about to be binding; what is refused keeps it from being so."""
    for run in RESERVING:
        await run(ctx, resource, row)
