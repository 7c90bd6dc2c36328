"""Endpoints of verbs: hand-written actions, lifecycle edges and the list of what is possible now."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel import collections, jobs, repository
from crm_api.kernel.context import Context
from crm_api.kernel.headers import boolean, idempotency_key, if_match, minimal, parse, query, read_body
from crm_api.kernel.idempotency import identify
from crm_api.kernel.lifecycle import Edge
from crm_api.kernel.problems import TRANSITION_REFUSED, Problem
from crm_api.kernel.projection import Json
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Wire
from crm_api.kernel.stale import stale
from crm_api.kernel.unit_of_work import Outcome, open_context, write

Endpoint = Callable[[Request], Awaitable[Response]]


def action_endpoint(resource: Resource, action: Action) -> Endpoint:
    """Locks the row, runs the verb, records what it changed and its event."""
    permission = action.level or action.verb

    async def endpoint(request: Request) -> Response:
        ctx = await open_context(request)
        ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, resource, permission)
        id_ = collections.path_id(request, resource)
        if action.method == "GET":
            query(request, ())
            row = await repository.load(ctx, resource, id_, permission, lock=False)
            return Json(await action.run(ctx, resource, row, None), action.status)
        ctx.dry_run = boolean(query(request, ("dry_run",)), "dry_run")
        ctx.private = action.private
        expected = if_match(request)
        raw = await read_body(request)
        body = parse(raw or b"{}", action.body) if action.body else None
        if action.body is None and raw:
            parse(raw, _Nothing)
        if key := idempotency_key(request):
            ctx.idempotency = identify(ctx, key, action.method, request.scope["path"], raw)

        async def work(inner: Context) -> dict[str, Any]:
            row = await repository.load(inner, resource, id_, permission)
            if expected is not None and row["version"] != expected:
                raise await stale(inner, resource, row["id"], expected, row["version"])
            result = await action.run(inner, resource, row, body)
            if action.reply is not None:
                return dict(result or {})
            events = ("updated", action.event) if action.event else ("updated",)
            update = partial(repository.update, action=permission, recorded=action.verb, events=events, by_verb=True)
            return await update(inner, resource, row["id"], result)

        outcome = await write(ctx, work, action.status, single=False)
        closed = resource.plural in ctx.access.closed  # may write such records, but not read them
        return _answer(
            outcome, minimal=action.reply is None and minimal(request), closed=action.reply is None and closed
        )

    return endpoint


def edge_endpoint(resource: Resource, edge: Edge) -> Endpoint:
    """Moves a record along one edge of its graph."""
    assert resource.lifecycle is not None  # noqa: S101 - the caller found the edge in it
    column = resource.lifecycle.column

    async def run(ctx: Context, resource: Resource, row: Any, body: Any) -> dict[str, Any]:
        del ctx, body
        if row[column] not in edge.sources:
            raise Problem(
                TRANSITION_REFUSED,
                f"A {resource.singular} that is {row[column]} cannot be moved by {edge.verb}.",
                extra={"state": row[column], "allowed_from": sorted(edge.sources)},
            )
        return {column: edge.target}

    return action_endpoint(resource, Action(edge.verb, "", run, event=edge.event))


def transitions_endpoint(resource: Resource) -> Endpoint:
    """What can be done with a record now, by this caller, and what stands in the way of the rest."""

    async def endpoint(request: Request) -> Response:
        ctx = await open_context(request)
        ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, resource, "read")
        query(request, ())
        id_ = collections.path_id(request, resource)
        row = await repository.load(ctx, resource, id_, "read", lock=False)
        return Json({"data": await transitions(ctx, resource, row["id"], row)})

    return endpoint


async def transitions(ctx: Context, resource: Resource, id_: str, row: Any) -> list[dict[str, Any]]:
    """Each edge with whether it is open and the reasons that block it."""
    assert resource.lifecycle is not None  # noqa: S101 - the operation exists only with a lifecycle
    found = []
    state = row[resource.lifecycle.column]
    for edge in resource.lifecycle.edges:
        reasons = []
        if state not in edge.sources:
            reasons.append(
                {
                    "code": "state",
                    "detail": f"The state is {state}; it must be one of {', '.join(sorted(edge.sources))}.",
                }
            )
        permitted = (
            ctx.access.may(resource.plural, edge.verb)
            and await repository.find(ctx, resource, id_, action=edge.verb) is not None
        )
        if not permitted:
            reasons.append(
                {"code": "permission", "detail": f"This needs the permission {resource.plural}:{edge.verb}."}
            )
        found.append({"action": edge.verb, "to": edge.target, "allowed": not reasons, "blocked_by": reasons})
    return found


def _answer(outcome: Outcome, *, minimal: bool, closed: bool) -> Response:
    headers = {"ETag": f'"{outcome.item["version"]}"'} if "version" in outcome.item else {}
    if outcome.replayed:
        headers["Idempotency-Replayed"] = "true"
    if outcome.status == 202:
        headers |= jobs.place(outcome.item)
    if minimal:
        headers["Preference-Applied"] = "return=minimal"
    if minimal or closed or outcome.status == 204:
        return Response(status_code=204, headers=headers)
    return Json(outcome.item, outcome.status, headers)


class _Nothing(Wire):
    """The body of a verb without input: absent or {}."""
