"""Builds the ASGI application from the catalog."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from crm_api import __version__, logging, memory, reference
from crm_api.bootstrap import check_server_role
from crm_api.catalog import CATALOG
from crm_api.domains.deprecation.notice import Notices
from crm_api.domains.deprecation.use import USES
from crm_api.domains.identity.access import Identity
from crm_api.domains.limits.limiter import Gate, Policies
from crm_api.domains.limits.reconcile import SECONDS, Reconciliation
from crm_api.domains.oauth.access_token import AccessTokens
from crm_api.domains.oauth.signing_keys import SigningKeys
from crm_api.kernel import metrics
from crm_api.kernel.collective import collective_operations
from crm_api.kernel.context import Kernel
from crm_api.kernel.database import Database, Limits
from crm_api.kernel.edge import Edge, Outcry, problem_response
from crm_api.kernel.policy import Policy
from crm_api.kernel.problems import (
    METHOD_NOT_ALLOWED,
    ConfigurationError,
    Fault,
    Problem,
    no_path,
    wrong,
)
from crm_api.kernel.router import Dispatch, Endpoint, mount, operations
from crm_api.kernel.sealing import Sealer
from crm_api.kernel.signing import Signer
from crm_api.kernel.spec import document
from crm_api.kernel.spec_deprecation import deprecations, watch
from crm_api.settings import Settings, derive_key, load_settings
from crm_api.worker.jobs import sample
from crm_api.worker.loops import beside, every
from crm_api.worker.run import loops


def limits(settings: Settings) -> Limits:
    """The bounds of what requests do."""
    return Limits(
        size=settings.pool_size,
        wait_seconds=settings.pool_timeout,
        statement=settings.statement_timeout,
        lock=settings.lock_timeout,
        local_tenant=settings.tenant_context == "transaction",
    )


def worker_limits(settings: Settings) -> Limits:
    """The bounds of what is done beside requests, on connections of its own: larger, and nobody waits meanwhile."""
    return Limits(
        size=settings.worker_pool_size,
        wait_seconds=10,
        statement=20_000,
        lock=2_000,
        transaction=30_000,
        idle_in_transaction=20_000,
        local_tenant=settings.tenant_context == "transaction",
    )


def build_kernel(settings: Settings, url: str, bounds: Limits | None = None) -> Kernel:
    """What lives as long as the process; `bounds` are those of requests unless others are given."""
    database = Database(url, bounds or limits(settings))
    masters = settings.master_secrets()

    def keys(purpose: str) -> tuple[bytes, ...]:
        return tuple(derive_key(master, purpose) for master in masters)

    sealer = Sealer(*keys("sealing"))
    return Kernel(
        database,
        CATALOG,
        Policy(CATALOG),
        Identity(database, CATALOG, (AccessTokens(database, SigningKeys(database, sealer), settings.issuer),)),
        keys("cursor"),
        sealer,
        Signer(*keys("signing")),
        Gate(Policies.of(settings)),
    )


def create_app(settings: Settings | None = None) -> Edge | Notices:
    """The application; `uvicorn --factory crm_api.app:create_app` serves it."""
    settings = settings or load_settings()
    logging.configure(settings.log_level, settings.log_format)
    access_log = logging.AccessLog(settings.log_level, settings.log_format)
    if settings.database_url is None:
        raise ConfigurationError("CRM_DATABASE_URL is not set; `crm-api serve` starts an embedded PostgreSQL for you.")
    url = settings.database_url

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if settings.environment == "production":
            await check_server_role(url)
        kernel = build_kernel(settings, url)
        await kernel.database.open()
        edge.kernel = kernel
        memory.settle()
        identity, gate = kernel.authenticator, kernel.limiter
        assert isinstance(identity, Identity)  # noqa: S101 - narrows the type
        assert isinstance(gate, Gate)  # noqa: S101 - narrows the type
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(
                    beside(
                        every(60, identity.flush),
                        every(60, partial(USES.flush, kernel.database)),
                        every(SECONDS, Reconciliation(gate, kernel.database).settle),
                        every(15, partial(sample, kernel.database)),
                        metrics.watch(kernel.database),
                    )
                )
                if settings.worker:
                    hands = replace(build_kernel(settings, url, worker_limits(settings)), bells=kernel.bells)
                    stack.push_async_callback(hands.database.close)
                    await stack.enter_async_context(beside(*loops(hands, settings)))
                yield
        finally:
            with suppress(Exception):  # the database may be gone already; last-used times are not worth a hang
                await asyncio.wait_for(identity.flush(), 2)
                await asyncio.wait_for(USES.flush(kernel.database), 2)
            await kernel.database.close()
            access_log.flush()

    app = FastAPI(
        title="CRM API",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Outcry)
    for domain in CATALOG.domains:  # first what the dispatch does not find: routes are matched one by one
        for router in domain.routers:
            app.include_router(router, tags=[domain.name])
        for router in domain.pages:
            app.include_router(router, include_in_schema=False)
    for domain in CATALOG.domains:
        app.include_router(mount(domain))
    app.include_router(reference.router)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    found = [operation for resource in CATALOG.resources.values() for operation in operations(resource)]
    found += collective_operations(CATALOG)
    routes = [(operation.method, operation.path, operation.endpoint) for operation in found]
    routes += [route for domain in CATALOG.domains for router in domain.routers for route in _beside(router)]
    edge = Edge(
        app,
        Dispatch(routes),
        access_log=access_log,
        metrics_token=settings.metrics_token.get_secret_value() if settings.metrics_token else None,
        max_body=settings.max_body,
        origins=settings.cors_origins,
        proxies=settings.trusted_proxies,
    )
    return Notices(edge, watch(CATALOG, document(CATALOG)), USES) if deprecations(CATALOG) else edge


def _beside(router: APIRouter) -> Iterator[tuple[str, str, Endpoint]]:
    """Hand-written operations on the paths of a resource, and others whose endpoints take the request, as theirs do."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            alone = signature(route.endpoint).parameters.keys() == {"request"}
            if alone or route.path.split("/")[2] in CATALOG.resources:
                yield from ((method, route.path, route.endpoint) for method in route.methods or ())


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for it
    return problem_response(request.scope, error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    faults = [_fault(item) for item in error.errors()]
    return problem_response(request.scope, wrong(faults))


def _fault(item: Any) -> Fault:
    place, *rest = (str(part) for part in item["loc"])
    code = "required" if item["type"] == "missing" else str(item["type"])
    if place == "query":
        return Fault(code, str(item["msg"]), parameter=".".join(rest))
    return Fault(code, str(item["msg"]), pointer="/" + "/".join(rest))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "GET")
        methods = sorted({*allow.replace(" ", "").split(","), "OPTIONS", *(("HEAD",) if "GET" in allow else ())})
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": ", ".join(methods)})
        problem = Problem(
            METHOD_NOT_ALLOWED, f"This path takes {', '.join(methods)}.", headers={"Allow": ", ".join(methods)}
        )
        return problem_response(request.scope, problem)
    return problem_response(request.scope, no_path())
