"""Runs jobs: claims them one by one, a few at once, and settles how each ended."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import orjson
import sqlalchemy as sa
import structlog
from pydantic import ValidationError
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel import metrics
from crm_api.kernel.context import Kernel
from crm_api.kernel.database import Database, Row, Statement, bound
from crm_api.kernel.jobs import BELL
from crm_api.kernel.problems import (
    INTERNAL,
    INVALID,
    TIMEOUT,
    AccessMoved,
    Problem,
    from_database,
    from_validation,
    unavailable,
)
from crm_api.kernel.running import Claim, HandBack, Run, Stopped, release
from crm_api.worker.loops import drain

log = structlog.get_logger("crm_api.jobs")
IDLE_SECONDS = 1.0
"""Between looks into an empty queue; a job that was started in this process wakes its worker."""
GRACE_SECONDS = 2.0
"""What a step gets to end in when the process stops; then it is undone."""
_TRIES = 4
_LONGEST_PAUSE = 300.0
_IDS = ("tenant_id", "id", "created_by", "credential_id")
_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    *(sa.column(name, sa.Text()) for name in (*_IDS, "kind", "request_id", "actor", "parameters", "stand", "scopes")),
    *(sa.column(name, sa.BigInteger()) for name in ("done", "expected", "attempts")),
)
_CLAIM = Statement(
    sa.select(
        *(
            sa.func.claim_job(
                sa.bindparam("token", type_=sa.Uuid()),
                sa.bindparam("seconds", type_=sa.Float()),
                sa.bindparam("known", type_=ARRAY(sa.Text())),
                sa.bindparam("busy", type_=ARRAY(sa.Uuid())),
            )
            .table_valued(*_COLUMNS, name="claimed")
            .c
        )
    )
)
_FIGURES = Statement(
    sa.select(
        *sa.func.job_figures()
        .table_valued(
            *(sa.column(name, sa.BigInteger()) for name in ("queued", "running", "failed")),
            sa.column("lag", sa.Float()),
            name="figures",
        )
        .c
    )
)


async def sample(database: Database) -> None:
    """Notes for /metrics how jobs of all tenants stand, as far as the functions of the owner tell."""
    (row,) = await database.fetch(None, _FIGURES, {})
    for state in ("queued", "running", "failed"):
        metrics.JOBS.labels(state).set(row[state])
    metrics.JOB_LAG.set(row["lag"])


@dataclass(eq=False)
class Jobs:
    """The jobs that run in this process.

    Attributes:
        kernel: whose catalog says which kinds there are; others are left to other processes.
        slots: how many run at once. The last free one is kept for a tenant that has none running here, so that nobody's
            long jobs keep everybody else's waiting.
        lease: seconds after which a worker that says nothing has lost its job.
    """

    kernel: Kernel
    slots: int
    lease: float
    _running: dict["asyncio.Task[None]", UUID] = field(default_factory=dict)
    _stopping: bool = False

    async def work(self) -> None:
        """Runs jobs until cancelled; then each ends, or is given back, within seconds."""
        try:
            await drain(self._next, idle=IDLE_SECONDS, wake=self.kernel.bell(BELL))
        finally:
            await self._stop()

    async def _next(self) -> bool:
        free = self.slots - len(self._running)
        if free <= 0 or not self.kernel.catalog.jobs:
            return False
        busy = set(self._running.values()) if free == 1 and self.slots > 1 else set()
        taking = asyncio.create_task(self._claim(busy))
        try:
            claim = await asyncio.shield(taking)
        except asyncio.CancelledError:  # nobody else would know of the claim until its lease has ended
            with suppress(Exception):
                if (claim := await asyncio.wait_for(taking, GRACE_SECONDS)) is not None:
                    await release(self.kernel, claim, counted=False)
            raise
        if claim is None:
            return False
        task = asyncio.create_task(self._run(claim))
        self._running[task] = claim.tenant_id
        task.add_done_callback(self._ended)
        return True

    async def _claim(self, busy: set[UUID]) -> Claim | None:
        token = uuid4()
        values = {"token": token, "seconds": self.lease, "known": [*self.kernel.catalog.jobs], "busy": bound(busy)}
        rows = await self.kernel.database.fetch(None, _CLAIM, values)
        return _claimed(rows[0], token) if rows else None

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.pop(task, None)
        self.kernel.bell(BELL).set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("job_lost", exc_info=error)

    async def _stop(self) -> None:
        self._stopping = True
        if self._running:
            await asyncio.wait(self._running, timeout=GRACE_SECONDS)
        left = [*self._running]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=2 * GRACE_SECONDS)

    async def _run(self, claim: Claim) -> None:
        try:
            await self._try(claim, {"job": str(claim.id), "kind": claim.kind, "tenant": str(claim.tenant_id)})
        except asyncio.CancelledError:  # the grace is over
            with suppress(Exception):
                await asyncio.wait_for(release(self.kernel, claim, counted=False), GRACE_SECONDS)
            raise

    async def _try(self, claim: Claim, names: dict[str, str]) -> None:
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(self.lease)
        run = Run(
            self.kernel,
            self.kernel.catalog.jobs[claim.kind],
            claim,
            self.lease,
            renewed=lambda: limit.reschedule(loop.time() + self.lease),
            stopping=lambda: self._stopping,
        )
        try:
            async with limit:
                await run.succeed(await _attempt(run))
            log.info("job_succeeded", **names)
        except HandBack:
            await self._settle(run, None, names)
        except Stopped:
            log.info("job_stopped", **names)
        except Exception as error:  # whatever a kind raises is the job's end, not the worker's
            problem = _problem(self.kernel, error, late=limit.expired())
            if problem.kind is INTERNAL:
                log.exception("job_broke", **names)
            await self._settle(run, problem, names)

    async def _settle(self, run: Run, problem: Problem | None, names: dict[str, str]) -> None:
        """Says how a try ended, as soon as the database listens; at the end of the lease the job is another's."""
        deadline = asyncio.get_running_loop().time() + self.lease
        pause = 0.1
        while asyncio.get_running_loop().time() < deadline:
            try:
                return await _record(run, problem, names)
            except Stopped:
                return None
            except Exception as error:  # noqa: BLE001 - the database is away
                log.warning("job_unsettled", **names, error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)
        return None


