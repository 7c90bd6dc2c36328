"""Forecast snapshots: what a forecast said on a day, kept to be compared with what came of it."""

from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.opportunities.forecast_quota import Period
from crm_api.kernel.policy import Access
from crm_api.kernel.record import Entity, MoneyAmount, one_of, reference, sortable
from crm_api.kernel.resource import READS, Resource
from crm_api.kernel.schema import Count, Currency, Id, Money, Output

FIGURES = ("closed", "commit", "best_case", "pipeline", "weighted")
FIELDS = ("amount", "currency", "probability", "forecast_category", "close_date")
"""Fields of opportunities that a forecast adds up."""


class ForecastSnapshot(Entity):
    """What the opportunities of a principal promised for a period on a day. Never changed."""

    __tablename__ = "forecast_snapshots"
    __table_args__ = (
        reference("principal_id", "principals"),
        one_of("period", ("month", "quarter")),
        sa.Index(
            "uq_forecast_snapshots_day",
            *("tenant_id", "period", "period_start", "principal_id", "currency", "taken_on"),
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=sa.column("deleted_at").is_(None),
        ),
        *sortable("forecast_snapshots", "principal_id", "period_start", "taken_on"),
    )

    principal_id: Mapped[UUID]
    period: Mapped[str]
    period_start: Mapped[date] = mapped_column(sa.Date)
    currency: Mapped[str | None]
    taken_on: Mapped[date] = mapped_column(sa.Date)
    count: Mapped[int]
    closed: Mapped[int] = mapped_column(MoneyAmount)
    commit: Mapped[int] = mapped_column(MoneyAmount)
    best_case: Mapped[int] = mapped_column(MoneyAmount)
    pipeline: Mapped[int] = mapped_column(MoneyAmount)
    weighted: Mapped[int] = mapped_column(MoneyAmount)
    quota: Mapped[int | None] = mapped_column(MoneyAmount)


class ForecastSnapshotView(Output):
    """What the opportunities of a principal promised for a period on a day; `created_at` is the moment."""

    object: Literal["forecast_snapshot"]
    principal_id: Id
    period: Period
    period_start: date
    currency: Currency | None
    taken_on: date
    count: Annotated[Count, Field(description="Of opportunities that were won or open.")]
    closed: Annotated[Money | None, Field(description="Won, or in this category.")]
    commit: Money | None
    best_case: Money | None
    pipeline: Money | None
    weighted: Annotated[Money | None, Field(description="Each amount by its probability; what is won counts in full.")]
    quota: Annotated[Money | None, Field(description="Of the principal, as it was.")]


def _mask(access: Access, item: dict[str, Any]) -> None:
    """Hides what is added up from something that is hidden of opportunities."""
    if access.hides("opportunities").intersection(FIELDS):
        item |= dict.fromkeys(FIGURES)
        item["redacted"] = sorted({*FIGURES, *item.get("redacted", ())})


FORECAST_SNAPSHOTS = Resource(
    singular="forecast_snapshot",
    plural="forecast_snapshots",
    model=ForecastSnapshot,
    output=ForecastSnapshotView,
    title="period",
    owner=ForecastSnapshot.principal_id,
    operations=READS,
    further=("take",),
    mask=_mask,
    filters=(
        ForecastSnapshot.principal_id,
        ForecastSnapshot.period,
        ForecastSnapshot.period_start,
        ForecastSnapshot.currency,
        ForecastSnapshot.taken_on,
        ForecastSnapshot.created_at,
    ),
    sorts=(ForecastSnapshot.period_start, ForecastSnapshot.taken_on),
)
