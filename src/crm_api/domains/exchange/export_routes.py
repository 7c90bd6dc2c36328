"""`/v1/exports`: starts one, and gives its file to who asked for it."""

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.exchange.export import EXPORT, EXPORTS, ExportRequest, listing_of
from crm_api.domains.exchange.job_file import STARTED, JobFile, finished, offer
from crm_api.domains.exchange.rights import narrowed
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, PREFIX, hidden_keys
from crm_api.kernel.external import settle
from crm_api.kernel.headers import parse, query, read_body
from crm_api.kernel.jobs import begin, start
from crm_api.kernel.problems import FORBIDDEN, Problem, forbidden
from crm_api.kernel.spec_routes import takes
from crm_api.kernel.unit_of_work import permitted

router = APIRouter()


@router.post(
    "/v1/exports",
    name="create_export",
    operation_id="create_export",
    summary="Export the rows of a search",
    status_code=202,
    response_model=None,
    responses=STARTED,
)
@takes(ExportRequest, resource="accounts", filter={"field": "status", "op": "eq", "value": "active"}, format="csv")
async def create_export(request: Request) -> Response:
    """Takes the permission to read the resource, too; the file has the rows and fields that the caller may see."""
    ctx = await permitted(request, EXPORTS, "create")
    query(request, ())
    raw = await read_body(request)
    body = parse(raw, ExportRequest)
    _, filters, _, _ = listing_of(ctx, body)
    await settle(ctx, filters)
    return await begin(request, ctx, raw, lambda inner: start(inner, EXPORT, body))


async def _opened(ctx: Context, request: Request) -> JobFile:
    """The file of an export; 403 for what the caller may not read any more, and otherwise as `finished` says."""
    row, result = await finished(ctx, request, EXPORTS)
    parameters, position = orjson.loads(row["parameters"]), orjson.loads(row["position"])
    resource = listing_of(ctx, ExportRequest.model_validate_json(row["parameters"]))[0]
    if narrowed(position["rights"], ctx.access):
        raise Problem(FORBIDDEN, "You may read less than when the export began; export again.")
    hidden = ctx.access.hides(resource.plural)
    closed = hidden.intersection(result["fields"])
    if CUSTOM in result["fields"]:
        closed |= {PREFIX + key for key in hidden_keys(hidden)}.difference(position.get("hidden", ()))
    for field in sorted(closed):
        raise forbidden(f"field {resource.plural}.{field}")
    return JobFile(row, result, f"{parameters['resource']}.{parameters['format']}", result["content_type"])


offer(
    router,
    EXPORTS,
    "the file of an export",
    "For who asked for the export, as long as they may read the resource and the fields that are in it.",
    _opened,
)
