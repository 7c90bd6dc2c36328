"""Resource to operations: the endpoints that every noun has, and the one-look-up dispatch to them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel import collections, repository
from crm_api.kernel.actions import action_endpoint, edge_endpoint, transitions_endpoint
from crm_api.kernel.aggregate import aggregate_endpoint
from crm_api.kernel.external_links import link_actions
from crm_api.kernel.external_sources import ignored_fields
from crm_api.kernel.headers import (
    boolean,
    header,
    idempotency_key,
    if_match,
    if_none_match,
    minimal,
    parse,
    query,
    read_body,
    single,
)
from crm_api.kernel.idempotency import identify
from crm_api.kernel.problems import PRECONDITION_REQUIRED, Problem
from crm_api.kernel.projection import Json
from crm_api.kernel.resource import Action, Domain, Resource
from crm_api.kernel.sharing import share_actions
from crm_api.kernel.unit_of_work import Outcome, open_context, write
from crm_api.kernel.upsert import upsert_endpoint

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """One method on one path, with what the contract says about it."""

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
    table: list[tuple[str, str, str, str, str, Endpoint, str]] = [
        ("list", "GET", base, f"list_{many}", "list", collections.list_endpoint(resource), "read"),
        ("create", "POST", base, f"create_{one}", "create", _create(resource), "create"),
        ("search", "POST", f"{base}/search", f"search_{many}", "search", collections.search_endpoint(resource), "read"),
        (
            "aggregate",
            "POST",
            f"{base}/aggregate",
            f"aggregate_{many}",
            "aggregate",
            aggregate_endpoint(resource),
            "read",
        ),
        ("get", "GET", f"{base}/{{id}}", f"get_{one}", "get", _get(resource), "read"),
        ("update", "PATCH", f"{base}/{{id}}", f"update_{one}", "update", _update(resource), "update"),
        ("delete", "DELETE", f"{base}/{{id}}", f"delete_{one}", "delete", _delete(resource), "delete"),
        ("upsert", "PUT", f"{base}/{{id}}", f"upsert_{one}", "upsert", upsert_endpoint(resource, reply), "create"),
        ("restore", "POST", f"{base}/{{id}}/restore", f"restore_{one}", "restore", _restore(resource), "delete"),
    ]
    found = [
        Operation(method, path, operation_id, kind, resource, endpoint, f"{many}:{permission}")
        for name, method, path, operation_id, kind, endpoint, permission in table
        if name in (resource.operations | {"upsert"} if resource.upserts else resource.operations)
    ]
    if resource.lifecycle:
        for edge in resource.lifecycle.edges:
            found.append(
                Operation(
                    "POST",
                    f"{base}/{{id}}/{edge.verb}",
                    f"{edge.verb}_{one}",
                    "edge",
                    resource,
                    edge_endpoint(resource, edge),
                    f"{many}:{edge.verb}",
                )
            )
        found.append(
            Operation(
                "GET",
                f"{base}/{{id}}/transitions",
                f"list_{one}_transitions",
                "transitions",
                resource,
                transitions_endpoint(resource),
                f"{many}:read",
            )
        )
    derived = [*(share_actions() if resource.owned else ()), *(link_actions() if resource.update else ())]
    for action in [*resource.actions, *derived]:
        found.append(
            Operation(
                action.method,
                f"{base}/{{id}}/{action.path or action.verb}",
                f"{action.verb}_{one}",
                "action",
                resource,
                action_endpoint(resource, action),
                f"{many}:{action.level or action.verb}",
                action,
            )
        )
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
        self._routes: dict[tuple[str, ...], dict[str, Endpoint]] = {}
        for operation in found:
            steps = tuple("" if step == "{id}" else step for step in operation.path.split("/")[2:])
            self._routes.setdefault(steps, {})[operation.method] = operation.endpoint
        self.collections = {steps[0] for steps in self._routes}

    def find(self, path: str) -> tuple[dict[str, Endpoint] | None, str, bool]:
        """(methods of the path or None, the id in it, whether the collection is one of ours)."""
        return self._find(path.split("/"))

    def find_encoded(self, raw: bytes) -> tuple[dict[str, Endpoint] | None, str, bool]:
        """The same for a path with an encoded slash, which only an external id may hold."""
        try:
            steps = [unquote(step, errors="strict") for step in raw.decode("ascii").split("/")]
        except ValueError:
            return None, "", True
        free = {3} if len(steps) > 3 and steps[3].startswith("ext:") else set()
        if any("/" in step for place, step in enumerate(steps) if place not in free):
            return None, "", True
        return self._find(steps)

    def _find(self, steps: list[str]) -> tuple[dict[str, Endpoint] | None, str, bool]:
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


def reply(request: Request, resource: Resource, outcome: Outcome) -> Response:
    """The answer to a write of a record."""
    headers = {"ETag": etag(outcome.item)} if "version" in outcome.item else {}
    if outcome.status == 201:
        headers["Location"] = f"/v1/{resource.plural}/{outcome.item['id']}"
    if outcome.replayed:
        headers["Idempotency-Replayed"] = "true"
    if outcome.ignored:
        headers["Ignored-Fields"] = ignored_fields(outcome.ignored)
    if outcome.status == 204:
        return Response(status_code=204, headers=headers)
    if minimal(request):
        headers["Preference-Applied"] = "return=minimal"
    if minimal(request) or resource.plural in request.scope["crm.access"].closed:  # may write them, but not read them
        return Response(status_code=outcome.status if outcome.status == 201 else 204, headers=headers)
    return Json(outcome.item, outcome.status, headers)


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


def _create(resource: Resource) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        ctx = await open_context(request)
        ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, resource, "create")
        ctx.dry_run = boolean(query(request, ("dry_run",)), "dry_run")
        raw = await read_body(request)
        assert resource.create is not None  # noqa: S101 - the operation exists only with a create schema
        body = parse(raw, resource.create, resource.read_only)
        values = body.model_dump()
        if key := idempotency_key(request):
            ctx.idempotency = identify(ctx, key, "POST", request.scope["path"], raw)
        outcome = await write(
            ctx,
            lambda inner: repository.create(inner, resource, values, given=body.model_fields_set),
            201,
            single=not resource.touched(values),
        )
        return reply(request, resource, outcome)

    return endpoint


def _update(resource: Resource) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        ctx = await open_context(request)
        ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, resource, "update")
        ctx.dry_run = boolean(query(request, ("dry_run",)), "dry_run")
        id_ = collections.path_id(request, resource)
        expected = precondition(request, resource)
        raw = await read_body(request)
        assert resource.update is not None  # noqa: S101 - the operation exists only with an update schema
        body = parse(raw, resource.update, resource.read_only | resource.once)
        whole = body.model_dump()  # exclude_unset would leave out the defaults of parts, too
        values = {name: whole[name] for name in whole if name in body.model_fields_set}
        if key := idempotency_key(request):
            ctx.idempotency = identify(ctx, key, "PATCH", request.scope["path"], raw)

        async def work(inner: Any) -> dict[str, Any]:
            if not values:
                return await repository.get(inner, resource, id_)
            return await repository.update(inner, resource, id_, values, if_match=expected)

        outcome = await write(ctx, work, 200, single=ctx.idempotency is None and not resource.touched(values))
        return reply(request, resource, outcome)

    return endpoint


def _delete(resource: Resource) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        ctx = await open_context(request)
        ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, resource, "delete")
        ctx.dry_run = boolean(query(request, ("dry_run",)), "dry_run")
        id_ = collections.path_id(request, resource)
        expected = precondition(request, resource)
        if key := idempotency_key(request):
            ctx.idempotency = identify(ctx, key, "DELETE", request.scope["path"], b"")

        async def work(inner: Any) -> dict[str, Any]:
            await repository.delete(inner, resource, id_, if_match=expected)
            return {}

        return reply(request, resource, await write(ctx, work, 204, single=ctx.idempotency is None))

    return endpoint


def _restore(resource: Resource) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        ctx = await open_context(request)
        ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, resource, "delete")
        ctx.dry_run = boolean(query(request, ("dry_run",)), "dry_run")
        id_ = collections.path_id(request, resource)
        if key := idempotency_key(request):
            ctx.idempotency = identify(ctx, key, "POST", request.scope["path"], b"")
        outcome = await write(
            ctx,
            lambda inner: repository.restore(inner, resource, id_),
            200,
            single=ctx.idempotency is None and not resource.checks,
        )
        return reply(request, resource, outcome)

    return endpoint


def precondition(request: Request, resource: Resource) -> int | None:
    """If-Match, where the resource insists on it 428 without."""
    expected = if_match(request)
    if expected is None and resource.require_match and header(request, b"if-match") is None:
        raise Problem(PRECONDITION_REQUIRED, "Send If-Match with the ETag of the version you read.")
    return expected
