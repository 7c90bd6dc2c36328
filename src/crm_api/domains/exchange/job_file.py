"""The file that a job has made, for who asked for it: what its record tells, and the two ways to get it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from crm_api.domains.files.contract import SENT, asked
from crm_api.domains.files.download import DownloadLink, send
from crm_api.domains.files.link import LONGEST, link, reader
from crm_api.kernel.collections import path_id
from crm_api.kernel.context import Context
from crm_api.kernel.headers import query, single
from crm_api.kernel.problems import FORBIDDEN, TRANSITION_REFUSED, Problem, not_found
from crm_api.kernel.projection import Json
from crm_api.kernel.repository import load
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Code, Instant, Output
from crm_api.kernel.spec_style import parameter, ref
from crm_api.kernel.unit_of_work import open_context

STARTED: dict[int | str, dict[str, Any]] = {
    202: {"description": "The job.", "content": {"application/json": {"schema": ref("Job")}}},
    403: {},
    409: {},
    413: {},
    415: {},
    422: {},
}
"""The replies of a request that starts a job."""


class JobFileView(Output):
    """What every record of a file tells of the job that writes it."""

    kind: Code
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    done: Annotated[int, Field(ge=0, le=9_007_199_254_740_991, description="Rows so far.")]
    problem: Annotated[dict[str, Any] | None, Field(description="Why it failed, as in the job.")]
    finished_at: Instant | None


@dataclass(frozen=True, slots=True)
class JobFile:
    """What a job has made: its row, the result in it, and how the file is called and sent."""

    row: Any
    result: dict[str, Any]
    name: str
    content_type: str


async def finished(ctx: Context, request: Request, resource: Resource) -> tuple[Any, dict[str, Any]]:
    """The row and the result of the export in the path, which is the caller's to get.

    Raises:
        Problem: 404 for one that is not to be seen, or whose file is gone; 403 for somebody else's; 409 before it has
            succeeded.
    """
    ctx.require(resource, "read")
    row = await load(ctx, resource, path_id(request, resource), "read", lock=False)
    if row["created_by"] != str(ctx.principal.id):
        raise Problem(FORBIDDEN, "The file of an export is for who asked for it.")
    if row["state"] != "succeeded":
        detail = f"The export is {row['state']}; its file is there when it has succeeded."
        raise Problem(TRANSITION_REFUSED, detail, extra={"state": row["state"], "allowed_from": ["succeeded"]})
    result = orjson.loads(row["result"])
    if datetime.fromisoformat(result["expires_at"]) <= datetime.now(UTC):
        raise not_found("file of an export any more")
    return row, result


def offer(
    router: APIRouter,
    resource: Resource,
    title: str,
    told: str,
    opened: Callable[[Context, Request], Awaitable[JobFile]],
) -> None:
    """Adds the routes of the link to a file and of its bytes.

    Args:
        router: gets them.
        resource: whose records they are.
        title: of the file, within a sentence.
        told: who gets it, and how long.
        opened: gives the file to who may have it; raises the problem otherwise.
    """
    path = parameter("id", "The export.", required=True, place="path", maxLength=300)
    place = f"/v1/{resource.plural}/{{id}}"

    async def make_link(request: Request) -> Response:
        ctx = await open_context(request)
        query(request, ())
        file = await opened(ctx, request)
        return Json(link(ctx, request, f"/v1/{resource.plural}/{file.row['id']}/content"), 201)

    async def content(request: Request) -> Response:
        pairs = query(request, ("token",))
        ctx = await reader(request, single(pairs, "token"))
        file = await opened(ctx, request)
        stored = orjson.loads(file.row["position"])["storage_key"]
        return await send(request, stored, file.name, file.content_type, file.result["size"], file.result["sha256"])

    router.add_api_route(
        f"{place}/download_link",
        make_link,
        methods=["POST"],
        name=f"create_{resource.singular}_download_link",
        operation_id=f"create_{resource.singular}_download_link",
        summary=f"A link to {title}",
        description="It holds for five minutes, for who asked for the export.",
        status_code=201,
        response_model=DownloadLink,
        responses={403: {}, 404: {}, 409: {}},
        openapi_extra={"parameters": [path]},
    )
    router.add_api_route(
        f"{place}/content",
        content,
        methods=["GET"],
        name=f"get_{resource.singular}_content",
        operation_id=f"get_{resource.singular}_content",
        summary=title[0].upper() + title[1:],
        description=told,
        response_model=None,
        response_class=StreamingResponse,
        responses={**SENT, 409: {}},
        openapi_extra=asked(path, LONGEST),
    )
