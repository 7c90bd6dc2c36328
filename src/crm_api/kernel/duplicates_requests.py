"""Endpoints about duplicates: of a draft, of a record, of all; and the flag that allows one."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel import collections
from crm_api.kernel.context import Context
from crm_api.kernel.duplicates_scan import SCAN, Scan, ScanRequest
from crm_api.kernel.duplicates_search import MOST, candidates
from crm_api.kernel.external import referred
from crm_api.kernel.headers import boolean, parse, query, read_body
from crm_api.kernel.jobs import accepted, start
from crm_api.kernel.projection import Json
from crm_api.kernel.repository import get
from crm_api.kernel.resource import Resource
from crm_api.kernel.row import derived
from crm_api.kernel.schema import Wire
from crm_api.kernel.unit_of_work import permitted, transact

Endpoint = Callable[[Request], Awaitable[Response]]
_FLAGS = ("dry_run", "allow_duplicate")


class Duplicate(Wire):
    """A record that may mean the same."""

    object: Literal["duplicate"]
    score: Annotated[int, Field(ge=1, le=100)]
    rules: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=20, description="What matched.")]
    record: Annotated[dict[str, Any], Field(description="The record, as a GET sends it.")]


class DuplicateList(Wire):
    """Records that may mean the same, the most likely first."""

    data: Annotated[list[Duplicate], Field(max_length=MOST)]


def read_flags(ctx: Context, request: Request, *, suspects: Any) -> None:
    """Reads `dry_run`, and `allow_duplicate` where a record may be created."""
    pairs = query(request, _FLAGS if suspects else _FLAGS[:1])
    ctx.dry_run, ctx.allow_duplicate = boolean(pairs, "dry_run"), boolean(pairs, "allow_duplicate")


def duplicate_operations(resource: Resource) -> list[tuple[str, str, str, str, Endpoint]]:
    """(method, path, operation id, kind, endpoint) of each; they need what reading needs."""
    if resource.duplicates is None or not resource.duplicates.rules:
        return []
    one, many, base = resource.singular, resource.plural, f"/v1/{resource.plural}"
    return [
        ("POST", f"{base}/duplicates", f"find_duplicate_{many}", "duplicates", _of_draft(resource)),
        ("POST", f"{base}/duplicates/scan", f"scan_{many}", "scan", _scan(resource)),
        ("GET", f"{base}/{{id}}/duplicates", f"list_{one}_duplicates", "duplicates", _of_record(resource)),
    ]


def _of_draft(resource: Resource) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, resource, "read")
        query(request, ())
        assert resource.update is not None  # noqa: S101 - what may be a duplicate can be changed
        body = parse(await read_body(request), resource.update, resource.read_only)
        values = await referred(ctx, resource, body.model_dump(exclude_unset=True))
        return Json({"data": await candidates(ctx, resource, derived(resource, values))})

    return endpoint


def _of_record(resource: Resource) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, resource, "read")
        query(request, ())
        record = await get(ctx, resource, collections.path_id(request, resource))
        return Json({"data": await candidates(ctx, resource, record)})

    return endpoint


def _scan(resource: Resource) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, resource, "read")
        query(request, ())
        body = parse(await read_body(request) or b"{}", ScanRequest)
        asked = Scan(resource=resource.plural, score=body.score)
        return accepted(await transact(ctx, lambda inner: start(inner, SCAN, asked)))

    return endpoint
