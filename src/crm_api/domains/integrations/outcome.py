"""What became of deliveries: kept in one statement for all that were sent to an endpoint together.

| answer | delivery | endpoint |
|---|---|---|
| 2xx | delivered | the failures that ended before it are forgotten |
| anything else | due again by the schedule, failed after the tenth attempt | one failure more |
| 410 | due again when the endpoint is resumed | disabled |

After ten failures in a row nothing is sent for 30 s, then one delivery as a probe; each failed probe doubles the pause,
up to an hour. What was on its way when the pause began counts no further. A test, a resend, a replay, another address
and `resume` let the next probe go at once. The success that ends it makes what waited for another try due at once.
After 120 hours of failure the endpoint is paused. In a row is what ended one after the other: deliveries are sent
together and settled together, and a success may be settled after failures that came later. An endpoint that was paused
so is resumed once a day, for one probe; one that somebody has paused, or changed since, is not.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from crm_api.adapters.egress import Failure, Reply
from crm_api.domains.integrations.webhook_delivery import WebhookAttempt, WebhookDelivery, WebhookState
from crm_api.kernel.context import Context, Kernel
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.everywhere import due
from crm_api.kernel.lifecycle import Edge
from crm_api.kernel.record import table_of
from crm_api.kernel.repository import load, record, update
from crm_api.kernel.resource import Resource
from crm_api.kernel.unit_of_work import system, transact

SCHEDULE = (5, 300, 1800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds from each attempt to the next, give or take a tenth; the tenth attempt is the last."""
MOST_PATIENCE = 3600
"""Seconds that a Retry-After may ask for."""
BREAKS_AT = 10
PAUSES_AFTER = timedelta(hours=120)
TRIED_AGAIN_AFTER = timedelta(days=1)
GONE = 410
_DELIVERIES, _ATTEMPTS, _STATES = table_of(WebhookDelivery), table_of(WebhookAttempt), table_of(WebhookState)
Answer = Reply | Failure


@dataclass(slots=True)
class Sent:
    """A delivery that was taken, and each request made for it: (attempt id, when, what came back, the body)."""

    row: Row
    attempts: list[tuple[UUID, datetime, Answer, str]] = field(default_factory=list)
    suppressed: str | None = None

    @property
    def good(self) -> bool:
        """Whether the receiver took it."""
        return bool(self.attempts) and _good(self.attempts[-1][2])

    @property
    def ended(self) -> datetime:
        """When what became of it was known; only of one that was tried."""
        _, at, answer, _ = self.attempts[-1]
        return at + timedelta(milliseconds=answer.milliseconds)


def _good(answer: Answer) -> bool:
    return isinstance(answer, Reply) and 200 <= answer.status < 300


def delay(attempts: int, answer: Answer) -> timedelta | None:
    """When to try again after so many attempts; None after the last. A Retry-After may make it later."""
    if attempts > len(SCHEDULE):
        return None
    seconds = SCHEDULE[attempts - 1] * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, not a secret
    wanted = answer.retry_after if isinstance(answer, Reply) else None
    return timedelta(seconds=max(seconds, min(wanted or 0, MOST_PATIENCE)))


_RESULT = {
    "id": sa.Uuid(),
    "state": sa.Text(),
    "reason": sa.Text(),
    "tries": sa.BigInteger(),
    "due_at": sa.DateTime(timezone=True),
}
_TRY = {
    "id": sa.Uuid(),
    "delivery_id": sa.Uuid(),
    "at": sa.DateTime(timezone=True),
    "milliseconds": sa.BigInteger(),
    "status": sa.BigInteger(),
    "error": sa.Text(),
    "request": sa.Text(),
    "reply": sa.Text(),
}


def _rows(prefix: str, columns: dict[str, Any]) -> Any:
    arrays = (sa.bindparam(f"{prefix}_{name}", type_=ARRAY(type_)) for name, type_ in columns.items())
    named = (sa.column(name, type_) for name, type_ in columns.items())
    return sa.func.unnest(*arrays).table_valued(*named, name=prefix).render_derived()


_ENDPOINT = sa.bindparam("endpoint_id", type_=sa.Uuid())
_ONE: sa.ColumnElement[int] = sa.literal_column("1", sa.Integer())


