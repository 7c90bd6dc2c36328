"""`/v1/forecasts/accuracy`: what was forecast, beside what was closed in the end."""

from datetime import date
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy.dialects.postgresql import distinct_on

from crm_api.domains.identity.me import Current
from crm_api.domains.identity.principal import PRINCIPALS
from crm_api.domains.opportunities.forecast_quota import Period, begins, period_end
from crm_api.domains.opportunities.forecast_snapshot import FIELDS, FIGURES, FORECAST_SNAPSHOTS
from crm_api.domains.opportunities.opportunity import OPPORTUNITIES
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import Row, Statement
from crm_api.kernel.external import is_external, own_id
from crm_api.kernel.policy import Met
from crm_api.kernel.problems import QUERY_TOO_BROAD, Problem, forbidden, invalid_parameter
from crm_api.kernel.query import framed
from crm_api.kernel.schema import Count, Currency, Id, Ref, Total, money_text

router = APIRouter()
MOST_LINES = 1_000
MOST_PERIODS = 24
Which = Literal["first", "last", "all"]
_FROM, _UNTIL = (sa.bindparam(name, type_=sa.Date()) for name in ("start", "until"))
_PERIOD = sa.bindparam("period", type_=sa.Text())
_UNITS: dict[str, sa.ColumnElement[Any]] = {
    "month": sa.literal_column("'month'"),
    "quarter": sa.literal_column("'quarter'"),
}


class AccuracyLine(BaseModel):
    """What was forecast of a principal for a period on a day, and what came of it."""

    principal_id: Id
    period_start: date
    period_end: Annotated[date, Field(description="The first day after it.")]
    currency: Currency | None
    taken_on: date
    count: Count
    closed: Total
    commit: Total
    best_case: Total
    pipeline: Total
    weighted: Total
    quota: Total | None
    is_final: Annotated[bool, Field(description="The period is over.")]
    actual: Annotated[Total, Field(description="What is won and has its close date in the period.")]
    deviation: Annotated[Total, Field(description="Weighted less actual: above zero, too much was forecast.")]
    deviation_percent: Annotated[
        float | None, Field(description="Of what is actual, with one decimal; null where that is nothing.")
    ]


class Accuracy(BaseModel):
    """What was forecast, from snapshots that the caller sees, beside what is won of the opportunities they see."""

    object: Literal["forecast_accuracy"]
    period: Period
    data: Annotated[list[AccuracyLine], Field(max_length=MOST_LINES)]


def _won(ctx: Context, period: str) -> Any:
    table = OPPORTUNITIES.table
    day = sa.cast(table.c.close_date, sa.DateTime())
    start = sa.cast(sa.func.date_trunc(_UNITS[period], day), sa.Date()).label("start")
    return (
        sa.select(
            table.c.owner_id, table.c.currency, start, sa.func.sum(sa.cast(table.c.amount, sa.Numeric)).label("actual")
        )
        .where(
            *ctx.kernel.policy.gate(ctx.access, OPPORTUNITIES, "read", table, Met.ALL),
            table.c.status == sa.literal("won", sa.Text()),
            table.c.close_date >= _FROM,
            table.c.close_date < _UNTIL,
        )
        .group_by(table.c.owner_id, table.c.currency, start)
        .subquery("won")
    )


