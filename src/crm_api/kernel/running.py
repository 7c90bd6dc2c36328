"""What a job may ask while it runs: rights of its originator, steps that are done once, progress. And how it ends."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from crm_api.kernel.context import Context, Kernel, Principal
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.domain import JobKind
from crm_api.kernel.jobs import Job, permit, resource_of, trusted
from crm_api.kernel.problems import UNAUTHENTICATED, AccessMoved, Problem, from_database, unavailable
from crm_api.kernel.record import table_of
from crm_api.kernel.repository import update
from crm_api.kernel.unit_of_work import system, transact

T = TypeVar("T")
_TRIES = 4
_NEWEST = 2**62
"""An access version that no remembered rights have: they are read."""
VIA = "job"


class Stopped(Exception):  # noqa: N818 - not an error: somebody else decides what becomes of the job
    """The job is not this worker's any more: it was cancelled, or another worker took it after the lease ended."""


class HandBack(Stopped):
    """The process is to stop; the job goes on in another one."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job as a worker got it, under a token that no other worker has."""

    tenant_id: UUID
    id: UUID
    kind: str
    lease: UUID
    parameters: bytes
    position: dict[str, Any]
    done: int
    expected: int | None
    attempts: int
    actor: str
    created_by: UUID | None
    credential_id: UUID | None
    scopes: frozenset[str] | None
    request_id: str

    @property
    def principal(self) -> Principal:
        """The originator, with the credential that started the job."""
        return Principal(self.tenant_id, self.created_by, self.actor, self.credential_id, self.scopes)


@dataclass(frozen=True, slots=True)
class Step:
    """What a step came to.

    Attributes:
        position: where the next one begins, on whichever worker; JSON.
        done: how much it did.
        expected: how much there is to do in all, when that is known now.
    """

    position: Mapping[str, Any]
    done: int = 1
    expected: int | None = None


StepWork = Callable[[Context, Mapping[str, Any]], Awaitable[Step | None]]
"""(context in a transaction, position) -> what it came to, or None when nothing was left to do."""

_JOBS = table_of(Job)
_ID, _LEASE = sa.bindparam("id", type_=sa.Uuid()), sa.bindparam("lease", type_=sa.Uuid())
_MINE = (_JOBS.c.tenant_id == TENANT, _JOBS.c.id == _ID, _JOBS.c.lease == _LEASE)
_LATER = sa.func.clock_timestamp() + sa.bindparam("seconds", type_=sa.Interval())
_NOW = sa.func.clock_timestamp()
_ONE: sa.ColumnElement[int] = sa.literal_column("1")
_STAMP = {"version": _JOBS.c.version + _ONE, "updated_at": _NOW}


def _amount(name: str) -> Any:
    return sa.bindparam(name, type_=sa.BigInteger())


_HOLD = Statement(sa.select(_ONE).where(*_MINE).with_for_update(key_share=True))
_STEP = Statement(
    sa.update(_JOBS)
    .where(*_MINE)
    .values(
        done=_JOBS.c.done + _amount("more"),
        expected=sa.func.coalesce(_amount("expected"), _JOBS.c.expected),
        position=sa.bindparam("position", type_=JSONB()),
        attempts=_ONE,
        problem=sa.null(),
        lease_until=_LATER,
        **_STAMP,
    )
    .returning(_JOBS.c.done, _JOBS.c.expected)
)
_PROGRESS = Statement(
    sa.update(_JOBS)
    .where(*_MINE)
    .values(
        done=sa.func.greatest(_JOBS.c.done, _amount("done")),
        expected=sa.func.coalesce(_amount("expected"), _JOBS.c.expected),
        lease_until=_LATER,
        **_STAMP,
    )
    .returning(_JOBS.c.done, _JOBS.c.expected)
)
_RELEASE = Statement(
    sa.update(_JOBS)
    .where(*_MINE)
    .values(
        state=sa.literal_column("'queued'"),
        run_at=_LATER,
        lease=sa.null(),
        lease_until=sa.null(),
        attempts=sa.func.greatest(_JOBS.c.attempts - _amount("uncounted"), sa.literal_column("0")),
        problem=sa.func.coalesce(sa.bindparam("problem", type_=JSONB(none_as_null=True)), _JOBS.c.problem),
        **_STAMP,
    )
    .returning(_JOBS.c.id)
)
"""A lease is left empty by all that end it, so the token alone says that the job runs, and here."""


