"""Resource to operations: the endpoints that every noun has, and the one-look-up dispatch to them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel import collections, repository
from crm_api.kernel.actions import reading_endpoint, transitions_endpoint
from crm_api.kernel.aggregate import aggregate_endpoint
from crm_api.kernel.batch_requests import batch_endpoint, batched, collection_endpoint
from crm_api.kernel.context import Context
from crm_api.kernel.headers import (
    boolean,
    header,
    idempotency_key,
    if_match,
    if_none_match,
    minimal,
    query,
    read_body,
    single,
)
from crm_api.kernel.idempotency import identify
from crm_api.kernel.projection import Json
from crm_api.kernel.resource import Action, Domain, Resource
from crm_api.kernel.unit_of_work import Outcome, open_context, write
from crm_api.kernel.writes import Write, actions_of, writes

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """One method on one path, with what the contract says about it.

    `permission` is what it needs; a batch needs that of each item, and has none of its own.
    """

    method: str
    path: str
    operation_id: str
    kind: str
    resource: Resource
    endpoint: Endpoint
    permission: str
    action: Action | None = field(default=None)


@cache
def operations(resource: Resource) -> tuple[Operation, ...]:
    """Everything a client can do with a resource."""
    one, many = resource.singular, resource.plural
    base = f"/v1/{many}"
    reads: list[tuple[str, str, str, str, Endpoint]] = [
        ("list", "GET", base, f"list_{many}", collections.list_endpoint(resource)),
        ("search", "POST", f"{base}/search", f"search_{many}", collections.search_endpoint(resource)),
        ("aggregate", "POST", f"{base}/aggregate", f"aggregate_{many}", aggregate_endpoint(resource)),
        ("get", "GET", f"{base}/{{id}}", f"get_{one}", _get(resource)),
    ]
    found = [
        Operation(method, path, operation_id, kind, resource, endpoint, f"{many}:read")
        for kind, method, path, operation_id, endpoint in reads
        if kind in resource.operations
    ]
    if batched(resource):
        endpoint = collection_endpoint(resource)
        found.append(Operation("POST", f"{base}/batch", f"batch_{many}", "batch", resource, endpoint, ""))
    for item in writes(resource):
        permission, endpoint = f"{many}:{item.permission}", _write(item)
        path, operation_id = item.path, item.operation_id
        found.append(Operation(item.method, path, operation_id, item.kind, resource, endpoint, permission, item.action))
    if resource.lifecycle:
        path, operation_id = f"{base}/{{id}}/transitions", f"list_{one}_transitions"
        endpoint = transitions_endpoint(resource)
        found.append(Operation("GET", path, operation_id, "transitions", resource, endpoint, f"{many}:read"))
    for action in actions_of(resource):
        if action.method == "GET":
            path, operation_id = f"{base}/{{id}}/{action.path or action.verb}", f"{action.verb}_{one}"
            endpoint, permission = reading_endpoint(resource, action), f"{many}:{action.level or action.verb}"
            found.append(Operation("GET", path, operation_id, "action", resource, endpoint, permission, action))
    return tuple(found)


def mount(domain: Domain) -> APIRouter:
    """The domain's router: its derived operations and its hand-written routers, under /v1."""
    router = APIRouter(tags=[domain.name])
    for hand_written in domain.routers:
        router.include_router(hand_written)
    for resource in domain.resources:
        for operation in operations(resource):
            router.add_api_route(
                operation.path,
                operation.endpoint,
                methods=[operation.method],
                name=operation.operation_id,
                operation_id=operation.operation_id,
                include_in_schema=False,
                response_model=None,
            )
    return router


class Dispatch:
    """Path to endpoint by dictionary, whatever the number of resources."""

    def __init__(self, found: list[Operation]) -> None:
        self._routes: dict[tuple[str, ...], dict[str, Endpoint]] = {("batch",): {"POST": batch_endpoint()}}
        for operation in found:
            steps = tuple("" if step == "{id}" else step for step in operation.path.split("/")[2:])
            self._routes.setdefault(steps, {})[operation.method] = operation.endpoint
        self.collections = {steps[0] for steps in self._routes}

    def find(self, path: str) -> tuple[dict[str, Endpoint] | None, str, bool]:
        """(methods of the path or None, the id in it, whether the collection is one of ours)."""
        steps = path.split("/")
        if len(steps) < 3 or steps[0] or steps[1] != "v1" or steps[2] not in self.collections:
            return None, "", False
        size = len(steps)
        if size == 3:
            return self._routes.get((steps[2],)), "", True
        if size == 4:
            named = self._routes.get((steps[2], steps[3]))
            return (named, "", True) if named else (self._routes.get((steps[2], "")), steps[3], True)
        return self._routes.get((steps[2], "", *steps[4:])) if steps[-1] else None, steps[3], True


def etag(item: dict[str, Any]) -> str:
    """The entity tag of a record: its version."""
    return f'"{item["version"]}"'


def _get(resource: Resource) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        ctx = await open_context(request)
        ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, resource, "read")
        pairs = query(request, ("expand",))
        expand = collections.parse_expand(ctx, resource, single(pairs, "expand"))
        item = await repository.get(ctx, resource, collections.path_id(request, resource), expand)
        if if_none_match(request, item["version"]):
            return Response(status_code=304, headers={"ETag": etag(item)})
        return Json(item, 200, {"ETag": etag(item)})

    return endpoint


_DRY_RUN = ("dry_run",)


def _write(declared: Write) -> Endpoint:
    resource = declared.resource

    async def endpoint(request: Request) -> Response:
        ctx = await open_context(request)
        ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, resource, declared.permission)
        ctx.dry_run = boolean(query(request, _DRY_RUN), "dry_run")
        id_ = "" if declared.creates else collections.path_id(request, resource)
        expected = _expected(request, declared)
        raw, body = b"", None
        if declared.model is not None:
            raw = await read_body(request)
            body = declared.read(raw)
        work, one = declared.prepare(id_, body, expected)
        if key := idempotency_key(request):
            ctx.idempotency = identify(ctx, key, declared.method, request.scope["path"], raw)
            one = one and declared.keyed
        outcome = await write(ctx, work, declared.status, single=one, kept=declared.kept)
        return _reply(request, ctx, declared, outcome)

    return endpoint


def _expected(request: Request, declared: Write) -> int | None:
    if not declared.matches:
        return None
    expected = if_match(request)
    declared.check(expected, given=expected is not None or header(request, b"if-match") is not None)
    return expected


def _reply(request: Request, ctx: Context, declared: Write, outcome: Outcome) -> Response:
    item = outcome.item
    headers = {"ETag": etag(item)} if "version" in item else {}
    if declared.creates:
        headers["Location"] = f"/v1/{declared.resource.plural}/{item['id']}"
    if outcome.replayed:
        headers["Idempotency-Replayed"] = "true"
    short = not declared.replies and minimal(request)
    status, whole = declared.shown(outcome.status, ctx.access, minimal=short)
    if short and outcome.status != 204:
        headers["Preference-Applied"] = "return=minimal"
    return Json(item, status, headers) if whole else Response(status_code=status, headers=headers)
