"""Verbs on many records of a collection at once: each starts a job, or tells with `dry_run` what the job would do."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel import jobs
from crm_api.kernel.context import Context
from crm_api.kernel.domain import Catalog, Domain, JobKind
from crm_api.kernel.headers import boolean, idempotency_key, parse, query, read_body
from crm_api.kernel.projection import Json
from crm_api.kernel.resource import Resource
from crm_api.kernel.router import Endpoint, Operation
from crm_api.kernel.schema import Wire
from crm_api.kernel.unit_of_work import permitted

Work = Callable[[Context, Resource, Any], Awaitable[dict[str, Any]]]
KIND = "collective"


@dataclass(frozen=True, eq=False)
class Collective:
    """A verb on records that a filter finds or a list of ids names, for every resource that it applies to.

    Attributes:
        verb: bare infinitive; `POST /v1/{collection}/{verb}` and the operation id `{verb}_{collection}` follow.
        permission: the action that the caller must be permitted at all.
        summary: one line, with `{many}` for the noun.
        body: schema of the request; the contract gives its `filter` the type of the resource's filters.
        job: the kind of the job; its parameters are the body and `resource`, the plural name.
        check: refuses what the caller may not ask for at all, before the job is started.
        preview: what the job would do, as `previewed`; it writes nothing.
        reply: schema of a job.
        previewed: schema of a preview.
        applies: to which resources.
    """

    verb: str
    permission: str
    summary: str
    body: type[Wire]
    job: JobKind
    check: Work
    preview: Work
    reply: type[Wire]
    previewed: type[Wire]
    applies: Callable[[Resource], bool]


@dataclass(frozen=True, kw_only=True)
class CollectiveOperation(Operation):
    """A collective verb of one resource, as the contract tells it."""

    verb: Collective


@dataclass(frozen=True, kw_only=True)
class CollectiveDomain(Domain):
    """A room whose verbs are found under the collections of all domains: `collective`, for each they apply to."""

    collective: tuple[Collective, ...]


def collective_verbs(catalog: Catalog) -> list[Collective]:
    """The collective verbs of all domains."""
    return [verb for domain in catalog.domains if isinstance(domain, CollectiveDomain) for verb in domain.collective]


def collective_operations(catalog: Catalog) -> list[CollectiveOperation]:
    """The collective verbs of every resource."""
    resources, verbs = catalog.resources.values(), collective_verbs(catalog)
    return [_operation(verb, item) for item in resources for verb in verbs if verb.applies(item)]


def _operation(verb: Collective, resource: Resource) -> CollectiveOperation:
    many = resource.plural
    path, permission = f"/v1/{many}/{verb.verb}", f"{many}:{verb.permission}"
    endpoint, name = _endpoint(verb, resource), f"{verb.verb}_{many}"
    return CollectiveOperation("POST", path, name, KIND, resource, endpoint, permission, verb=verb)


def _endpoint(verb: Collective, resource: Resource) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, resource, verb.permission)
        dry_run = boolean(query(request, ("dry_run",)), "dry_run")
        raw = await read_body(request)
        body = parse(raw, verb.body)
        if dry_run:
            idempotency_key(request)  # it means nothing here, but one that is malformed is refused
            return Json(await verb.preview(ctx, resource, body))

        async def start(inner: Context) -> dict[str, Any]:
            await verb.check(inner, resource, body)
            values = {**body.model_dump(), "resource": resource.plural}
            return await jobs.start(inner, verb.job, verb.job.body.model_validate(values))

        return await jobs.begin(request, ctx, raw, start)

    return endpoint
