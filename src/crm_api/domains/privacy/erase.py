"""The job that erases a person: first the records, then exports, then everything that was recorded of them."""

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from crm_api.domains.files.file import FILES
from crm_api.domains.identity.principal import USERS
from crm_api.domains.privacy.edits import edits_of
from crm_api.domains.privacy.emptying import belonging, digest, empty, kinds, records_of, replacements
from crm_api.domains.privacy.erasure import ERASURES, ErasureRequest
from crm_api.domains.privacy.forget_sign_in import forget_sign_in
from crm_api.domains.privacy.mentions import pattern
from crm_api.domains.privacy.obstacles import blocked, obstacles
from crm_api.domains.privacy.person import PEOPLE, SUBJECTS, column_of, same_person, visible
from crm_api.domains.privacy.withdraw_exports import withdraw_exports
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.domain import JobKind
from crm_api.kernel.external import own_id
from crm_api.kernel.jobs import start, trusted
from crm_api.kernel.problems import forbidden, invalid
from crm_api.kernel.repository import create, load, update
from crm_api.kernel.running import Run, Step
from crm_api.kernel.schema import Id, Wire

MOST = 2_000
"""Rows that one step looks at."""
PLACES = (
    *("audit_entries", "idempotency_replies", "merges", "import_rows", "imports", "jobs", "saved_views"),
    *("outbox", "feed", "webhook_attempts"),
)
"""Where something is recorded, in the order it is erased. Events leave the outbox for the feed and the feed for
attempts, so each comes after where its rows come from."""
_BESIDE = {"share": None, "address": None}
"""What the audit log tells beside fields: of a share its cause in words, of signing in where from."""
_PURPOSE = "erasure"
_ERASED = sa.func.erase_recorded(
    TENANT,
    sa.bindparam("erasure", type_=sa.Uuid()),
    sa.bindparam("part", type_=sa.Text()),
    sa.bindparam("since", type_=sa.Text()),
    sa.bindparam("most", type_=sa.BigInteger()),
    sa.bindparam("replaced", type_=JSONB()),
    sa.bindparam("pattern", type_=sa.Text()),
).table_valued(sa.column("following", sa.Text()), sa.column("changed", sa.BigInteger()), name="erased")
_SWEEP = Statement(sa.select(_ERASED.c.following, _ERASED.c.changed))


class EraseJob(Wire):
    """The parameters of the job."""

    erasure_id: Id


async def meant(ctx: Context, body: ErasureRequest) -> tuple[str, str]:
    """Whom a request is about: the reference, and the id.

    Raises:
        Problem: 422 for a record that the caller does not see, 403 for a user whom they may not delete.
    """
    column = column_of(body.model_dump())
    resource = SUBJECTS[column]
    if resource is USERS:
        ctx.require(USERS, "delete")
    id_ = str(await own_id(ctx, resource, getattr(body, column)))
    if not await visible(ctx, column, id_):
        raise invalid(f"/{column}", "reference_not_found", f"There is no such {resource.singular}.")
    if resource is USERS and not await visible(ctx, column, id_, "delete"):
        raise forbidden("users:delete")
    return column, id_


async def ask(ctx: Context, body: ErasureRequest, policy_id: str | None = None) -> dict[str, Any]:
    """Records that a person is to be erased and starts the job of it, in the open transaction.

    Raises:
        Problem: as `meant` does; 409 while something keeps the data of the person, or another erasure of it runs.
    """
    column, id_ = await meant(ctx, body)
    found, _ = await obstacles(ctx, await same_person(ctx, column, id_))
    if found:
        raise blocked(found)
    values = {
        "id": str(new_id()),
        "object_type": SUBJECTS[column].singular,
        "object_id": id_,
        "basis": body.basis,
        "reference": body.reference,
        "state": "running",
        "policy_id": policy_id,
        "objects": [],
        "kinds": {},
        "counts": {},
    }
    job = await start(ctx, ERASE, EraseJob(erasure_id=values["id"]))
    await create(trusted(ctx), ERASURES, {**values, "job_id": job["id"]})
    return job


