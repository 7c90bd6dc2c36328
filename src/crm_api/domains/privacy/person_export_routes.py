"""`/v1/person_exports`: starts one, and gives its file to who asked for it."""

from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from crm_api.domains.files.contract import SENT, asked, parameter
from crm_api.domains.files.download import DownloadLink, send
from crm_api.domains.files.link import LONGEST, link, reader
from crm_api.domains.privacy.erasure_routes import STARTED
from crm_api.domains.privacy.person_export import EXPORT_PERSON, PERSON_EXPORTS, PersonExportRequest, checked
from crm_api.kernel.collections import path_id
from crm_api.kernel.context import Context
from crm_api.kernel.headers import parse, query, read_body, single
from crm_api.kernel.jobs import begin, start
from crm_api.kernel.problems import FORBIDDEN, TRANSITION_REFUSED, Problem, not_found
from crm_api.kernel.projection import Json
from crm_api.kernel.repository import load
from crm_api.kernel.spec_routes import takes
from crm_api.kernel.unit_of_work import open_context, permitted

router = APIRouter()
_PATH = parameter("id", "The export.", required=True, place="path", maxLength=300)


@router.post(
    "/v1/person_exports",
    name="create_person_export",
    operation_id="create_person_export",
    summary="Export all that is known of a person",
    status_code=202,
    response_model=None,
    responses=STARTED,
)
@takes(PersonExportRequest, contact_id="019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55")
async def create_person_export(request: Request) -> Response:
    """The file has everything, whatever the caller may read: the permission is for who answers such requests."""
    ctx = await permitted(request, PERSON_EXPORTS, "create")
    query(request, ())
    raw = await read_body(request)
    body = await checked(ctx, parse(raw, PersonExportRequest))
    return await begin(request, ctx, raw, lambda inner: start(inner, EXPORT_PERSON, body))


@router.post(
    "/v1/person_exports/{id}/download_link",  # noqa: FAST003 - endpoints take the request, as derived ones do
    name="create_person_export_download_link",
    operation_id="create_person_export_download_link",
    summary="A link to the file of an export of a person",
    status_code=201,
    response_model=DownloadLink,
    responses={403: {}, 404: {}, 409: {}},
    openapi_extra={"parameters": [_PATH]},
)
async def person_export_link(request: Request) -> Response:
    """It holds for five minutes, for who asked for the export."""
    ctx = await open_context(request)
    query(request, ())
    row, _ = await _finished(ctx, request)
    return Json(link(ctx, request, f"/v1/person_exports/{row['id']}/content"), 201)


@router.get(
    "/v1/person_exports/{id}/content",  # noqa: FAST003 - likewise
    name="get_person_export_content",
    operation_id="get_person_export_content",
    summary="The file of an export of a person",
    response_model=None,
    response_class=StreamingResponse,
    responses={**SENT, 409: {}},
    openapi_extra=asked(_PATH, LONGEST),
)
async def person_export_content(request: Request) -> Response:
    """JSON, for who asked for the export, until it expires or the person is erased."""
    pairs = query(request, ("token",))
    ctx = await reader(request, single(pairs, "token"))
    row, result = await _finished(ctx, request)
    stored = orjson.loads(row["position"])["storage_key"]
    return await send(request, stored, "person.json", "text/plain", result["size"], result["sha256"])


async def _finished(ctx: Context, request: Request) -> tuple[Any, dict[str, Any]]:
    """The row and the result of an export that is the caller's to get; raises 404, 403 and 409."""
    ctx.require(PERSON_EXPORTS, "create")
    ctx.require(PERSON_EXPORTS, "read")
    row = await load(ctx, PERSON_EXPORTS, path_id(request, PERSON_EXPORTS), "read", lock=False)
    if row["created_by"] != str(ctx.principal.id):
        raise Problem(FORBIDDEN, "The file of an export is for who asked for it.")
    if row["state"] != "succeeded":
        detail = f"The export is {row['state']}; its file is there when it has succeeded."
        raise Problem(TRANSITION_REFUSED, detail, extra={"state": row["state"], "allowed_from": ["succeeded"]})
    result = orjson.loads(row["result"])
    if datetime.fromisoformat(result["expires_at"]) <= datetime.now(UTC):
        raise not_found("file of an export any more")
    return row, result
