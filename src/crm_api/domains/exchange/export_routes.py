"""`/v1/exports`: starts one, and gives its file to who asked for it."""

from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from crm_api.domains.exchange.export import EXPORT, EXPORTS, ExportRequest, listing_of
from crm_api.domains.exchange.rights import narrowed
from crm_api.domains.files.contract import REF, SENT, asked, parameter
from crm_api.domains.files.download import DownloadLink, send
from crm_api.domains.files.link import LONGEST, link, reader
from crm_api.kernel.collections import path_id
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, PREFIX, hidden_keys
from crm_api.kernel.external import settle
from crm_api.kernel.headers import parse, query, read_body, single
from crm_api.kernel.jobs import begin, start
from crm_api.kernel.problems import FORBIDDEN, TRANSITION_REFUSED, Problem, forbidden, not_found
from crm_api.kernel.projection import Json
from crm_api.kernel.repository import load
from crm_api.kernel.spec_routes import takes
from crm_api.kernel.unit_of_work import open_context, permitted

router = APIRouter()
_PATH = parameter("id", "The export.", required=True, place="path", maxLength=300)


@router.post(
    "/v1/exports",
    name="create_export",
    operation_id="create_export",
    summary="Export the rows of a search",
    status_code=202,
    response_model=None,
    responses={
        202: {"description": "The job.", "content": {"application/json": {"schema": {"$ref": REF + "Job"}}}},
        403: {},
        409: {},
        413: {},
        415: {},
        422: {},
    },
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


@router.post(
    "/v1/exports/{id}/download_link",  # noqa: FAST003 - endpoints take the request, as derived ones do
    name="create_export_download_link",
    operation_id="create_export_download_link",
    summary="A link to the file of an export",
    status_code=201,
    response_model=DownloadLink,
    responses={403: {}, 404: {}, 409: {}},
    openapi_extra={"parameters": [_PATH]},
)
async def export_link(request: Request) -> Response:
    """It holds for five minutes, for who asked for the export."""
    ctx = await open_context(request)
    query(request, ())
    row, _ = await _finished(ctx, request)
    return Json(link(ctx, request, f"/v1/exports/{row['id']}/content"), 201)


@router.get(
    "/v1/exports/{id}/content",  # noqa: FAST003 - likewise
    name="get_export_content",
    operation_id="get_export_content",
    summary="The file of an export",
    response_model=None,
    response_class=StreamingResponse,
    responses={**SENT, 409: {}},
    openapi_extra=asked(_PATH, LONGEST),
)
async def export_content(request: Request) -> Response:
    """For who asked for the export, as long as they may read the resource and the fields that are in it."""
    pairs = query(request, ("token",))
    ctx = await reader(request, single(pairs, "token"))
    row, result = await _finished(ctx, request)
    parameters = orjson.loads(row["parameters"])
    name = f"{parameters['resource']}.{parameters['format']}"
    stored = orjson.loads(row["position"])["storage_key"]
    return await send(request, stored, name, result["content_type"], result["size"], result["sha256"])


async def _finished(ctx: Context, request: Request) -> tuple[Any, dict[str, Any]]:
    """The row and the result of an export that is the caller's to get.

    Raises:
        Problem: 404 for one that is not to be seen, or whose file is gone; 403 for somebody else's, and for what the
            caller may not read any more; 409 before it has succeeded.
    """
    ctx.require(EXPORTS, "read")
    row = await load(ctx, EXPORTS, path_id(request, EXPORTS), "read", lock=False)
    if row["created_by"] != str(ctx.principal.id):
        raise Problem(FORBIDDEN, "The file of an export is for who asked for it.")
    if row["state"] != "succeeded":
        raise Problem(
            TRANSITION_REFUSED,
            f"The export is {row['state']}; its file is there when it has succeeded.",
            extra={"state": row["state"], "allowed_from": ["succeeded"]},
        )
    result = orjson.loads(row["result"])
    if datetime.fromisoformat(result["expires_at"]) <= datetime.now(UTC):
        raise not_found("file of an export any more")
    resource = listing_of(ctx, ExportRequest.model_validate_json(row["parameters"]))[0]
    position = orjson.loads(row["position"])
    if narrowed(position["rights"], ctx.access):
        raise Problem(FORBIDDEN, "You may read less than when the export began; export again.")
    hidden = ctx.access.hides(resource.plural)
    closed = hidden.intersection(result["fields"])
    if CUSTOM in result["fields"]:
        closed |= {PREFIX + key for key in hidden_keys(hidden)}.difference(position.get("hidden", ()))
    for field in sorted(closed):
        raise forbidden(f"field {resource.plural}.{field}")
    return row, result