def _pause(failures: Any) -> Any:
    """How long nothing is sent: 30 s after ten failures, twice as long after each probe that failed, up to an hour."""
    steps = sa.func.least(failures - sa.literal_column(str(BREAKS_AT)), sa.literal_column("7"))
    doubled: Any = sa.literal_column("30") * sa.func.power(sa.literal_column("2"), steps)
    seconds = sa.func.least(doubled, sa.literal_column("3600"))
    return sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _ago(name: str) -> Any:
    """When something was, from how many seconds ago; null for null. By the database's clock, since workers' differ."""
    seconds = sa.bindparam(name, type_=sa.Float())
    return sa.func.now() - sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _settle() -> Statement:
    result, tried = _rows("r", _RESULT), _rows("t", _TRY)
    now, pending = sa.func.now(), sa.literal("pending", sa.Text())
    finished = (
        sa.update(_DELIVERIES)
        .where(
            _DELIVERIES.c.tenant_id == TENANT,
            _DELIVERIES.c.id == result.c.id,
            _DELIVERIES.c.lease == sa.bindparam("worker", type_=sa.Uuid()),
        )
        .values(
            state=result.c.state,
            reason=result.c.reason,
            attempts=result.c.tries,
            version=_DELIVERIES.c.version + _ONE,
            due_at=sa.func.coalesce(result.c.due_at, _DELIVERIES.c.due_at),
            finished_at=sa.case((result.c.state == pending, sa.null()), else_=now),
            lease=sa.null(),
            lease_until=sa.null(),
        )
        .returning(_ONE)
        .cte("finished")
    )
    kept = (
        sa.insert(_ATTEMPTS)
        .from_select(
            ["tenant_id", "endpoint_id", *_TRY],
            sa.select(TENANT, _ENDPOINT, *(tried.c[name] for name in _TRY)).select_from(tried),
        )
        .returning(_ONE)
        .cte("kept")
    )
    bad, zero = sa.bindparam("bad", type_=sa.BigInteger()), sa.literal_column("0", sa.BigInteger())
    breaks: sa.ColumnElement[int] = sa.literal_column(str(BREAKS_AT))
    first, most = _ago("first_bad"), sa.func.least(bad, breaks)
    state = upsert(_STATES).values(
        tenant_id=TENANT,
        endpoint_id=_ENDPOINT,
        failures=most,
        failing_since=first,
        closed_until=sa.case((bad >= breaks, now + _pause(most)), else_=sa.null()),
    )
    known, closed = _STATES.c.failing_since, _STATES.c.closed_until
    newest = sa.func.coalesce(closed - _pause(_STATES.c.failures), known, sa.literal_column("'-infinity'"))
    ends = sa.func.coalesce(_ago("last_good") >= newest, sa.false())
    had: Any = _STATES.c.failures
    late = sa.func.coalesce(closed > now, sa.false())
    count = sa.case(
        (ends, most),
        (late, had),
        (had >= breaks, had + sa.func.least(bad, _ONE)),
        else_=sa.func.least(had + bad, breaks),
    )
    changed = state.on_conflict_do_update(
        index_elements=["tenant_id", "endpoint_id"],
        set_={
            "failures": count,
            "failing_since": sa.case((ends, first), else_=sa.func.coalesce(known, first)),
            "closed_until": sa.case(
                (sa.and_(ends, bad >= breaks), now + _pause(count)),
                (ends, sa.null()),
                (late, closed),
                (sa.and_(bad > zero, count >= breaks), now + _pause(count)),
                else_=closed,
            ),
        },
    ).returning(
        sa.literal_column("coalesce(old.failures, 0)", sa.BigInteger()).label("before"),
        sa.literal_column("new.failures", sa.BigInteger()).label("after"),
        _STATES.c.failing_since,
    )
    return Statement(changed.add_cte(finished, kept))


_SETTLE = _settle()
_HURRY = Statement(
    sa.update(_DELIVERIES)
    .where(
        _DELIVERIES.c.tenant_id == TENANT,
        _DELIVERIES.c.endpoint_id == _ENDPOINT,
        _DELIVERIES.c.state == sa.literal("pending", sa.Text()),
        _DELIVERIES.c.due_at > sa.func.now(),
    )
    .values(due_at=sa.func.now())
)


_REOPEN = Statement(
    sa.update(_STATES)
    .where(_STATES.c.tenant_id == TENANT, _STATES.c.endpoint_id == _ENDPOINT, _STATES.c.closed_until > sa.func.now())
    .values(closed_until=sa.func.now())
)


async def reopen(ctx: Context, endpoint_id: str) -> None:
    """Lets the next probe go at once, because somebody asks for it or has mended the receiver."""
    await ctx.fetch(_REOPEN, {"endpoint_id": endpoint_id})