async def _record(run: Run, problem: Problem | None, names: dict[str, str]) -> None:
    if problem is None:
        await release(run.kernel, run.claim, counted=False)
        log.info("job_given_back", **names)
        return
    shown = _shown(problem)
    again = problem.kind.retryable or problem.kind is INTERNAL
    if again and run.attempts < run.kind.attempts:
        pause = min(2.0 ** (run.attempts - 1), _LONGEST_PAUSE) * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        await release(run.kernel, run.claim, pause, shown, counted=True)
        log.warning("job_postponed", **names, code=problem.kind.code, attempts=run.attempts)
    else:
        await run.fail(shown)
        log.warning("job_failed", **names, code=problem.kind.code, attempts=run.attempts)


async def _attempt(run: Run) -> Any:
    if run.attempts > run.kind.attempts:  # its worker was killed each time, so nobody could count
        raise _GaveUp
    body = run.kind.body.model_validate_json(run.claim.parameters)
    for _ in range(_TRIES):
        try:
            await run.context()
            return await run.kind.run(run, body)
        except AccessMoved:
            continue
    raise unavailable("Permissions are changing; try again.")


class _GaveUp(Exception):  # noqa: N818 - becomes a problem
    """The workers of the job died one after the other."""


def _problem(kernel: Kernel, error: Exception, *, late: bool) -> Problem:
    if late:
        return Problem(TIMEOUT, "No step was done, and no progress made, for as long as a lease lasts.")
    if isinstance(error, _GaveUp):
        return Problem(INTERNAL, "The worker of the job died each time, before a step was done.")
    if isinstance(error, Problem):
        return error
    if isinstance(error, ValidationError):
        faults = from_validation(error).errors
        return Problem(INVALID, "The parameters do not fit this version of the server.", faults)
    found = from_database(error, kernel.catalog.constraints)
    return found or Problem(INTERNAL, "The server failed. Report the job's id.")


def _shown(problem: Problem) -> dict[str, Any]:
    """A problem as it stands in a job: what a reply says, but for the request."""
    kind = problem.kind
    return {
        "type": f"/problems/{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail[:2000],
        "code": kind.code,
        "retryable": kind.retryable,
        "errors": [fault.wire() for fault in problem.errors[:100]],
    }


def _claimed(row: Row, token: UUID) -> Claim:
    ids = {name: UUID(str(row[name])) if row[name] else None for name in _IDS}
    scopes = orjson.loads(row["scopes"]) if row["scopes"] else None
    tenant_id, id_ = ids["tenant_id"], ids["id"]
    assert tenant_id is not None  # noqa: S101 - keys
    assert id_ is not None  # noqa: S101 - keys
    return Claim(
        tenant_id,
        id_,
        row["kind"],
        token,
        row["parameters"].encode(),
        orjson.loads(row["stand"]),
        row["done"],
        row["expected"],
        row["attempts"],
        row["actor"],
        ids["created_by"],
        ids["credential_id"],
        None if scopes is None else frozenset(scopes),
        row["request_id"],
    )
