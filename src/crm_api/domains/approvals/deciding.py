"""Verbs: approve, reject, withdraw, and pass the question on."""

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import Field

from crm_api.domains.approvals.asking import barred, current
from crm_api.domains.approvals.people import person
from crm_api.domains.identity.principal import PRINCIPALS
from crm_api.kernel.context import Context
from crm_api.kernel.external import To
from crm_api.kernel.parts import items_of
from crm_api.kernel.problems import CONFLICT, TRANSITION_REFUSED, Fault, Problem, forbidden, invalid
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Line, Ref, Wire
from crm_api.kernel.writes import run_edge

_MOST = 1000
_OTHER = "Somebody active, and neither who asked nor who drafted the document or changed its terms."

_AUTHOR = "Nobody decides a document that they drafted or whose terms they changed, nor a service account of theirs."


class ApproveRequest(Wire):
    """What the approver has to say."""

    comment: Line | None = None


class RejectRequest(Wire):
    """Why not."""

    comment: Line


class DelegateRequest(Wire):
    """Who is to decide instead."""

    principal_id: Annotated[Ref, To("principals"), Field(description=_OTHER)]
    comment: Line | None = None


async def approve(ctx: Context, resource: Resource, row: Any, body: ApproveRequest) -> dict[str, Any]:
    """Goes on to the next step that somebody else decides; after the last one the document moves on with it.

    Raises:
        Problem: 409 for whoever is barred; what the document itself refuses by now.
    """
    del resource
    others = await _refuse_own(ctx, row)
    decisions = _decided(ctx, row, "approved", body.comment)
    agreed = {item["principal_id"] for item in decisions if item["decision"] == "approved"}
    for step in range(row["step"] + 1, len(items_of(row, "steps"))):
        asked = await current(ctx, row, step, others)
        if asked["approver_id"] not in agreed:
            return {"status": "pending", "decisions": decisions, "reminders": 0, **asked}
    await run_edge(ctx, _document(ctx, row), row["object_id"], "approve")
    return {"decisions": decisions, **_over(ctx)}


async def reject(ctx: Context, resource: Resource, row: Any, body: RejectRequest) -> dict[str, Any]:
    """The document goes back to who asked, with the reason."""
    del resource
    await _refuse_own(ctx, row)
    await run_edge(ctx, _document(ctx, row), row["object_id"], "reject", body.comment)
    return {"decisions": _decided(ctx, row, "rejected", body.comment), **_over(ctx)}


async def withdraw(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Nobody is asked any more; the document is a draft again. Whose turn it is may not do this.

    Raises:
        Problem: 403 for whoever neither asked for it nor may withdraw all.
    """
    del body
    asked = ctx.principal.id is not None and str(row["requested_by_id"]) == str(ctx.principal.id)
    if not asked and "all" not in ctx.access.reach.get((resource.plural, "withdraw"), ()):
        raise forbidden(f"{resource.plural}:withdraw")
    await run_edge(ctx, _document(ctx, row), row["object_id"], "reject")
    return _over(ctx)


async def lapse(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """The document goes another way by itself."""
    del resource, row, body
    return _over(ctx)


async def delegate(ctx: Context, resource: Resource, row: Any, body: DelegateRequest) -> dict[str, Any]:
    """Asks somebody else at the same step.

    Raises:
        Problem: 422 for who is not there, not active, or barred; 409 when it is decided.
    """
    del resource
    if row["status"] != "pending":
        detail = f"An approval that is {row['status']} cannot be delegated."
        raise Problem(TRANSITION_REFUSED, detail, extra={"state": row["status"], "allowed_from": ["pending"]})
    others = await _refuse_own(ctx, row)
    seen = await find(ctx, PRINCIPALS, body.principal_id)
    found = None if seen is None else await person(ctx, seen["id"])
    if found is None:
        raise invalid("/principal_id", "reference_not_found", "There is no such principal that is active.")
    if found in others:
        raise invalid("/principal_id", *_own(row, found))
    decisions = _decided(ctx, row, "delegated", body.comment, found)
    return {"approver_id": found, "approver_role_id": None, "decisions": decisions, "reminders": 0}


def _over(ctx: Context) -> dict[str, Any]:
    """Nobody is reminded any more; who was asked last stays named."""
    return {"decided_at": ctx.now, "remind_at": None}


async def _refuse_own(ctx: Context, row: Any) -> Collection[str]:
    """409 for whoever is barred; else the ids of those who are."""
    others = await barred(ctx, row)
    if str(ctx.principal.id) in others:
        code, detail = _own(row, str(ctx.principal.id))
        raise Problem(CONFLICT, detail, [Fault(code, detail)])
    return others


def _own(row: Any, id_: str) -> tuple[str, str]:
    """Why somebody is barred: the code and what it means."""
    if id_ == str(row["requested_by_id"]):
        return "own_request", "Nobody decides what they asked for themselves."
    return "own_document", _AUTHOR


def _decided(ctx: Context, row: Any, decision: str, comment: str | None, to: str | None = None) -> list[dict[str, Any]]:
    decisions = items_of(row, "decisions")
    if len(decisions) >= _MOST:
        raise Problem(CONFLICT, f"There are {_MOST} decisions already; decide it, or withdraw it.")
    said = {"step": row["step"], "decision": decision, "principal_id": str(ctx.principal.id)}
    return [*decisions, {**said, "to_id": to, "comment": comment, "decided_at": ctx.now.isoformat()}]


def _document(ctx: Context, row: Any) -> Resource:
    return ctx.kernel.catalog.by_type[row["object_type"]]
