"""`/v1/jobs/{id}/undo`: takes back what a verb in bulk did to records that nobody changed since."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.distribution import edited
from crm_api.domains.distribution.selection import Tally
from crm_api.domains.jobs.job import JOBS
from crm_api.kernel.collections import path_id
from crm_api.kernel.collective_rows import judged
from crm_api.kernel.context import Context
from crm_api.kernel.domain import JobKind
from crm_api.kernel.headers import query
from crm_api.kernel.jobs import begin, start, trusted
from crm_api.kernel.problems import INVALID, TRANSITION_REFUSED, Problem, not_found
from crm_api.kernel.projection import plain
from crm_api.kernel.repository import find, load
from crm_api.kernel.resource import Resource
from crm_api.kernel.running import Run, Step
from crm_api.kernel.schema import Id, Wire
from crm_api.kernel.spec_style import parameter, ref
from crm_api.kernel.unit_of_work import permitted

STEP = 200
"""Records of a step."""
_ENDED = ("cancelled", "failed", "succeeded")
router = APIRouter()


class UndoRequest(Wire):
    """Which job is taken back."""

    job_id: Id


@dataclass(frozen=True, slots=True)
class Undoing:
    """What a step of an undo is about: the records' resource, where it counts, and the cause for the ledger."""

    resource: Resource
    tally: Tally
    cause: Mapping[str, Any]

    def changed(self, id_: str, names: Iterable[str]) -> None:
        """Counts a record that is not any more as the job left it."""
        detail = f"Others have changed {', '.join(sorted(names))} since."[:500]
        self.tally.refuse(self.resource.singular, id_, "changed_since", detail=detail)


@dataclass(frozen=True)
class Undo:
    """How what a verb in bulk kept by `edited.keep` is taken back.

    Attributes:
        verb: which.
        actions: what it takes of the caller for each record.
        restore: gives records, locked and permitted, back what they had, or counts why not.
        job: its kind of job.
    """

    verb: str
    actions: tuple[str, ...]
    restore: Callable[[Context, Undoing, Sequence[Mapping[str, Any]]], Awaitable[None]]
    job: JobKind = field(init=False)

    def __post_init__(self) -> None:
        """Makes the kind of job."""
        object.__setattr__(self, "job", JobKind(f"undo_{self.verb}", UndoRequest, self.run))

    def require(self, ctx: Context, resource: Resource) -> None:
        """403 unless the caller may do so with any record."""
        for action in ("read", *self.actions):
            ctx.require(resource, action)

    async def run(self, run: Run, body: UndoRequest) -> dict[str, Any]:
        """Goes through the records of a job; its result says how many are as before, and which were left, and why."""

        async def step(ctx: Context, position: Mapping[str, Any]) -> Step | None:
            resource = await _of_job(ctx, body.job_id)
            self.require(ctx, resource)
            records = await edited.following(ctx, body.job_id, position.get("after"), STEP)
            if not records:
                return None
            cause = {"kind": self.job.name, "job_id": str(run.claim.id), f"{self.verb}_id": body.job_id}
            task = Undoing(resource, Tally.of(position.get("tally")), cause)
            ids = [record["id"] for record in records]
            rows = await judged(ctx, resource, ids, self.actions, None, lock=True)
            for id_ in ids:
                if id_ not in rows:
                    task.tally.refuse(resource.singular, id_, "not_found")
                elif (missing := rows[id_].missing) is not None:
                    task.tally.refuse(resource.singular, id_, "forbidden", f"{resource.plural}:{missing}")
            ours = [record for record in records if record["id"] in rows and rows[record["id"]].missing is None]
            await self.restore(ctx, task, ours)
            expected = await edited.count(ctx, body.job_id) if "after" not in position else None
            return Step({"after": ids[-1], "tally": vars(task.tally)}, done=len(records), expected=expected)

        await run.steps(step)
        return Tally.of(run.position.get("tally")).told()


@dataclass(frozen=True)
class UndoableKind(JobKind):
    """A kind of job that can be taken back."""

    undo: Undo = field(kw_only=True)


async def _of_job(ctx: Context, job: str) -> Resource:
    """The resource of the records of a job; who may take it back was asked when that was begun."""
    found = await find(trusted(ctx), JOBS, job)
    resource = None if found is None else ctx.kernel.catalog.resources.get(_parameters(found)["resource"])
    if resource is None:
        raise Problem(INVALID, "What the job was about is not known any more.")
    return resource


def _parameters(job: Mapping[str, Any]) -> dict[str, Any]:
    value = job["parameters"]
    found: dict[str, Any] = orjson.loads(value) if isinstance(value, str) else plain(value)
    return found


@router.post(
    "/v1/jobs/{id}/undo",  # noqa: FAST003 - endpoints take the request, as derived ones do
    name="undo_edit",
    operation_id="undo_edit",
    summary="Take an edit or a reassignment back",
    status_code=202,
    response_model=None,
    responses={
        202: {
            "description": "Accepted: a job does it.",
            "headers": {"Location": {}, "Retry-After": {}},
            "content": {"application/json": {"schema": ref("Job")}},
        },
        403: {},
        404: {},
        409: {},
    },
    openapi_extra={
        "parameters": [parameter("id", "The job to take back.", required=True, place="path", maxLength=300)]
    },
)
async def undo_edit(request: Request) -> Response:
    """Gives each record that the job changed back what it had, if it is as the job left it; once, by a job."""
    ctx = await permitted(request, JOBS, "read")
    query(request, ())
    id_ = path_id(request, JOBS)

    async def work(inner: Context) -> dict[str, Any]:
        row = await load(inner, JOBS, id_, "read")
        kind = inner.kernel.catalog.jobs.get(row["kind"])
        if not isinstance(kind, UndoableKind):
            raise not_found("edit")
        if row["state"] not in _ENDED:
            extra = {"state": row["state"], "allowed_from": list(_ENDED)}
            raise Problem(TRANSITION_REFUSED, "The job is not done yet; wait for it, or cancel it.", extra=extra)
        kind.undo.require(inner, inner.kernel.catalog.resources[_parameters(dict(row))["resource"]])
        job = await start(inner, kind.undo.job, UndoRequest(job_id=row["id"]))
        if not await edited.mark(inner, row["id"], job["id"]):
            raise Problem(TRANSITION_REFUSED, "This job was taken back already.", extra={"state": row["state"]})
        return job

    return await begin(request, ctx, b"", work)
