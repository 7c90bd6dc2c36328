"""The product with kinds of jobs in it: `create_app` serves it; run as a program, this is `crm-api worker`."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api import catalog
from crm_api.domains import accounts
from crm_api.domains.distribution import walk
from crm_api.domains.jobs.job import JobView
from crm_api.kernel.context import Context
from crm_api.kernel.domain import Catalog, Domain
from crm_api.kernel.headers import parse, read_body
from crm_api.kernel.jobs import accepted, start
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.unit_of_work import open_context, transact
from tests.support.jobs import MAKE_ACCOUNTS, Naming

router = APIRouter()


@router.post("/v1/make_accounts", operation_id="make_accounts")
async def make_accounts(request: Request) -> Response:
    ctx = await open_context(request)
    body = parse(await read_body(request), Naming)
    return accepted(await transact(ctx, lambda inner: start(inner, MAKE_ACCOUNTS, body)))


async def multiply(ctx: Context, resource: Resource, row: Any, body: Naming) -> dict[str, Any]:
    del resource, row
    return await start(ctx, MAKE_ACCOUNTS, body)


MULTIPLY = Action("multiply", "Make more", multiply, body=Naming, reply=JobView, status=202)
walk.STEP = 4  # so that a kill finds a job in the middle
ACCOUNTS, *_REST = accounts.DOMAIN.resources
_BUSY = replace(accounts.DOMAIN, resources=(replace(ACCOUNTS, actions=(*ACCOUNTS.actions, MULTIPLY)), *_REST))
catalog.CATALOG = Catalog(
    [
        *(_BUSY if domain is accounts.DOMAIN else domain for domain in catalog.CATALOG.domains),
        Domain("making", routers=(router,), jobs=(MAKE_ACCOUNTS,)),
    ]
)

from crm_api.app import create_app  # noqa: E402 - it reads the catalog

if __name__ == "__main__":
    from crm_api.commands.worker import work

    work()

__all__ = ["create_app"]
