"""Long work: the row of a job, how one is started, and the answer that says where to follow it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column
from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel.context import Context
from crm_api.kernel.customs import veiled
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.domain import JobKind
from crm_api.kernel.headers import idempotency_key
from crm_api.kernel.idempotency import identify
from crm_api.kernel.lifecycle import Lifecycle, edge
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import LIMIT_REACHED, TRANSITION_REFUSED, Problem
from crm_api.kernel.projection import Json
from crm_api.kernel.record import Entity, one_of, sortable, table_of
from crm_api.kernel.repository import create
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Wire
from crm_api.kernel.unit_of_work import Work, write

MOST_WAITING, MOST_OF_ONE = 1_000, 250
"""Jobs that may stand in the queue: of a tenant, and of one principal, so that nobody keeps the others out."""
BELL = "jobs"
"""What a worker of this process is woken by."""

GRAPH = Lifecycle(
    "state",
    "queued",
    (
        edge("start", ("queued",), "running", event="started"),
        edge("give_back", ("running",), "queued", event="given_back"),
        edge("succeed", ("running",), "succeeded", event="succeeded"),
        edge("fail", ("running",), "failed", event="failed"),
        edge("cancel", ("queued", "running"), "cancelled", event="cancelled"),
        edge("retry", ("failed", "cancelled"), "queued", event="retried"),
    ),
)
"""People have the last two verbs, workers the others."""


def _where(state: str) -> Any:
    return sa.column("state") == sa.literal_column(f"'{state}'")


class Job(Entity):
    """Work that outlives the request which started it. `lease` is the token of the worker that has it."""

    __tablename__ = "jobs"
    __table_args__ = (
        one_of("state", GRAPH.states),
        one_of("actor", ("user", "service", "system")),
        sa.Index("ix_jobs_queue", "tenant_id", "run_at", "id", postgresql_where=_where("queued")),
        sa.Index("ix_jobs_running", "tenant_id", "id", postgresql_where=_where("running")),
        sa.Index("ix_jobs_failed", "tenant_id", "id", postgresql_where=_where("failed")),
        sa.Index("ix_jobs_finished_at", "finished_at", postgresql_where=sa.column("finished_at").is_not(None)),
        sa.Index("ix_jobs_created_by", "tenant_id", "created_by", "created_at", "id"),
        *sortable("jobs", "created_at"),
    )

    kind: Mapped[str]
    state: Mapped[str]
    done: Mapped[int] = mapped_column(server_default="0")
    expected: Mapped[int | None]
    parameters: Mapped[dict[str, Any]]
    position: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    problem: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    attempts: Mapped[int] = mapped_column(server_default="0")
    run_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    lease: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]
    credential_id: Mapped[UUID | None]
    scopes: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    actor: Mapped[str]
    request_id: Mapped[str]


_JOBS = table_of(Job)
_QUEUED = sa.select(_JOBS.c.created_by).where(_JOBS.c.tenant_id == TENANT, _where("queued")).limit(MOST_WAITING)
_MINE = sa.cast(_QUEUED.subquery("queued").c.created_by == sa.bindparam("me", type_=sa.Uuid()), sa.Boolean)
_WAITING = Statement(sa.select(sa.func.count(), sa.func.count().filter(_MINE)))


def resource_of(ctx: Context) -> Resource:
    """Jobs as the API shows them."""
    return ctx.kernel.catalog.by_table[_JOBS.name]


def trusted(ctx: Context) -> Context:
    """The same request or job with our own rights: nobody but this module and the worker writes jobs."""
    now = ctx.access
    access = Access(now.version, now.principal_id, now.kind, unrestricted=True, customs=now.customs)
    return replace(ctx, access=access, idempotency=None)


def permit(ctx: Context, kind: JobKind) -> None:
    """403 unless the caller holds the permission that the kind asks for."""
    if kind.permission is not None:
        plural, _, action = kind.permission.partition(":")
        ctx.require(ctx.kernel.catalog.resources[plural], action)


async def start(ctx: Context, kind: JobKind, body: Wire, *, at: datetime | None = None) -> dict[str, Any]:
    """Puts a job in the queue, in the open transaction if there is one; gives it as the API shows it.

    Args:
        ctx: the request; the job runs with the rights that its principal has by then, within the credential's scopes.
        kind: what is to be done; a worker must know it, so a domain declares it.
        body: the parameters, checked.
        at: not before this time.

    Raises:
        Problem: 403 without the kind's permission, 409 when too many jobs of the tenant or the principal wait.
    """
    permit(ctx, kind)
    waiting, mine = (await ctx.read(_WAITING, {"me": ctx.principal.id}))[0]
    if waiting >= MOST_WAITING or mine >= MOST_OF_ONE:
        most = f"{MOST_WAITING} jobs, and {MOST_OF_ONE} of one principal,"
        raise Problem(LIMIT_REACHED, f"At most {most} may wait; try again when some are done.")
    scopes = ctx.principal.scopes
    values = {
        "kind": kind.name,
        "state": GRAPH.initial,
        "done": 0,
        "attempts": 0,
        "parameters": body.model_dump(mode="json"),
        "run_at": at or ctx.now,
        "credential_id": ctx.principal.credential_id,
        "scopes": None if scopes is None else sorted(scopes),
        "actor": ctx.principal.kind,
        "request_id": ctx.request_id,
    }
    item = await create(trusted(ctx), resource_of(ctx), values)
    assert item is not None  # noqa: S101 - None is for idempotency keys, which `trusted` leaves out
    ctx.rings.add(BELL)
    if ctx.link is None:
        ctx.ring()
    return veiled(item, ctx.access.hides(resource_of(ctx).plural))


def place(item: Mapping[str, Any]) -> dict[str, str]:
    """The headers of a reply that is a started job."""
    return {"Location": f"/v1/jobs/{item['id']}", "Retry-After": "1"}


def accepted(item: dict[str, Any]) -> Response:
    """202 for a started job, from a hand-written route; an `Action` with status 202 answers so by itself."""
    return Json(item, 202, place(item))


async def begin(request: Request, ctx: Context, raw: bytes, work: Work) -> Response:
    """Starts a job, once for each idempotency key, and answers 202 with it."""
    if key := idempotency_key(request):
        ctx.idempotency = identify(ctx, key, "POST", request.scope["path"], raw)
    outcome = await write(ctx, work, 202, single=False)
    headers = place(outcome.item) | ({"Idempotency-Replayed": "true"} if outcome.replayed else {})
    return Json(outcome.item, outcome.status, headers)


def moved(row: Mapping[str, Any], verb: str) -> str:
    """The state that a verb leads to; 409 when the graph has no such edge from the present one."""
    found = GRAPH.edge(verb)
    assert found is not None  # noqa: S101 - verbs of ours
    if row["state"] not in found.sources:
        raise Problem(
            TRANSITION_REFUSED,
            f"The job is {row['state']}; {verb} takes {' or '.join(sorted(found.sources))}.",
            extra={"state": row["state"], "allowed_from": sorted(found.sources)},
        )
    return found.target