async def erase(run: Run, body: EraseJob) -> dict[str, Any]:
    """Each step is a transaction, so it goes on where it was; what is erased is never brought back by a repetition.

    Raises:
        Problem: 409 when something came up by now that keeps the data.
    """
    found: list[dict[str, Any]] = []

    async def next_(ctx: Context, position: Mapping[str, Any]) -> Step | None:
        ours = trusted(ctx)
        if position.get("over"):
            return None
        if not position:
            if (await load(ours, ERASURES, body.erasure_id, "read"))["object_type"] == USERS.singular:
                ctx.require(USERS, "delete")
            step = await _records(ours, body.erasure_id)
            found[:] = step.position.get("obstacles", ())
            return step
        if "exports" not in position:
            return await _exports(ours, position)
        return await _recorded(ours, body.erasure_id, position)

    await run.steps(next_)
    if found := found or run.position.get("obstacles", []):
        raise blocked(found)
    return {"erasure_id": body.erasure_id}


async def _records(ctx: Context, id_: str) -> Step:
    """Empties the records themselves, so that nothing new is written of the person from here on."""
    row = await load(ctx, ERASURES, id_, "update")
    column = next(name for name, resource in SUBJECTS.items() if resource.singular == row["object_type"])
    person = await same_person(ctx, column, row["object_id"])
    records = await records_of(ctx, person)
    found, _ = await obstacles(ctx, person)
    if found:
        values = {"state": "blocked", "obstacles": found, "finished_at": ctx.now}
        await update(ctx, ERASURES, id_, values, by_verb=True)
        return Step({"over": True, "obstacles": found})
    texts = await pattern(ctx, records)
    objects = {item["id"] for rows in records.values() for item in rows} | await edits_of(ctx, records)
    if column not in PEOPLE:
        objects |= await forget_sign_in(ctx, id_, row["object_id"], records[USERS][0]["email"])
    told = {"objects": sorted(objects), "kinds": kinds(records), "digest": digest(ctx, records)}
    counts = await empty(ctx, records)
    await update(ctx, ERASURES, id_, told, by_verb=True)
    sealed = ctx.kernel.sealer.seal(ctx.principal.tenant_id, _PURPOSE, texts.encode())
    people = [one for ids in person.values() for one in ids]
    place = {"texts": base64.b64encode(sealed).decode(), "people": people, "until": ctx.now.isoformat()}
    place["references"] = [name for name, ids in person.items() if ids]
    return Step({**place, "counts": counts}, done=sum(counts.values()))


async def _exports(ctx: Context, position: Mapping[str, Any]) -> Step:
    """Withdraws exports that began before the records were empty; later ones have nothing of the person."""
    until = datetime.fromisoformat(position["until"])
    gone = await withdraw_exports(ctx, position["people"], position["references"], max(until, ctx.now))
    counts = _added(position["counts"], "exports", gone)
    return Step({**position, "counts": counts, **({} if gone else {"exports": True, "place": 0})}, done=gone)


async def _recorded(ctx: Context, id_: str, position: Mapping[str, Any]) -> Step:
    """Goes on through what was recorded; when all is done, so is the erasure."""
    counts, place = position["counts"], position["place"]
    if place == len(PLACES):
        values = {"state": "done", "counts": counts, "finished_at": ctx.now}
        await update(ctx, ERASURES, id_, values, by_verb=True)
        return Step({"over": True})
    sealed = base64.b64decode(position["texts"])
    values = {
        "erasure": UUID(id_),
        "part": PLACES[place],
        "since": position.get("since"),
        "most": MOST,
        "replaced": _replaced(ctx),
        "pattern": ctx.kernel.sealer.unseal(ctx.principal.tenant_id, _PURPOSE, sealed).decode(),
    }
    (row,) = await ctx.fetch(_SWEEP, values)
    following = {**position, "since": row["following"], "counts": _added(counts, PLACES[place], row["changed"])}
    if row["following"] is None:
        following["place"] = place + 1
    return Step(following, done=row["changed"])


def _added(counts: Mapping[str, int], name: str, more: int) -> dict[str, int]:
    return {**counts, name: counts.get(name, 0) + more} if more else dict(counts)


def _replaced(ctx: Context) -> dict[str, dict[str, Any]]:
    """What stands in place of each field in what was recorded, by type of record."""
    resources = (*SUBJECTS.values(), *belonging(ctx.kernel.catalog), FILES)
    return {item.singular: {**_BESIDE, **replacements(item)} for item in resources}


ERASE = JobKind("erase_person", EraseJob, erase, permission="erasures:create")
