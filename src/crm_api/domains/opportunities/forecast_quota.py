"""Quotas: what a principal is to sell in a month or quarter."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.context import Context
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import Entity, MoneyAmount, one_of, reference, sortable, unique
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Currency, Id, Input, Money, Output, Ref

Period = Literal["month", "quarter"]
MONTHS: Mapping[str, int] = {"month": 1, "quarter": 3}


class ForecastQuota(Entity):
    """What a principal is to sell in a period."""

    __tablename__ = "forecast_quotas"
    __table_args__ = (
        reference("principal_id", "principals"),
        one_of("period", ("month", "quarter")),
        unique("uq_forecast_quotas_principal_id", "principal_id", "period", "period_start", "currency"),
        *sortable("forecast_quotas", "period_start", "created_at"),
    )

    principal_id: Mapped[UUID]
    period: Mapped[str]
    period_start: Mapped[date] = mapped_column(sa.Date)
    amount: Mapped[int] = mapped_column(MoneyAmount)
    currency: Mapped[str]


class ForecastQuotaCreate(Input):
    """What a principal is to sell in a period."""

    id: Id | None = None
    principal_id: Ref
    period: Period
    period_start: Annotated[date, Field(description="Its first day.")]
    amount: Money
    currency: Currency


class ForecastQuotaView(Output):
    """What a principal is to sell in a period."""

    object: Literal["forecast_quota"]
    principal_id: Id
    period: Period
    period_start: date
    amount: Money
    currency: Currency


def begins(period: str, day: date) -> bool:
    """Whether a month or quarter begins on this day."""
    return day.day == 1 and (day.month - 1) % MONTHS[period] == 0


def period_end(period: str, start: date) -> date:
    """The first day after a month or quarter."""
    months = start.month - 1 + MONTHS[period]
    return date(start.year + months // 12, months % 12 + 1, 1)


async def _first_day(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    del ctx, resource, before
    if not begins(values["period"], values["period_start"]):
        raise invalid("/period_start", "not_first_day", f"No {values['period']} begins on this day.")


FORECAST_QUOTAS = Resource(
    singular="forecast_quota",
    plural="forecast_quotas",
    model=ForecastQuota,
    output=ForecastQuotaView,
    title="period",
    create=ForecastQuotaCreate,
    owner=ForecastQuota.principal_id,
    once=frozenset({"principal_id", "period", "period_start", "currency"}),
    checks=(Check(frozenset({"period_start"}), _first_day),),
    filters=(
        ForecastQuota.principal_id,
        ForecastQuota.period,
        ForecastQuota.period_start,
        ForecastQuota.amount,
        ForecastQuota.currency,
    ),
    sorts=(ForecastQuota.period_start, ForecastQuota.created_at),
)