def _compile(ctx: Context, period: str, which: Which, *, of_one: bool) -> Statement:
    table, won = FORECAST_SNAPSHOTS.table, _won(ctx, period)
    names = ("period_start", "currency", "taken_on", "count", *FIGURES, "quota")
    group = (table.c.period_start, table.c.principal_id, table.c.currency)
    taken: Any = sa.select(table.c.principal_id, *(table.c[name] for name in names)).where(
        *ctx.kernel.policy.gate(ctx.access, FORECAST_SNAPSHOTS, "read", table),
        table.c.period == _PERIOD,
        table.c.period_start >= _FROM,
        table.c.period_start < _UNTIL,
        *([table.c.principal_id == sa.bindparam("principal", type_=sa.Uuid())] if of_one else []),
        *([table.c.taken_on >= table.c.period_start] if which != "all" else []),
    )
    if which != "all":
        taken = taken.ext(distinct_on(*group))
    newest = table.c.taken_on.desc() if which == "last" else table.c.taken_on.asc()
    taken = taken.order_by(*group, newest).limit(sa.literal_column(str(MOST_LINES + 1))).subquery("taken")
    same = sa.and_(
        won.c.owner_id == taken.c.principal_id,
        won.c.start == taken.c.period_start,
        won.c.currency.is_not_distinct_from(taken.c.currency),
    )
    rows = (
        sa.select(
            sa.cast(taken.c.principal_id, sa.Text()).label("principal_id"),
            *(taken.c[name] for name in names),
            sa.func.coalesce(won.c.actual, sa.literal_column("0")).label("actual"),
        )
        .select_from(sa.outerjoin(taken, won, same))
        .order_by(taken.c.period_start, taken.c.principal_id, taken.c.currency, taken.c.taken_on)
    )
    return framed(rows.lateral("page"))


@router.get(
    "/v1/forecasts/accuracy",
    operation_id="get_forecast_accuracy",
    summary="What was forecast, beside what was closed",
    responses={403: {}, 422: {}},
)
async def accuracy(
    ctx: Current,
    period: Annotated[Period, Query(description="How long one is.")],
    start: Annotated[date, Query(alias="from", description="The first day of the first one.")],
    periods: Annotated[int, Query(ge=1, le=MOST_PERIODS, description="How many from there.")] = 1,
    snapshots: Annotated[
        Which, Query(description="Of each period the first one taken in it, the last one, or all, those before it too.")
    ] = "first",
    principal_id: Annotated[Ref | None, Query(description="Only this principal.")] = None,
) -> Accuracy:
    """By period, person and currency, under the caller's policies; a field that it needs and that is hidden is 403."""
    ctx.require(FORECAST_SNAPSHOTS, "read")
    ctx.require(OPPORTUNITIES, "read")
    for resource, needed in ((OPPORTUNITIES, FIELDS), (FORECAST_SNAPSHOTS, ("currency", "quota", *FIGURES))):
        if hidden := sorted(ctx.access.hides(resource.plural).intersection(needed)):
            raise forbidden(f"field {resource.plural}.{hidden[0]}")
    if not begins(period, start):
        raise invalid_parameter("from", "not_first_day", f"No {period} begins on this day.")
    if start.year > 9_000:
        raise invalid_parameter("from", "too_late", "This is too far in the future.")
    until = start
    for _ in range(periods):
        until = period_end(period, until)
    values: dict[str, Any] = {"period": period, "start": start, "until": until}
    if principal_id is not None:
        if external := is_external(principal_id):
            ctx.access.through(PRINCIPALS)
        values["principal"] = str(await own_id(ctx, PRINCIPALS, principal_id)) if external else principal_id
    one = principal_id is not None
    shape = ("forecast_accuracy", period, snapshots, one)
    _, rows = await settled(ctx, shape, lambda: _compile(ctx, period, snapshots, of_one=one), values)
    found = [row for row in rows if row["principal_id"] is not None]
    if len(found) > MOST_LINES:
        raise Problem(QUERY_TOO_BROAD, f"There are more than {MOST_LINES} lines; name a principal or fewer periods.")
    return Accuracy(object="forecast_accuracy", period=period, data=[_line(ctx, period, row) for row in found])


def _line(ctx: Context, period: str, row: Row) -> AccuracyLine:
    end, actual = period_end(period, row["period_start"]), int(row["actual"])
    deviation = row["weighted"] - actual
    return AccuracyLine(
        **{name: row[name] for name in ("principal_id", "period_start", "currency", "taken_on", "count")},
        **{name: money_text(row[name]) for name in FIGURES},
        period_end=end,
        quota=None if row["quota"] is None else money_text(row["quota"]),
        is_final=end <= ctx.now.date(),
        actual=money_text(actual),
        deviation=money_text(deviation),
        deviation_percent=round(100 * deviation / actual, 1) if actual else None,
    )
