"""Takes snapshots of the forecasts of a tenant: once a week by the schedule, and by an administrator."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.dialects.postgresql import insert as upsert
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.opportunities.forecast_quota import FORECAST_QUOTAS, MONTHS, period_end
from crm_api.domains.opportunities.forecast_snapshot import FIGURES, FORECAST_SNAPSHOTS
from crm_api.domains.opportunities.opportunity import OPPORTUNITIES
from crm_api.kernel.context import Context, Kernel
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.headers import query
from crm_api.kernel.ledger import ACTOR, NOW
from crm_api.kernel.projection import Json
from crm_api.kernel.schema import Count
from crm_api.kernel.unit_of_work import permitted, system, transact

router = APIRouter()
PAGE = 100
_FROM, _UNTIL, _TODAY = (sa.bindparam(name, type_=sa.Date()) for name in ("start", "until", "today"))
_PERIOD = sa.bindparam("period", type_=sa.Text())
_ZERO: Any = sa.literal_column("0")
_LACKING = Statement(
    sa.select(
        sa.cast(
            sa.func.tenants_without_snapshots(
                sa.bindparam("since", type_=sa.Date()),
                sa.bindparam("after", type_=sa.Uuid()),
                sa.bindparam("most", type_=sa.BigInteger()),
            ),
            sa.Text(),
        ).label("id")
    )
)


class SnapshotsTaken(BaseModel):
    """What was taken."""

    object: Literal["forecast_snapshots_taken"]
    taken_on: date
    taken: Annotated[Count, Field(description="Snapshots made; those of this day that were there are not made again.")]


def periods(today: date) -> Iterable[tuple[str, date]]:
    """The month and quarter of a day, and the next ones."""
    for period, months in MONTHS.items():
        start = date(today.year, today.month - (today.month - 1) % months, 1)
        yield period, start
        yield period, period_end(period, start)


def _sums() -> Any:
    """By owner and currency, as `/v1/forecasts` adds them up."""
    table = OPPORTUNITIES.table
    won = table.c.status == sa.literal("won", sa.Text())
    category = sa.case((won, sa.literal("closed", sa.Text())), else_=table.c.forecast_category)
    amount = sa.cast(table.c.amount, sa.Numeric)
    likely = sa.case((won, sa.literal_column("100")), else_=table.c.probability)
    return (
        sa.select(
            table.c.owner_id,
            table.c.currency,
            sa.func.count().label("count"),
            *(
                sa.func.sum(amount).filter(category == sa.literal(name, sa.Text())).label(name)
                for name in FIGURES
                if name != "weighted"
            ),
            sa.func.floor(sa.func.sum(amount * likely) / sa.literal_column("100")).label("weighted"),
        )
        .where(
            table.c.tenant_id == TENANT,
            table.c.deleted_at.is_(None),
            table.c.close_date >= _FROM,
            table.c.close_date < _UNTIL,
            table.c.status != sa.literal("lost", sa.Text()),
            table.c.owner_id.is_not(None),
            category != sa.literal("omitted", sa.Text()),
        )
        .group_by(table.c.owner_id, table.c.currency)
        .subquery("sums")
    )


def _take() -> Statement:
    """Writes a snapshot of each principal who has opportunities or a quota in the period, in one statement."""
    table, sums = FORECAST_SNAPSHOTS.table, _sums()
    of = FORECAST_QUOTAS.table
    quotas = (
        sa.select(of.c.principal_id, of.c.currency, of.c.amount)
        .where(of.c.tenant_id == TENANT, of.c.deleted_at.is_(None), of.c.period == _PERIOD, of.c.period_start == _FROM)
        .subquery("quotas")
    )
    same = sa.and_(quotas.c.principal_id == sums.c.owner_id, quotas.c.currency == sums.c.currency)
    values = {
        "tenant_id": TENANT,
        "id": sa.func.uuidv7(),
        "principal_id": sa.func.coalesce(sums.c.owner_id, quotas.c.principal_id),
        "period": _PERIOD,
        "period_start": _FROM,
        "currency": sa.func.coalesce(sums.c.currency, quotas.c.currency),
        "taken_on": _TODAY,
        "count": sa.func.coalesce(sums.c.count, _ZERO),
        **{name: sa.cast(sa.func.coalesce(sums.c[name], _ZERO), sa.BigInteger()) for name in FIGURES},
        "quota": quotas.c.amount,
        **dict.fromkeys(("created_at", "updated_at"), NOW),
        **dict.fromkeys(("created_by", "updated_by"), ACTOR),
        "created_via": sa.bindparam("via", type_=sa.Text()),
    }
    rows = sa.select(*values.values()).select_from(sa.join(sums, quotas, same, full=True))
    insert = upsert(table).from_select(list(values), rows)
    return Statement(insert.on_conflict_do_nothing().returning(sa.literal_column("1")))


async def take_snapshots(ctx: Context) -> int:
    """Takes those of all principals of the tenant, whoever may see them, unless it was done this day; how many."""
    statement, today = ctx.kernel.statement(("take_snapshots",), _take), ctx.now.astimezone(UTC).date()

    async def work(inner: Context) -> int:
        taken = 0
        for period, start in periods(today):
            span = {"period": period, "start": start, "until": period_end(period, start), "today": today}
            by = {"now": inner.now, "actor": inner.principal.id, "via": inner.via}
            taken += len(await inner.fetch(statement, {**span, **by}))
        return taken

    result: int = await transact(ctx, work)
    return result


async def take_weekly_snapshots(kernel: Kernel) -> int:
    """Takes those of every tenant that has forecasts, but none taken since Monday; gives how many snapshots."""
    today = datetime.now(UTC).date()
    since, after, taken = today - timedelta(days=today.weekday()), UUID(int=0), 0
    failed: Exception | None = None
    while True:
        rows = await kernel.database.fetch(None, _LACKING, {"since": since, "after": after, "most": PAGE})
        for row in rows:
            after = UUID(row["id"])
            try:
                taken += await take_snapshots(system(kernel, after, "schedule"))
            except Exception as error:  # noqa: BLE001 - raised when the other tenants have theirs
                failed = error
        if len(rows) < PAGE:
            break
    if failed is not None:
        raise failed
    return taken


@router.post(
    "/v1/forecast_snapshots/take",
    name="take_forecast_snapshots",
    operation_id="take_forecast_snapshots",
    summary="Take snapshots of all forecasts now",
    response_model=SnapshotsTaken,
    responses={403: {}, 422: {}},
)
async def take(request: Request) -> Response:
    """Of this and the next month and quarter, of all principals; at most once a day, so it may be repeated."""
    ctx = await permitted(request, FORECAST_SNAPSHOTS, "take")
    query(request, ())
    taken = await take_snapshots(ctx)
    day = ctx.now.astimezone(UTC).date().isoformat()
    return Json({"object": "forecast_snapshots_taken", "taken_on": day, "taken": taken})
