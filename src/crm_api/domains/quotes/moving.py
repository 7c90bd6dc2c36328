"""Verbs: approve, send, accept, decline, let expire and cancel a quote."""

from typing import Any

from crm_api.domains.numbering.numbers import next_number
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


async def approve(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Checks that something is offered, and draws the number; revisions have that of their quote."""
    del body
    if not items_of(row, "lines"):
        raise invalid("/lines", "required", "A quote without lines cannot be offered.")
    return {"number": row["number"] or await next_number(ctx, resource, row["quoted_on"], prefix=PREFIX)}


async def send(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Notes when it was sent to the account; a draft is approved with it."""
    _refuse_outdated(row)
    return {**await approve(ctx, resource, row, body), "sent_at": ctx.now}


async def accept(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """The account takes the offer, which holds to the end of its last day."""
    del resource, body
    _refuse_outdated(row)
    return {"decided_at": ctx.now}


async def decline(ctx: Context, resource: Resource, row: Any, body: ReasonRequest) -> dict[str, Any]:
    """The account does not take the offer; keeps why."""
    del resource, row
    return {"decided_at": ctx.now, "reason": body.reason}


async def cancel(ctx: Context, resource: Resource, row: Any, body: ReasonRequest) -> dict[str, Any]:
    """Takes the offer back; keeps why."""
    del ctx, resource, row
    return {"reason": body.reason}


def _refuse_outdated(row: Any) -> None:
    if row["valid_until"] is not None and row["valid_until"] < today():
        detail = f"The quote was valid until {row['valid_until']}; revise it."
        raise Problem(CONFLICT, detail, [Fault("quote_expired", detail)])
