"""The history of stages: each time an opportunity came to a stage, and what it was worth then."""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.policy import Access, through
from crm_api.kernel.record import Entity, MoneyAmount, reference, sortable, sparse
from crm_api.kernel.resource import READS, Resource
from crm_api.kernel.schema import Currency, Id, Instant, Money, Output, Wire


class StageChange(Entity):
    """An opportunity came to a stage. Written with the opportunity; never changed."""

    __tablename__ = "stage_changes"
    __table_args__ = (
        reference("opportunity_id", "opportunities"),
        reference("from_stage_id", "stages"),
        reference("to_stage_id", "stages"),
        *sortable("stage_changes", "opportunity_id", "to_stage_id", "at"),
        sparse("stage_changes", "from_stage_id"),
    )

    opportunity_id: Mapped[UUID]
    from_stage_id: Mapped[UUID | None]
    to_stage_id: Mapped[UUID]
    at: Mapped[datetime]
    amount: Mapped[int | None] = mapped_column(MoneyAmount)
    currency: Mapped[str | None]
    close_date: Mapped[date | None] = mapped_column(sa.Date)
    days_in_stage: Mapped[int | None]


class LatestChange(Wire):
    """What the opportunity itself keeps of it, so as to know where it came from."""

    from_stage_id: Id | None


class StageChangeView(Output):
    """An opportunity came to a stage; amount and date are those it had when it did."""

    object: Literal["stage_change"]
    opportunity_id: Id
    from_stage_id: Annotated[Id | None, Field(description="Null when it began.")]
    to_stage_id: Id
    at: Instant
    amount: Money | None
    currency: Currency | None
    close_date: date | None
    days_in_stage: Annotated[
        Annotated[int, Field(ge=0, le=100_000)] | None, Field(description="Whole days in the stage it left.")
    ]


def _mask(access: Access, item: dict[str, Any]) -> None:
    """Hides what is hidden of opportunities."""
    hidden = sorted(access.hides("opportunities") & {"amount", "currency", "close_date"})
    if hidden:
        item |= dict.fromkeys(hidden)
        item["redacted"] = sorted({*hidden, *item.get("redacted", ())})


STAGE_CHANGES = Resource(
    singular="stage_change",
    plural="stage_changes",
    model=StageChange,
    output=StageChangeView,
    title="id",
    rows=(through("opportunity_id", "opportunities"),),
    operations=READS,
    within={"opportunity_id": "stage_changes"},
    mask=_mask,
    filters=(
        StageChange.opportunity_id,
        StageChange.from_stage_id,
        StageChange.to_stage_id,
        StageChange.at,
        StageChange.created_by,
        StageChange.days_in_stage,
    ),
    sorts=(StageChange.at,),
)
