"""Verbs: submit, approve, send, accept, decline and cancel a quote, and what stands in their way."""

from typing import Any

from crm_api.domains.approvals.asking import ask, withdraw_open
from crm_api.domains.numbering.numbers import next_number
from crm_api.domains.selling.approving import approval_required, demand_of
from crm_api.domains.selling.base_totals import issued
from crm_api.domains.selling.document import today
from crm_api.kernel.context import Context
from crm_api.kernel.parts import items_of
from crm_api.kernel.problems import CONFLICT, Fault, Problem, invalid
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Line, Wire

PREFIX = "Q-"


class ReasonRequest(Wire):
    """Why."""

    reason: Line | None = None


async def submit(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Draws the number, or asks for the approval that it needs first; revisions have the number of their quote."""
    del body
    demand = await demand_of(ctx, resource, row)
    if demand is not None:
        await ask(ctx, resource, row, demand)
        return {"state": "pending_approval"}
    return await _numbered(ctx, resource, row)


async def approve(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """All who were asked agree."""
    del body
    return {**await _numbered(ctx, resource, row), "is_approved": True}


async def unapproved(ctx: Context, resource: Resource, row: Any, body: None) -> None:
    """409 for a draft that needs approval: it has to be submitted."""
    del body
    if row["state"] == "draft" and (demand := await demand_of(ctx, resource, row)) is not None:
        raise approval_required(demand)


async def send(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Notes when it was sent to the account; a draft is approved with it."""
    del body
    return {**await _numbered(ctx, resource, row), "sent_at": ctx.now}


async def accept(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """The account takes the offer."""
    del resource, row, body
    return {"decided_at": ctx.now}


async def decline(ctx: Context, resource: Resource, row: Any, body: ReasonRequest) -> dict[str, Any]:
    """The account does not take the offer; keeps why."""
    del resource, row
    return {"decided_at": ctx.now, "reason": body.reason}


async def cancel(ctx: Context, resource: Resource, row: Any, body: ReasonRequest) -> dict[str, Any]:
    """Takes the offer back; keeps why."""
    await withdraw_open(ctx, resource, row["id"])
    return {"reason": body.reason}


async def empty(ctx: Context, resource: Resource, row: Any, body: None) -> None:
    """422 for a quote that offers nothing."""
    del ctx, resource, body
    if not items_of(row, "lines"):
        raise invalid("/lines", "required", "A quote without lines cannot be offered.")


async def outdated(ctx: Context, resource: Resource, row: Any, body: None) -> None:
    """409 after the last day of an offer."""
    del ctx, resource, body
    if row["valid_until"] is not None and row["valid_until"] < today():
        detail = f"The quote was valid until {row['valid_until']}; revise it."
        raise Problem(CONFLICT, detail, [Fault("quote_expired", detail)])


async def _numbered(ctx: Context, resource: Resource, row: Any) -> dict[str, Any]:
    base = await issued(ctx, row, "quoted_on")
    return {**base, "number": row["number"] or await next_number(ctx, resource, row["quoted_on"], prefix=PREFIX)}
