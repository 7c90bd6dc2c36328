"""`/v1/person_exports`: starts one, and gives its file to who asked for it."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.exchange.job_file import STARTED, JobFile, finished, offer
from crm_api.domains.privacy.person_export import EXPORT_PERSON, PERSON_EXPORTS, PersonExportRequest, checked
from crm_api.kernel.context import Context
from crm_api.kernel.headers import parse, query, read_body
from crm_api.kernel.jobs import begin, start
from crm_api.kernel.spec_routes import takes
from crm_api.kernel.unit_of_work import permitted

router = APIRouter()


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


async def _opened(ctx: Context, request: Request) -> JobFile:
    """The file of an export of a person; 403 for who may not ask for one, and otherwise as `finished` says."""
    ctx.require(PERSON_EXPORTS, "create")
    row, result = await finished(ctx, request, PERSON_EXPORTS)
    return JobFile(row, result, "person.json", "text/plain")


offer(
    router,
    PERSON_EXPORTS,
    "the file of an export of a person",
    "JSON, for who asked for the export, until it expires or the person is erased.",
    _opened,
)
