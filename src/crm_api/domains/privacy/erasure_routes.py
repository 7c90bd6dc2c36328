"""`/v1/erasures`: asks for one, and tells before what it would do."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.exchange.job_file import STARTED
from crm_api.domains.privacy.emptying import records_of
from crm_api.domains.privacy.erase import ask, meant
from crm_api.domains.privacy.erasure import ERASURES, ErasurePreview, ErasureRequest
from crm_api.domains.privacy.obstacles import obstacles
from crm_api.domains.privacy.person import same_person
from crm_api.kernel.context import Context
from crm_api.kernel.headers import parse, query, read_body
from crm_api.kernel.jobs import begin, trusted
from crm_api.kernel.projection import Json
from crm_api.kernel.spec_routes import takes
from crm_api.kernel.unit_of_work import permitted, transact

router = APIRouter()


@router.post(
    "/v1/erasures",
    name="create_erasure",
    operation_id="create_erasure",
    summary="Erase a person",
    status_code=202,
    response_model=None,
    responses=STARTED,
)
@takes(ErasureRequest, contact_id="019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55", basis="request", reference="DSR-2026-17")
async def create_erasure(request: Request) -> Response:
    """Empties what tells of the person, wherever it is, for good. May be asked for again: it finds nothing then."""
    ctx = await permitted(request, ERASURES, "create")
    query(request, ())
    raw = await read_body(request)
    body = parse(raw, ErasureRequest)
    return await begin(request, ctx, raw, lambda inner: ask(inner, body))


@router.post(
    "/v1/erasures/preview",
    name="preview_erasure",
    operation_id="preview_erasure",
    summary="What an erasure would do",
    response_model=ErasurePreview,
    responses={403: {}, 413: {}, 415: {}, 422: {}},
)
@takes(ErasureRequest, contact_id="019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55")
async def preview_erasure(request: Request) -> Response:
    """Tells what keeps the data, which records lose personal fields, and which documents stay. Changes nothing."""
    ctx = await permitted(request, ERASURES, "create")
    query(request, ())
    body = parse(await read_body(request), ErasureRequest)
    ctx.dry_run = True

    async def look(inner: Context) -> dict[str, Any]:
        column, id_ = await meant(inner, body)
        ours = trusted(inner)
        person = await same_person(ours, column, id_)
        found, kept = await obstacles(ours, person)
        records = {resource.plural: len(rows) for resource, rows in (await records_of(ours, person)).items()}
        return {"object": "erasure_preview", "obstacles": found, "records": records, "kept": kept}

    return Json(await transact(ctx, look))
