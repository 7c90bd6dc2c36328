"""Resource to operations: the endpoints that every noun has, and the one-look-up dispatch to them."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel import collections, history, jobs, repository
from crm_api.kernel.actions import reading_endpoint, transitions_endpoint
from crm_api.kernel.aggregate import aggregate_endpoint
from crm_api.kernel.batch_requests import batch_endpoint, batched, collection_endpoint
from crm_api.kernel.context import Context
from crm_api.kernel.domain import Domain
from crm_api.kernel.duplicates_requests import duplicate_operations, read_flags
from crm_api.kernel.external_sources import ignored_fields
from crm_api.kernel.headers import (
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
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.unit_of_work import Outcome, open_context, permitted
from crm_api.kernel.writes import Write, actions_of, carry_out, writes

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
    one, many, base = resource.singular, resource.plural, f"/v1/{resource.plural}"
    reads = [
        ("GET", base, f"list_{many}", "list", collections.list_endpoint(resource)),
        ("POST", f"{base}/search", f"search_{many}", "search", collections.search_endpoint(resource)),
        ("POST", f"{base}/aggregate", f"aggregate_{many}", "aggregate", aggregate_endpoint(resource)),
        ("GET", f"{base}/{{id}}", f"get_{one}", "get", _get(resource)),
    ]
    reads = [line for line in reads if line[3] in resource.operations]
    for column, step in resource.within.items():
        path, name = f"/v1/{resource.references[column]}/{{id}}/{step}", f"list_{many}_of_{column.removesuffix('_id')}"
        reads.append(("GET", path, name, "within", collections.list_endpoint(resource, column)))
    reads += duplicate_operations(resource)
    if resource.lifecycle:
        path, name = f"{base}/{{id}}/transitions", f"list_{one}_transitions"
        reads.append(("GET", path, name, "transitions", transitions_endpoint(resource)))
    found = [Operation(*line[:4], resource, line[4], f"{many}:read") for line in reads]
    if batched(resource):
        name, endpoint = f"batch_{many}", collection_endpoint(resource)
        found.append(Operation("POST", f"{base}/batch", name, "batch", resource, endpoint, ""))
    for way in writes(resource):
        said = (way.method, way.path, way.operation_id, way.kind, resource)
        found.append(Operation(*said, _write(way), f"{many}:{way.permission}", way.action))
    for action in actions_of(resource):
        if action.method == "GET":
            said = ("GET", f"{base}/{{id}}/{action.path or action.verb}", f"{action.verb}_{one}", "action", resource)
            needs = f"{many}:{action.level or action.verb}"
            found.append(Operation(*said, reading_endpoint(resource, action), needs, action))
    return tuple(found)


def mount(domain: Domain) -> APIRouter:
    """The router of the domain's derived operations, under /v1."""
    router = APIRouter(tags=[domain.name])
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

    def __init__(self, found: Iterable[tuple[str, str, Endpoint]]) -> None:
        self._routes: dict[tuple[str, ...], dict[str, Endpoint]] = {("batch",): {"POST": batch_endpoint()}}
        for method, path, endpoint in found:
            steps = tuple("" if step == "{id}" else step for step in path.split("/")[2:])
            self._routes.setdefault(steps, {})[method] = endpoint
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
        named = self._routes.get(tuple(steps[2:])) or self._routes.get((steps[2], "", *steps[4:]))
        return named if steps[-1] else None, steps[3], True


def etag(item: dict[str, Any]) -> str:
    """The entity tag of a record: its version."""
    return f'"{item["version"]}"'


def _get(resource: Resource) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, resource, "read")
        pairs = query(request, ("expand", "as_of") if resource.history else ("expand",))
        if (instant := history.parse_as_of(ctx, single(pairs, "as_of"))) is not None:
            return await history.get_as_of(ctx, resource, collections.path_id(request, resource), instant, pairs)
        expand = collections.parse_expand(ctx, resource, single(pairs, "expand"))
        item = await repository.get(ctx, resource, collections.path_id(request, resource), expand)
        if if_none_match(request, item["version"]):
            return Response(status_code=304, headers={"ETag": etag(item)})
        return Json(item, 200, {"ETag": etag(item)})

    return endpoint


def _write(declared: Write) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        ctx = await open_context(request)
        declared.permit(ctx)
        read_flags(ctx, request, suspects=declared.resource.duplicates and declared.kind in ("create", "upsert"))
        id_ = "" if declared.creates else declared.address(request.path_params["id"])
        expected, matched = _expected(request, declared) if declared.matches else (None, False)
        raw, body = b"", None
        if declared.model is not None:
            raw = await read_body(request)
            body = declared.read(raw)
        work, one = declared.prepare(id_, body, expected, matched)
        if key := idempotency_key(request):
            ctx.idempotency = identify(ctx, key, declared.method, request.scope["path"], raw)
            one = one and declared.keyed
        return _reply(request, ctx, declared, await carry_out(ctx, declared, work, single=one))

    return endpoint


def _expected(request: Request, declared: Write) -> tuple[int | None, bool]:
    expected = if_match(request)
    matched = expected is not None or header(request, b"if-match") is not None
    declared.check(given=matched)
    return expected, matched


def _reply(request: Request, ctx: Context, declared: Write, outcome: Outcome) -> Response:
    item = outcome.item
    headers = {"ETag": etag(item)} if "version" in item and not declared.replies else {}
    if outcome.status == 201 and not declared.replies:
        headers["Location"] = f"/v1/{declared.resource.plural}/{item['id']}"
    if outcome.replayed:
        headers["Idempotency-Replayed"] = "true"
    if outcome.status == 202:
        headers |= jobs.place(item)
    if outcome.ignored:
        headers["Ignored-Fields"] = ignored_fields(outcome.ignored)
    short = not declared.replies and minimal(request)
    status, whole = declared.shown(outcome.status, ctx.access, minimal=short)
    if short and outcome.status != 204:
        headers["Preference-Applied"] = "return=minimal"
    return Json(item, status, headers) if whole else Response(status_code=status, headers=headers)
