"""When a sales document needs approval."""

from typing import Any

from crm_api.domains.approvals.asking import Demand, Facts, demanded, withdraw_open
from crm_api.kernel.context import Context
from crm_api.kernel.problems import CONFLICT, Fault, Problem
from crm_api.kernel.resource import Resource


async def demand_of(ctx: Context, resource: Resource, row: Any) -> Demand | None:
    """The approval that the caller needs for a loaded document; None once it is approved as it is."""
    if row["is_approved"]:
        return None
    figures = (row[name] for name in ("currency", "gross_total", "deepest_discount", "known_margin"))
    facts = Facts(str(row["account_id"]), *figures)
    return await demanded(ctx, resource.singular, facts)


def approval_required(demand: Demand) -> Problem:
    """409 with each reason why."""
    faults = [Fault("approval_required", str(reason["detail"])) for reason in demand.reasons]
    return Problem(CONFLICT, "This needs approval first.", faults)


async def reject(ctx: Context, resource: Resource, row: Any, body: str | None) -> dict[str, Any]:
    """Of a document that waits: one who was asked does not agree; keeps why."""
    del ctx, resource, row
    return {"reason": body}


async def reopen(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Takes a document back from who was asked."""
    del body
    await withdraw_open(ctx, resource, row["id"])
    return {}
