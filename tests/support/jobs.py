"""Kinds of jobs for tests, and how one is started as a person: there is no kind in the product yet."""

import asyncio
import time
from contextlib import contextmanager
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field

from crm_api.kernel import jobs
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.domain import JobKind
from crm_api.kernel.running import Run, Step
from crm_api.kernel.schema import Name, Wire
from crm_api.kernel.unit_of_work import transact
from crm_api.worker.jobs import Jobs

FINAL = ("succeeded", "failed", "cancelled")


class Nothing(Wire):
    """No parameters."""


class Naming(Wire):
    """How many accounts to make, how slowly, under which name."""

    name: Name
    number: Annotated[int, Field(ge=0, le=10_000)] = 3
    pause: Annotated[float, Field(ge=0, le=60)] = 0.0


async def nothing(run: Run, body: Nothing) -> None:
    del run, body


async def make_accounts(run: Run, body: Naming) -> dict[str, Any]:
    """One account in each step, named after it; so a step that is done twice or never shows."""
    from crm_api.kernel.repository import create

    async def one(ctx: Context, position: Any) -> Step | None:
        number = position.get("number", 0)
        if number == body.number:
            return None
        accounts = ctx.kernel.catalog.resources["accounts"]
        values = {
            name: info.get_default(call_default_factory=True) for name, info in accounts.create.model_fields.items()
        }
        await create(ctx, accounts, {**values, "name": f"{body.name} {number}"}, given=["name"])
        if body.pause:
            await asyncio.sleep(body.pause)
        return Step({"number": number + 1}, expected=body.number)

    await run.steps(one)
    return {"made": run.done}


UNKNOWN = JobKind("wait_for_nothing", Nothing, nothing)
"""No worker knows it, so its jobs stay where they are."""
MAKE_ACCOUNTS = JobKind("make_accounts", Naming, make_accounts, permission="accounts:create", attempts=10)


async def context(person: Any) -> Context:
    """What a request of the person would have."""
    kernel = person.server.kernel
    principal = await kernel.authenticator.authenticate(f"Bearer {person.key}", "127.0.0.1")
    return Context(kernel, principal, await kernel.authenticator.access(principal), "request-of-a-test")


def start(person: Any, kind: JobKind, body: Wire, **options: Any) -> dict[str, Any]:
    """A job that the person started, as the API shows it."""

    async def work() -> dict[str, Any]:
        return await transact(await context(person), lambda ctx: jobs.start(ctx, kind, body, **options))

    return person.server.run(work())


_ENDED = Statement(
    sa.update(jobs.Job.__table__)
    .where(jobs.Job.tenant_id == TENANT, jobs.Job.id == sa.bindparam("id", type_=sa.Uuid()))
    .values(state=sa.literal("failed", sa.Text()), finished_at=sa.func.now())
)


def ended(person: Any, kind: JobKind = UNKNOWN) -> dict[str, Any]:
    """A job that has failed, for verbs that take one up again."""
    job = start(person, kind, Nothing())

    async def work() -> None:
        ctx = await context(person)
        await ctx.fetch(_ENDED, {"id": job["id"]})

    person.server.run(work())
    return person.get(f"/v1/jobs/{job['id']}").json()


@contextmanager
def working(server, *, slots=4, lease=5.0, kernel=None):
    """A worker on the server's loop while the block runs."""
    hands = Jobs(kernel or server.kernel, slots, lease)

    async def begin():
        return asyncio.create_task(hands.work())

    async def end():
        task.cancel()
        await asyncio.wait([task])

    task = server.run(begin())
    try:
        yield hands
    finally:
        server.run(end())


def get(person, job) -> dict:
    answer = person.get(f"/v1/jobs/{job['id']}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def wait(person, job, *states, seconds=15) -> dict:
    deadline = time.monotonic() + seconds
    while (found := get(person, job))["state"] not in (states or FINAL):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found
