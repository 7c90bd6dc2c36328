"""`/v1/jobs/{id}/undo`: takes back what an edit did to records whose edited fields nobody changed since."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.distribution.selection import Tally
from crm_api.domains.editing import edited
from crm_api.domains.editing.change import differing, nested, present
from crm_api.domains.editing.edit import EDIT
from crm_api.domains.files.contract import REF, parameter
from crm_api.domains.jobs.job import JOBS
from crm_api.kernel.collections import path_id
from crm_api.kernel.collective_rows import Found, judged
from crm_api.kernel.context import Context
from crm_api.kernel.domain import JobKind
from crm_api.kernel.headers import parse, query
from crm_api.kernel.jobs import begin, start, trusted
from crm_api.kernel.problems import INVALID, TRANSITION_REFUSED, Problem, not_found
from crm_api.kernel.repository import find, load, update
from crm_api.kernel.resource import Resource
from crm_api.kernel.running import Run, Step, attempt
from crm_api.kernel.schema import Id, Wire
from crm_api.kernel.unit_of_work import permitted

STEP = 200
"""Records of a step."""
_ENDED = ("cancelled", "failed", "succeeded")
router = APIRouter()


class UndoRequest(Wire):
    """Which edit is taken back."""

    job_id: Id


async def undo(run: Run, body: UndoRequest) -> dict[str, Any]:
    """Goes through the records of an edit; its result says how many are as before, and which were left, and why."""

    async def step(ctx: Context, position: Mapping[str, Any]) -> Step | None:
        ctx.cause = {"kind": "undo_edit", "job_id": str(run.claim.id), "edit_id": body.job_id}
        resource = await _edited_by(ctx, body.job_id)
        for action in ("read", "update"):
            ctx.require(resource, action)
        records = await edited.following(ctx, body.job_id, position.get("after"), STEP)
        if not records:
            return None
        ids = [record["id"] for record in records]
        tally = Tally.of(position.get("tally"))
        rows = await judged(ctx, resource, ids, ("update",), None, lock=True)
        names = sorted({name for record in records for name in record["after"]})
        there = await present(ctx, resource, ids, names)
        for record in records:
            await _restore(ctx, resource, record, (rows.get(record["id"]), there.get(record["id"])), tally)
        expected = await edited.count(ctx, body.job_id) if "after" not in position else None
        return Step({"after": ids[-1], "tally": vars(tally)}, done=len(records), expected=expected)

    await run.steps(step)
    return Tally.of(run.position.get("tally")).told()


async def _restore(
    ctx: Context,
    resource: Resource,
    record: Mapping[str, Any],
    now: tuple[Found | None, Mapping[str, Any] | None],
    tally: Tally,
) -> None:
    """Gives one record its fields back, or counts why not."""
    (row, item), one = now, resource.singular
    if row is None or item is None:
        tally.refuse(one, record["id"], "not_found")
        return
    if row.missing is not None:
        tally.refuse(one, row.id, "forbidden", f"{resource.plural}:{row.missing}")
        return
    if changed := differing(nested(record["after"]), item, record["after"]):
        names = ", ".join(sorted(changed))
        tally.refuse(one, row.id, "changed_since", detail=f"Others have changed {names} since."[:500])
        return
    assert resource.update is not None  # noqa: S101 - it was edited
    try:
        body = parse(orjson.dumps(nested(record["before"])), resource.update).model_dump()
        values = {name: body[name] for name in nested(record["before"])}
        await attempt(ctx, partial(update, ctx, resource, row.id, values))
    except Problem as problem:
        if problem.kind.status >= 500 or problem.kind.retryable:
            raise
        tally.fail(one, row.id, problem)
        return
    tally.done += 1


async def _edited_by(ctx: Context, job: str) -> Resource:
    """The resource whose records a job edited; who may take it back was asked when that was begun."""
    found = await find(trusted(ctx), JOBS, job)
    resource = None if found is None else ctx.kernel.catalog.resources.get(_parameters(found)["resource"])
    if resource is None:
        raise Problem(INVALID, "What the edit was is not known any more.")
    return resource


def _parameters(job: Mapping[str, Any]) -> dict[str, Any]:
    value = job["parameters"]
    found: dict[str, Any] = orjson.loads(value) if isinstance(value, str | bytes) else orjson.loads(orjson.dumps(value))
    return found


UNDO_EDIT = JobKind("undo_edit", UndoRequest, undo)


@router.post(
    "/v1/jobs/{id}/undo",  # noqa: FAST003 - endpoints take the request, as derived ones do
    name="undo_edit",
    operation_id="undo_edit",
    summary="Take an edit back",
    status_code=202,
    response_model=None,
    responses={
        202: {
            "description": "Accepted: a job does it.",
            "headers": {"Location": {}, "Retry-After": {}},
            "content": {"application/json": {"schema": {"$ref": REF + "Job"}}},
        },
        403: {},
        404: {},
        409: {},
    },
    openapi_extra={"parameters": [parameter("id", "The job of the edit.", required=True, place="path", maxLength=300)]},
)
async def undo_edit(request: Request) -> Response:
    """Gives each record that the edit changed its fields back, if they are as the edit left them; once, by a job."""
    ctx = await permitted(request, JOBS, "read")
    query(request, ())
    id_ = path_id(request, JOBS)

    async def work(inner: Context) -> dict[str, Any]:
        row = await load(inner, JOBS, id_, "read")
        if row["kind"] != EDIT.job.name:
            raise not_found("edit")
        if row["state"] not in _ENDED:
            extra = {"state": row["state"], "allowed_from": list(_ENDED)}
            raise Problem(TRANSITION_REFUSED, "The edit is not done yet; wait for it, or cancel it.", extra=extra)
        resource = inner.kernel.catalog.resources[_parameters(dict(row))["resource"]]
        for action in ("read", "update"):
            inner.require(resource, action)
        job = await start(inner, UNDO_EDIT, UndoRequest(job_id=row["id"]))
        if not await edited.mark(inner, row["id"], job["id"]):
            raise Problem(TRANSITION_REFUSED, "This edit was taken back already.", extra={"state": row["state"]})
        return job

    return await begin(request, ctx, b"", work)
