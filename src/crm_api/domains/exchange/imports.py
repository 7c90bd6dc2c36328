"""`imports` as a resource: its settings, and the verbs that start its jobs."""

from collections.abc import Mapping
from typing import Any

import orjson

from crm_api.domains.exchange import rows as kept
from crm_api.domains.exchange.applying import APPLY_ROWS
from crm_api.domains.exchange.importing import ROW_STATES, STATES, Import, ImportCreate, ImportJob, ImportView
from crm_api.domains.exchange.reverting import REVERT_ROWS
from crm_api.domains.exchange.subject import SETTINGS, importable, note, of_row
from crm_api.domains.exchange.validating import VALIDATE_ROWS
from crm_api.domains.jobs.job import JOBS, JobView
from crm_api.kernel.context import Context
from crm_api.kernel.domain import JobKind
from crm_api.kernel.jobs import start, trusted
from crm_api.kernel.problems import TRANSITION_REFUSED, Problem, invalid
from crm_api.kernel.repository import find
from crm_api.kernel.resource import ALL, Action, Check, Resource

_CHANGEABLE = ("created", "uploaded", "validated")


async def _fit(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """Settings must fit what is imported, and are fixed once rows were applied."""
    del resource
    if before is not None and before["state"] not in _CHANGEABLE:
        raise _refused(before["state"], _CHANGEABLE)
    whole = dict(before or {})
    whole |= {name: orjson.dumps(value).decode() if name in _JSON else value for name, value in values.items()}
    if (
        before is not None
        and "resource" in values
        and before["storage_key"]
        and values["resource"] != before["resource"]
    ):
        raise invalid("/resource", "set_once", "A file was sent for another resource; make a new import.")
    importable(ctx, whole["resource"])
    await of_row(ctx, {"id": "", "suggestions": "[]", **whole})


_JSON = ("mapping", "match_on", "nulls", "defaults")


async def idle(ctx: Context, row: Any, states: tuple[str, ...]) -> None:
    """409 while a job of the import is queued or running, and in any state but these."""
    if row["job_id"] is not None:
        job = await find(trusted(ctx), JOBS, row["job_id"])
        if job is not None and job["state"] in ("queued", "running"):
            detail = "A job of this import is not done yet; wait for it, or cancel it."
            raise Problem(TRANSITION_REFUSED, detail, extra={"state": row["state"], "job_id": job["id"]})
    if row["state"] not in states:
        raise _refused(row["state"], states)


async def _done(ctx: Context, resource: Resource, values: Mapping[str, Any], row: Mapping[str, Any] | None) -> None:
    del resource, values
    assert row is not None  # noqa: S101 - a deletion has a row
    await idle(ctx, row, STATES)


def _refused(state: str, states: tuple[str, ...]) -> Problem:
    extra = {"state": state, "allowed_from": sorted(states)}
    detail = f"The import is {state}; this takes one that is {' or '.join(sorted(states))}."
    return Problem(TRANSITION_REFUSED, detail, extra=extra)


def _verb(verb: str, summary: str, kind: JobKind, states: tuple[str, ...], target: str) -> Action:
    async def run(ctx: Context, resource: Resource, row: Any, body: Any) -> dict[str, Any]:
        del body
        if row["created_by"] != str(ctx.principal.id):
            raise Problem(TRANSITION_REFUSED, "Only who made the import may do this.", extra={"state": row["state"]})
        await idle(ctx, row, states)
        found = await of_row(ctx, row)
        found.permit(ctx)
        await found.name(ctx)
        if row["format"] != "ndjson":
            found.plan.missing(orjson.loads(row["columns"]))
        if verb == "apply" and row["validated"] != found.digest:
            raise Problem(
                TRANSITION_REFUSED,
                "The file or the settings have changed since they were validated; validate again.",
                extra={"state": row["state"], "allowed_from": ["validated"]},
            )
        if verb == "revert" and not await kept.following(ctx, row["id"], 0, 1, ROW_STATES):
            raise Problem(
                TRANSITION_REFUSED, "The rows of the import are not kept any more.", extra={"state": row["state"]}
            )
        job = await start(ctx, kind, ImportJob(import_id=row["id"]))
        await note(ctx, resource, row["id"], {"state": target, "job_id": job["id"]}, verb=verb)
        return job

    return Action(verb, summary, run, reply=JobView, status=202)


VALIDATE = _verb(
    "validate",
    "Say of each row what would be done and what is wrong",
    VALIDATE_ROWS,
    ("uploaded", "validating", "validated"),
    "validating",
)
APPLY = _verb("apply", "Do what validation said", APPLY_ROWS, ("validated", "applying"), "applying")
REVERT = _verb(
    "revert",
    "Undo what the import did, where nobody changed it since",
    REVERT_ROWS,
    ("applying", "applied", "reverting"),
    "reverting",
)

IMPORTS = Resource(
    singular="import",
    plural="imports",
    model=Import,
    output=ImportView,
    create=ImportCreate,
    owner=Import.created_by,
    filters=(Import.name, Import.resource, Import.state, Import.created_by, Import.created_at),
    sorts=(Import.created_at,),
    deletable=_done,
    checks=(Check(frozenset({*SETTINGS}), _fit),),
    operations=ALL - {"restore"},
    actions=(VALIDATE, APPLY, REVERT),
    notices=("validated", "applied", "reverted"),
)
