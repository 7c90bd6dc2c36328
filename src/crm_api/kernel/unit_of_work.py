"""Opens a context, runs the work in the cheapest safe way, commits or rolls back; retries lost races."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import asyncpg
from starlette.requests import Request

from crm_api.kernel import idempotency
from crm_api.kernel.admission import enter
from crm_api.kernel.context import WRITTEN, Context, Kernel, Principal
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import AccessMoved, Problem
from crm_api.kernel.resource import Resource

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a write came to."""

    item: dict[str, Any]
    status: int
    replayed: bool = False
    ignored: Mapping[str, str] = field(default_factory=dict)


Work = Callable[[Context], Awaitable[dict[str, Any] | None]]
"""Gives the wire object; None when its statement found the idempotency key used."""
Kept = Callable[[dict[str, Any]], dict[str, Any]]
"""Leaves out of a wire object what is not kept with an idempotency key."""


async def open_context(request: Request) -> Context:
    """Authenticates a request, lets it in and gives its context; raises 401 and 429."""
    principal, access = await enter(request)
    return Context(request.scope["crm.kernel"], principal, access, request.scope["crm.request_id"])


async def permitted(request: Request, resource: Resource, action: str) -> Context:
    """The context of a request that takes a permission; raises 401, and 403 without it."""
    ctx = await open_context(request)
    ctx.require(resource, action)
    return ctx


def system(kernel: Kernel, tenant_id: UUID, via: str) -> Context:
    """A context for our own commands: every row of one tenant, no credential."""
    return Context(
        kernel, Principal(tenant_id, None, "system"), Access(0, None, "system", unrestricted=True), via, via=via
    )


def as_system(ctx: Context) -> Context:
    """The same request, in the same transaction, with every right: for what follows from what the caller may do."""
    given = ctx.access
    access = Access(given.version, given.principal_id, "system", unrestricted=True, customs=given.customs)
    return replace(ctx, access=access)


_LOST_RACES = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


async def transact(ctx: Context, work: Callable[[Context], Awaitable[Any]], *, patient: bool = False) -> Any:
    """Runs work in one transaction, again after a serialization failure or deadlock; dry runs are rolled back.

    With `patient` also after a lock that was not to be had in time: whoever locks several rows may stand in a deadlock,
    which PostgreSQL looks for only after a second.
    """
    lost = (*_LOST_RACES, asyncpg.LockNotAvailableError) if patient else _LOST_RACES
    for attempt in range(1, _TRIES + 1):
        try:
            async with ctx.kernel.database.transaction(ctx.principal.tenant_id, keep=not ctx.dry_run) as link:
                ctx.link, ctx.nets, ctx.moved, ctx.ignored = link, {}, False, {}
                result = await work(ctx)
            ctx.ring()
            return result  # noqa: TRY300 - the transaction is committed
        except AccessMoved as moved:
            await ctx.kernel.authenticator.access(ctx.principal, at_least=moved.at_least)
            raise
        except lost:
            if attempt == _TRIES:
                raise
            await asyncio.sleep(random.uniform(0, 0.02 * attempt))  # noqa: S311 - spreads retries, not a secret
        finally:
            ctx.link = None
    raise AssertionError


async def write(
    ctx: Context, work: Work, status: int, *, single: bool, kept: Kept | None = None, patient: bool = False
) -> Outcome:
    """Runs a write once, whatever the client repeats.

    Args:
        ctx: the request.
        work: gives the wire object, or None when it found its idempotency key used (only with `single`).
        status: of a first success.
        single: the work is one statement that takes the key itself, so no transaction is needed around it.
        kept: what of the wire object is kept with the key; None for all of it.
        patient: see `transact`.

    Raises:
        Problem: what the work refused, or had refused when the key was used first.
    """
    try:
        if ctx.dry_run:
            ctx.idempotency = None
            item = await transact(ctx, work, patient=patient)
            return Outcome(item, ctx.status or status, ignored=ctx.ignored)
        if single:
            item = await work(ctx)
        elif ctx.idempotency is None:
            item = await transact(ctx, work, patient=patient)
        else:
            item = await transact(ctx, lambda inner: _keyed(inner, work, status, kept), patient=patient)
    except (Problem, asyncpg.PostgresError) as error:
        if ctx.idempotency is None:
            raise
        if single and isinstance(error, asyncpg.LockNotAvailableError):  # it waited for its twin's key
            raise idempotency.in_flight() from None
        if not await idempotency.refuse(ctx, error):
            raise
        item = None
    if item is not None:
        ctx.kernel.bell(WRITTEN).set()
        return Outcome(item, ctx.status or status, ignored=ctx.ignored)
    replayed, stored = await idempotency.replay(ctx)
    return Outcome(stored, replayed, replayed=True, ignored=ctx.ignored)


async def _keyed(ctx: Context, work: Work, status: int, kept: Kept | None) -> dict[str, Any] | None:
    try:
        if not await idempotency.claim(ctx):
            return None
    except asyncpg.LockNotAvailableError:
        raise idempotency.in_flight() from None
    key, ctx.idempotency = ctx.idempotency, None
    try:
        item = await work(ctx) or {}
    finally:
        ctx.idempotency = key
    await idempotency.keep(ctx, ctx.status or status, item if kept is None else kept(item))
    return item
