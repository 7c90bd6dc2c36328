"""Verbs: stop a job, and take one up again."""

from typing import Any

from crm_api.kernel.context import Context
from crm_api.kernel.jobs import moved
from crm_api.kernel.resource import Action, Resource


async def cancel(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Stops a job that waits or runs. What its steps have done so far stays; no step is done after the answer."""
    del resource, body
    return {"state": moved(row, "cancel"), "finished_at": ctx.now, "lease": None, "lease_until": None}


async def retry(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Puts a failed or cancelled job back in the queue; it goes on after the last step that was done."""
    del resource, body
    found = {
        "state": moved(row, "retry"),
        "run_at": ctx.now,
        "attempts": 0,
        "problem": None,
        "finished_at": None,
    }
    if str(ctx.principal.id) == row["created_by"]:  # an originator whose key was replaced goes on with the new one
        scopes = ctx.principal.scopes
        found |= {
            "credential_id": ctx.principal.credential_id,
            "scopes": None if scopes is None else sorted(scopes),
        }
    return found


CANCEL = Action("cancel", "Stop the job", cancel, event="cancelled")
RETRY = Action("retry", "Take up a failed or cancelled job again", retry, event="retried")