async def settle(ctx: Context, target: Row, worker: UUID, sent: list[Sent]) -> None:
    """Keeps results and attempts, and what they say of the endpoint."""
    results = [_result(item) for item in sent]
    tries = [_tried(item.row, attempt) for item in sent for attempt in item.attempts]
    values: dict[str, Any] = {"worker": worker, "endpoint_id": target["id"], **_row(sent)}
    for prefix, columns, rows in (("r", _RESULT, results), ("t", _TRY, tries)):
        values |= {f"{prefix}_{name}": [row[i] for row in rows] for i, name in enumerate(columns)}
    (row,) = await ctx.fetch(_SETTLE, values)
    before, after = row["before"], row["after"]
    gone = any(isinstance(a[2], Reply) and a[2].status == GONE for item in sent for a in item.attempts)
    if gone:
        await _move(ctx, target, "disable")
    elif before < BREAKS_AT <= after:
        await _notice(ctx, target, "broken")
    elif after < BREAKS_AT <= before:
        await ctx.fetch(_HURRY, {"endpoint_id": target["id"]})
        await _notice(ctx, target, "recovered")
    elif row["failing_since"] is not None and row["failing_since"] < datetime.now(UTC) - PAUSES_AFTER:
        await _move(ctx, target, "pause")


def _row(sent: list[Sent]) -> dict[str, Any]:
    """The failures in a row at the end of what was sent, and seconds since the first of them and the last success."""
    tried = sorted((item for item in sent if item.attempts), key=lambda item: item.ended)
    now = datetime.now(UTC)
    good = [i for i, item in enumerate(tried) if item.good]
    bad = tried[good[-1] + 1 :] if good else tried
    last, first = tried[good[-1]] if good else None, bad[0] if bad else None
    ago = {
        name: None if item is None else max((now - item.ended).total_seconds(), 0.0)
        for name, item in (("last_good", last), ("first_bad", first))
    }
    return {"bad": len(bad), **ago}


def _result(sent: Sent) -> tuple[Any, ...]:
    id_, made = sent.row["id"], sent.row["attempts"]
    if sent.suppressed is not None:
        return id_, "suppressed", sent.suppressed, made, None
    if sent.good:
        return id_, "delivered", None, made + 1, None
    answer = sent.attempts[-1][2]
    later = delay(made + 1, answer)
    reason = f"HTTP {answer.status}" if isinstance(answer, Reply) else answer.text
    if later is None:
        return id_, "failed", reason, made + 1, None
    return id_, "pending", reason, made + 1, datetime.now(UTC) + later


def _tried(row: Row, attempt: tuple[UUID, datetime, Answer, str]) -> tuple[Any, ...]:
    id_, at, answer, body = attempt
    if isinstance(answer, Failure):
        return id_, row["id"], at, answer.milliseconds, None, answer.code, body, None
    text = answer.body.decode("utf-8", "replace").replace("\x00", "\ufffd")
    error = None if _good(answer) else f"http_{answer.status}"
    return id_, row["id"], at, answer.milliseconds, answer.status, error, body, text


async def _notice(ctx: Context, target: Row, past: str) -> None:
    """Tells of the endpoint's health by an event."""
    resource = _resource(ctx)
    by_system = system(ctx.kernel, ctx.principal.tenant_id, "webhooks")

    async def work(inner: Context) -> None:
        await record(inner, resource, target["id"], past, past)

    await transact(by_system, work)


_FAILED = due(
    sa.func.failed_endpoints(
        sa.bindparam("older_than", type_=sa.DateTime(timezone=True)), sa.bindparam("most", type_=sa.BigInteger())
    )
)


async def resume_failed(kernel: Kernel) -> int:
    """Resumes endpoints that their failures paused a day ago, in every tenant; one that fails still is paused again."""
    values = {"older_than": datetime.now(UTC) - TRIED_AGAIN_AFTER, "most": 1_000}
    rows = await kernel.database.fetch(None, _FAILED, values)
    for row in rows:
        await _move(system(kernel, UUID(row["tenant"]), "webhooks"), row, "resume")
    return len(rows)


async def _move(ctx: Context, target: Row, verb: str) -> None:
    """Moves the endpoint's state as its verb would; where that is not open any more, somebody else did it."""
    resource = _resource(ctx)
    assert resource.lifecycle is not None  # noqa: S101 - endpoints have one
    edge = resource.lifecycle.edge(verb)
    assert isinstance(edge, Edge)  # noqa: S101 - and it has this verb

    async def work(inner: Context) -> None:
        row = await load(inner, resource, str(target["id"]), verb)
        if row["status"] in edge.sources:
            events = ("updated", edge.event)
            values = {"status": edge.target}
            await update(inner, resource, str(target["id"]), values, action=verb, events=events, by_verb=True)

    await transact(system(ctx.kernel, ctx.principal.tenant_id, "webhooks"), work)


def _resource(ctx: Context) -> Resource:
    return ctx.kernel.catalog.resources["webhook_endpoints"]