@dataclass
class Run:
    """A job while it runs here, for its kind's function.

    A kind that can be interrupted does its work in `steps`: each is one transaction, which keeps together what the step
    changes and where the job is then. A step that was committed is not done again, whatever becomes of the worker. A
    kind that must do all at once, or that only reads, says `progress` now and then. Either renews the lease; who does
    neither for the time of a lease loses the job.

    Attributes:
        position: where the job is, as its last step left it; empty at first.
        done: how much is done.
        expected: how much there is to do, if known.
    """

    kernel: Kernel
    kind: JobKind
    claim: Claim
    seconds: float
    renewed: Callable[[], None]
    stopping: Callable[[], bool]
    position: Mapping[str, Any] = field(init=False)
    done: int = field(init=False)
    expected: int | None = field(init=False)
    attempts: int = field(init=False)

    def __post_init__(self) -> None:
        """Takes up where the job is."""
        self.position, self.done, self.expected = self.claim.position, self.claim.done, self.claim.expected
        self.attempts = self.claim.attempts

    async def context(self) -> Context:
        """A context with the originator's rights as they are now, for what needs no step.

        Raises:
            Problem: 401 when the originator, or the credential that started the job, is not valid any more; 403 when
                the permission for this kind of job was taken away.
        """
        claim = self.claim
        if claim.actor == "system":  # started by the installation itself
            ctx = system(self.kernel, claim.tenant_id, VIA)
            ctx.request_id = claim.request_id
            return ctx
        principal = claim.principal
        try:
            access = await self.kernel.authenticator.access(principal, at_least=_NEWEST)
        except Problem:
            raise Problem(
                UNAUTHENTICATED, "Who started the job is not active any more, or the credential has ended."
            ) from None
        ctx = Context(self.kernel, principal, access, claim.request_id, via=VIA)
        permit(ctx, self.kind)
        return ctx

    async def steps(self, work: StepWork) -> None:
        """Does steps until one says that nothing is left."""
        while await self.step(work):
            pass

    async def step(self, work: StepWork) -> bool:
        """Does one step in a transaction, under rights read for it; gives whether another may follow.

        Raises:
            Stopped: the job was cancelled or is another worker's; nothing of the step was kept.
        """
        self._check()

        async def whole(inner: Context) -> tuple[Step | None, Row]:
            step = await work(inner, self.position)
            rows = await inner.fetch(_STEP, {**self._mine(), **self._after(step)})
            if not rows:
                raise Stopped
            return step, rows[0]

        for _ in range(_TRIES):
            try:
                step, row = await transact(await self.context(), whole)
            except AccessMoved:
                continue
            self.renewed()
            if step is not None:
                self.position = step.position
            self.done, self.expected, self.attempts = row["done"], row["expected"], 1
            self._check()
            return step is not None
        raise unavailable("Permissions are changing; try again.")

    async def progress(self, done: int, expected: int | None = None) -> None:
        """Says how much is done and, when known, of how much; `done` never falls.

        Raises:
            Stopped: the job was cancelled or is another worker's.
        """
        self._check()
        values = {**self._mine(), "done": done, "expected": expected}
        rows = await self.kernel.database.read(self.claim.tenant_id, _PROGRESS, values)  # may well be said twice
        if not rows:
            raise Stopped
        self.renewed()
        self.done, self.expected = rows[0]["done"], rows[0]["expected"]

    async def release(self, seconds: float = 0, problem: Mapping[str, Any] | None = None, *, counted: bool) -> None:
        """Puts the job back in the queue for in so many seconds; nothing happens when it is not this worker's."""
        await release(self.kernel, self.claim, seconds, problem, counted=counted)

    async def succeed(self, result: Mapping[str, Any] | None) -> None:
        """Ends it well."""
        await self._finish("succeed", "succeeded", result=dict(result or {}), problem=None)

    async def fail(self, problem: Mapping[str, Any]) -> None:
        """Ends it for good; whoever may retry it can take it up again."""
        await self._finish("fail", "failed", problem=dict(problem))

    async def _finish(self, verb: str, state: str, **values: Any) -> None:
        claim = self.claim
        ctx = system(self.kernel, claim.tenant_id, VIA)
        ctx.principal, ctx.request_id = claim.principal, claim.request_id
        whole = {"state": state, "finished_at": datetime.now(UTC), "lease": None, "lease_until": None, **values}

        async def work(inner: Context) -> None:
            if not await inner.fetch(_HOLD, self._mine()):
                raise Stopped
            events = ("updated", state)
            await update(trusted(inner), resource_of(inner), claim.id, whole, action=verb, events=events, by_verb=True)

        await transact(ctx, work)

    def _check(self) -> None:
        if self.stopping():
            raise HandBack

    def _mine(self) -> dict[str, Any]:
        return {"id": self.claim.id, "lease": self.claim.lease, "seconds": timedelta(seconds=self.seconds)}

    def _after(self, step: Step | None) -> dict[str, Any]:
        if step is None:
            return {"position": self.position, "more": 0, "expected": None}
        return {"position": step.position, "more": step.done, "expected": step.expected}


async def attempt(ctx: Context, work: Callable[[], Awaitable[T]]) -> T:
    """Does a part of a step that may be refused by itself: what it wrote is undone then, and the step can go on.

    Raises:
        Problem: why it was refused, also where the database says so. What a later try may mend ends the step, as ever.
    """
    assert ctx.link is not None  # noqa: S101 - a step is a transaction
    nets, moved = dict(ctx.nets), ctx.moved
    await ctx.link.execute("SAVEPOINT attempt")
    try:
        result = await work()
    except (Problem, asyncpg.PostgresError) as error:
        problem = error if isinstance(error, Problem) else from_database(error, ctx.kernel.catalog.constraints)
        if problem is None or problem.kind.status >= 500 or problem.kind.retryable:
            raise
        await ctx.link.execute("ROLLBACK TO SAVEPOINT attempt")
        ctx.nets, ctx.moved = nets, moved
        raise problem from error
    await ctx.link.execute("RELEASE SAVEPOINT attempt")
    return result


async def release(
    kernel: Kernel, claim: Claim, seconds: float = 0, problem: Mapping[str, Any] | None = None, *, counted: bool
) -> None:
    """Puts a claimed job back in the queue.

    Args:
        kernel: of the worker.
        claim: the job; nothing happens when it is another's by now.
        seconds: until it may be claimed again.
        problem: why, to be shown meanwhile; None leaves what is shown.
        counted: this was a try that counts.
    """
    values = {"id": claim.id, "lease": claim.lease, "seconds": timedelta(seconds=seconds)}
    values |= {"problem": problem, "uncounted": 0 if counted else 1}
    await kernel.database.fetch(claim.tenant_id, _RELEASE, values)
