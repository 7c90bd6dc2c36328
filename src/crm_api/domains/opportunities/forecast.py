"""`/v1/forecasts`: what a period may bring, by category, weighted, up the manager tree, against quota."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from crm_api.domains.identity.me import Current
from crm_api.domains.identity.principal import PRINCIPALS
from crm_api.domains.opportunities.forecast_quota import FORECAST_QUOTAS, Period, begins, period_end
from crm_api.domains.opportunities.forecast_snapshot import FIELDS
from crm_api.domains.opportunities.opportunity import OPPORTUNITIES
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import Row, Statement
from crm_api.kernel.external import is_external, own_id
from crm_api.kernel.policy import Met
from crm_api.kernel.problems import QUERY_TOO_BROAD, Problem, forbidden, invalid_parameter
from crm_api.kernel.query import framed
from crm_api.kernel.repository import find
from crm_api.kernel.schema import Count, Currency, Id, Ref, money_text

router = APIRouter()
MOST_LINES = 1_000
_MOST_ROWS = 20_000
_SHOWN = ("closed", "commit", "best_case", "pipeline")
_FROM, _UNTIL = (sa.bindparam(name, type_=sa.Date()) for name in ("start", "until"))
Total = Annotated[str, Field(max_length=40, pattern=r"^-?[0-9]+\.[0-9]{2,4}$", examples=["1234.50"])]


class Figures(BaseModel):
    """Of opportunities that are won or open; what is omitted from forecasts is in none of them."""

    count: Count
    closed: Annotated[Total, Field(description="Won, or in this category.")]
    commit: Total
    best_case: Total
    pipeline: Total
    weighted: Annotated[Total, Field(description="Each amount by its probability; what is won counts in full.")]


class ForecastLine(BaseModel):
    """What one principal may bring in one currency."""

    principal_id: Id
    manager_id: Id | None
    currency: Currency | None
    own: Annotated[Figures, Field(description="Of the opportunities that the principal owns.")]
    tree: Annotated[Figures, Field(description="Those and the ones of everybody below.")]
    quota: Annotated[Total | None, Field(description="Of the principal.")]


class Forecast(BaseModel):
    """What a period may bring, from the opportunities that the caller sees. Lines with nothing in them are left out."""

    object: Literal["forecast"]
    period: Period
    period_start: date
    period_end: Annotated[date, Field(description="The first day after it.")]
    data: Annotated[list[ForecastLine], Field(max_length=MOST_LINES)]


Key = tuple[str, str | None]
Sums = dict[str, int]


def _limited(rows: Any) -> Statement:
    return framed(rows.limit(sa.literal_column(str(_MOST_ROWS + 1))).lateral("page"))


def _sums(ctx: Context) -> Statement:
    """By owner, currency and category; a won opportunity is closed, whatever its category, and counts in full."""
    table = OPPORTUNITIES.table
    won = table.c.status == sa.literal("won", sa.Text())
    category = sa.case((won, sa.literal("closed", sa.Text())), else_=table.c.forecast_category).label("category")
    amount = sa.cast(table.c.amount, sa.Numeric)
    likely = sa.case((won, sa.literal_column("100")), else_=table.c.probability)
    owner = sa.cast(table.c.owner_id, sa.Text()).label("principal_id")
    rows = (
        sa.select(
            owner,
            table.c.currency,
            category,
            sa.func.count().label("count"),
            sa.func.sum(amount).label("amount"),
            sa.func.sum(amount * likely).label("weighted"),
        )
        .where(
            *ctx.kernel.policy.gate(ctx.access, OPPORTUNITIES, "read", table, Met.ALL),
            table.c.close_date >= _FROM,
            table.c.close_date < _UNTIL,
            table.c.status != sa.literal("lost", sa.Text()),
            table.c.owner_id.is_not(None),
            category != sa.literal("omitted", sa.Text()),
        )
        .group_by(owner, table.c.currency, category)
    )
    return _limited(rows)


def _people(ctx: Context) -> Statement:
    table = PRINCIPALS.table
    columns = [sa.cast(table.c[name], sa.Text()).label(name) for name in ("id", "manager_id")]
    return _limited(sa.select(*columns).where(*ctx.kernel.policy.gate(ctx.access, PRINCIPALS, "read", table)))


def _quotas(ctx: Context) -> Statement:
    table = FORECAST_QUOTAS.table
    rows = sa.select(
        sa.cast(table.c.principal_id, sa.Text()).label("principal_id"), table.c.currency, table.c.amount
    ).where(
        *ctx.kernel.policy.gate(ctx.access, FORECAST_QUOTAS, "read", table),
        table.c.period == sa.bindparam("period", type_=sa.Text()),
        table.c.period_start == _FROM,
    )
    return _limited(rows)


async def _read(ctx: Context, name: str, build: Any, values: dict[str, Any], key: str) -> list[Row]:
    _, rows = await settled(ctx, ("forecast", name), lambda: build(ctx), values)
    if len(rows) > _MOST_ROWS:
        raise Problem(QUERY_TOO_BROAD, f"There are more than {_MOST_ROWS} {name} to add up.")
    return [row for row in rows if row[key] is not None]


def _above(manager: dict[str, str | None], id_: str) -> Iterable[str]:
    """A principal and everybody above, nearest first, whom the caller sees."""
    seen: set[str] = set()
    at: str | None = id_
    while at is not None and at not in seen:
        seen.add(at)
        yield at
        at = manager.get(at)
        at = at if at in manager else None


def _figures(sums: Sums) -> Figures:
    shown = {name: money_text(sums.get(name, 0)) for name in _SHOWN}
    return Figures(count=sums.get("count", 0), weighted=money_text(sums.get("weighted", 0) // 100), **shown)


@router.get(
    "/v1/forecasts",
    operation_id="get_forecast",
    summary="What a period may bring, against quota",
    responses={403: {}, 422: {}},
)
async def forecast(
    ctx: Current,
    period: Annotated[Period, Query(description="How long it is.")],
    start: Annotated[date, Query(alias="from", description="Its first day.")],
    principal_id: Annotated[Ref | None, Query(description="Only this principal and everybody below.")] = None,
) -> Forecast:
    """By close date, under the caller's policies; a field that it adds up and that is hidden makes it 403."""
    ctx.require(OPPORTUNITIES, "read")
    ctx.access.through(PRINCIPALS)
    ctx.access.through(FORECAST_QUOTAS)
    for name in FIELDS:
        if name in ctx.access.hides(OPPORTUNITIES.plural):
            raise forbidden(f"field {OPPORTUNITIES.plural}.{name}")
    if "manager_id" in ctx.access.hides(PRINCIPALS.plural):
        raise forbidden(f"field {PRINCIPALS.plural}.manager_id")
    if not begins(period, start):
        raise invalid_parameter("from", "not_first_day", f"No {period} begins on this day.")
    if start.year > 9_000:
        raise invalid_parameter("from", "too_late", "This is too far in the future.")
    root = None if principal_id is None else await _root(ctx, principal_id)
    until = period_end(period, start)
    span = {"start": start, "until": until}
    own: dict[Key, Sums] = defaultdict(lambda: defaultdict(int))
    tree: dict[Key, Sums] = defaultdict(lambda: defaultdict(int))
    manager = {row["id"]: row["manager_id"] for row in await _read(ctx, "principals", _people, {}, "id")}
    for row in await _read(ctx, "sums", _sums, dict(span), "principal_id"):
        key = row["principal_id"], row["currency"]
        parts = {row["category"]: int(row["amount"] or 0), "weighted": int(row["weighted"] or 0), "count": row["count"]}
        for name, value in parts.items():
            own[key][name] += value
            for above in _above(manager, row["principal_id"]):
                tree[above, row["currency"]][name] += value
    quotas: dict[Key, int] = {
        (row["principal_id"], row["currency"]): row["amount"]
        for row in await _read(ctx, "quotas", _quotas, {"start": start, "period": period}, "principal_id")
    }
    keys = sorted(
        tree.keys() | quotas.keys(), key=lambda key: (len(list(_above(manager, key[0]))), key[0], key[1] or "")
    )
    keys = [key for key in keys if root is None or root in _above(manager, key[0])]
    if len(keys) > MOST_LINES:
        raise Problem(QUERY_TOO_BROAD, f"There are more than {MOST_LINES} lines; name a principal.")
    lines = [
        ForecastLine(
            principal_id=key[0],
            manager_id=manager.get(key[0]),
            currency=key[1],
            own=_figures(own.get(key, {})),
            tree=_figures(tree.get(key, {})),
            quota=money_text(quotas[key]) if key in quotas else None,
        )
        for key in keys
    ]
    return Forecast(object="forecast", period=period, period_start=start, period_end=until, data=lines)


async def _root(ctx: Context, principal_id: str) -> str:
    if is_external(principal_id):
        principal_id = str(await own_id(ctx, PRINCIPALS, principal_id))
    found = await find(ctx, PRINCIPALS, principal_id)
    if found is None:
        raise invalid_parameter("principal_id", "reference_not_found", "There is no such principal.")
    return str(found["id"])
