"""Endpoints of what a verb tells: actions that read, and the list of what is possible now."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel import collections, repository
from crm_api.kernel.headers import query
from crm_api.kernel.obstacles import transitions
from crm_api.kernel.projection import Json
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.unit_of_work import permitted

Endpoint = Callable[[Request], Awaitable[Response]]


def reading_endpoint(resource: Resource, action: Action) -> Endpoint:
    """Runs a verb that only tells something about a record; one that writes is in `writes.py`."""
    permission = action.level or action.verb

    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, resource, permission)
        id_ = collections.path_id(request, resource)
        query(request, ())
        row = await repository.load(ctx, resource, id_, permission, lock=False)
        return Json(await action.run(ctx, resource, row, None), action.status)

    return endpoint


def transitions_endpoint(resource: Resource) -> Endpoint:
    """What can be done with a record now, by this caller, and what stands in the way of the rest."""

    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, resource, "read")
        query(request, ())
        id_ = collections.path_id(request, resource)
        row = await repository.load(ctx, resource, id_, "read", lock=False)
        return Json({"data": await transitions(ctx, resource, row["id"], row)})

    return endpoint
