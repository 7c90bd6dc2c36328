"""What somebody is signed in by, beside API keys: each domain that has such says how it ends, and all end together."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from crm_api.kernel.context import Context
from crm_api.kernel.jobs import trusted
from crm_api.kernel.resource import Resource

End = Callable[[Context, UUID], Awaitable[None]]
"""(context with our own rights, in a transaction; whose) -> all of it is over."""
_ENDS: list[End] = []


def ends(function: End) -> End:
    """Makes known how sessions, grants or the like of a person end; in the order of domains."""
    _ENDS.append(function)
    return function


async def sign_out(ctx: Context, principal_id: UUID) -> None:
    """Ends everything that a person is signed in by, everywhere, in the open transaction. API keys stay."""
    for end in _ENDS:
        await end(ctx, principal_id)


async def left(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """Who becomes inactive, or is deleted, is signed out for good: nothing of it comes back with them."""
    del resource
    if before is not None and not values.get("is_active"):
        ours = trusted(ctx)
        await sign_out(ours, UUID(str(before["id"])))
        if ours.moved:
            ctx.moved = True
            who = replace(ctx.principal, credential_id=None)  # the caller's own may be among what ended
            ctx.access = await ctx.kernel.authenticator.access(who, link=ctx.link)
