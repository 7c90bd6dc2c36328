"""Opportunities: what an account may buy, how likely, when, and for how much."""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.opportunities.moving import (
    LIST_MOVES,
    MOVE,
    LoseRequest,
    ReopenRequest,
    WinRequest,
    lose,
    reopen,
    win,
)
from crm_api.domains.opportunities.opportunity_line import OpportunityLine
from crm_api.domains.opportunities.placement import place
from crm_api.domains.opportunities.stage import CATEGORIES, UNSAID, Category, Percent
from crm_api.domains.opportunities.stage_change import LatestChange, StageChange
from crm_api.domains.opportunities.worth import FOLLOWS, worth
from crm_api.domains.selling.line import MOST_LINES, LineInput, LineItem
from crm_api.domains.selling.opportunity import unsold
from crm_api.domains.territories.assign import ASSIGN_TERRITORY
from crm_api.kernel.customs import CustomValues
from crm_api.kernel.joints import Build, Parts
from crm_api.kernel.lifecycle import Lifecycle, edge
from crm_api.kernel.policy import through
from crm_api.kernel.record import (
    RATIO_SCALE,
    Entity,
    MoneyAmount,
    Owned,
    Ratio,
    one_of,
    ownership,
    reference,
    sortable,
    sparse,
)
from crm_api.kernel.resource import Resource, ToMany
from crm_api.kernel.schema import (
    Currency,
    Id,
    Input,
    Instant,
    Line,
    Money,
    Name,
    OwnedOutput,
    Paragraph,
    Quantity,
    Ref,
    Tag,
    Wire,
)

LIFECYCLE = Lifecycle(
    "status",
    "open",
    (
        edge("win", ("open",), "won", event="won", run=win, blocked=(win,), body=WinRequest),
        edge("lose", ("open",), "lost", event="lost", run=lose, blocked=(lose,), body=LoseRequest),
        edge("reopen", ("won", "lost"), "open", event="reopened", run=reopen, blocked=(reopen,), body=ReopenRequest),
    ),
)


class Criterion(Wire):
    """One line of a score card."""

    criterion: Name
    weight: Annotated[int, Field(ge=0, le=100)]
    score: Annotated[int, Field(ge=0, le=10)]


Tags = Annotated[list[Tag], Field(max_length=50)]
Competitors = Annotated[list[Name], Field(max_length=50)]
ScoreCard = Annotated[list[Criterion], Field(max_length=50)]
_AMOUNT = "What the lines come to without tax, when there are any; else as it is given."
_LINES = "At net prices of the day they are written; they need a currency, and the amount follows from them."
_TOLD_BY_LINES = frozenset({"amount", "currency"})
_AMOUNT_FOLLOWS = "lines_total IS NULL OR amount IS NOT DISTINCT FROM lines_total"
_CURRENCY_FOLLOWS = "lines_currency IS NULL OR currency IS NOT DISTINCT FROM lines_currency"


class Opportunity(Owned, Entity):
    """What an account may buy."""

    __tablename__ = "opportunities"
    __table_args__ = (
        *ownership("opportunities"),
        reference("account_id", "accounts"),
        reference("contact_id", "contacts"),
        reference("pipeline_id", "pipelines"),
        reference("stage_id", "stages"),
        one_of("status", LIFECYCLE.states),
        one_of("forecast_category", CATEGORIES),
        sa.CheckConstraint(_AMOUNT_FOLLOWS, name=f"_{FOLLOWS}", info={"fields": ["amount"]}),
        sa.CheckConstraint(_CURRENCY_FOLLOWS, name="_currency_follows_lines", info={"fields": ["currency"]}),
        *sortable("opportunities", "name_key", "account_id", "stage_id", "status", "close_date", "amount"),
        *sortable("opportunities", "created_at", "stage_entered_at"),
        *sortable("opportunities", "pipeline_id"),
        sparse("opportunities", "contact_id"),
    )

    name: Mapped[str]
    name_key: Mapped[str]
    account_id: Mapped[UUID]
    contact_id: Mapped[UUID | None]
    pipeline_id: Mapped[UUID]
    stage_id: Mapped[UUID]
    status: Mapped[str]
    amount: Mapped[int | None] = mapped_column(MoneyAmount)
    currency: Mapped[str | None]
    lines: Mapped[list[Any]] = mapped_column(server_default="[]")
    priced_on: Mapped[date | None] = mapped_column(sa.Date)
    lines_total: Mapped[int | None] = mapped_column(MoneyAmount)
    lines_currency: Mapped[str | None]
    probability: Mapped[int]
    forecast_category: Mapped[str]
    close_date: Mapped[date | None] = mapped_column(sa.Date)
    next_step: Mapped[str | None]
    next_step_on: Mapped[date | None] = mapped_column(sa.Date)
    competitors: Mapped[list[Any]]
    source: Mapped[str | None]
    lost_reason: Mapped[str | None]
    lost_to: Mapped[str | None]
    description: Mapped[str | None]
    score_card: Mapped[list[Any]]
    score: Mapped[int | None] = mapped_column(Ratio)
    tags: Mapped[list[Any]]
    stage_entered_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    latest_change: Mapped[list[Any]]
    search_text: Mapped[str]


class OpportunityCreate(Input):
    """What an account may buy. It begins in the stage that is named, else in the first open one of its pipeline."""

    id: Id | None = None
    name: Name
    account_id: Ref
    contact_id: Ref | None = None
    pipeline_id: Annotated[Ref | None, Field(description="The default pipeline, unless told.")] = None
    stage_id: Annotated[Ref | None, Field(description="A won or lost one takes the permission to win or lose.")] = None
    amount: Annotated[Money | None, Field(description=_AMOUNT)] = None
    currency: Currency | None = None
    lines: Annotated[list[LineInput], Field(max_length=MOST_LINES, description=_LINES)] = []
    probability: Percent = Field(default=UNSAID, description="In percent; that of the stage, unless told.")
    forecast_category: Category = Field(default=UNSAID, description="That of the stage, unless told.")
    close_date: date | None = None
    next_step: Line | None = None
    next_step_on: date | None = None
    competitors: Competitors = []
    source: Name | None = None
    description: Paragraph | None = None
    score_card: ScoreCard = []
    tags: Tags = []
    owner_id: Ref | None = None
    team_id: Ref | None = None
    custom: CustomValues = {}


class OpportunityView(OwnedOutput):
    """What an account may buy."""

    object: Literal["opportunity"]
    name: Name
    account_id: Id
    contact_id: Id | None
    pipeline_id: Id
    stage_id: Id
    status: Literal["open", "won", "lost"]
    amount: Annotated[Money | None, Field(description=_AMOUNT)]
    currency: Currency | None
    lines: Annotated[list[LineItem], Field(max_length=MOST_LINES)] | None
    priced_on: Annotated[date | None, Field(description="The day of the prices of its lines.")]
    probability: Annotated[Percent | None, Field(description="In percent. A move sets that of the new stage.")]
    forecast_category: Annotated[Category | None, Field(description="A move sets that of the new stage.")]
    close_date: date | None
    next_step: Line | None
    next_step_on: date | None
    competitors: Competitors | None
    source: Name | None
    lost_reason: Line | None
    lost_to: Name | None
    description: Paragraph | None
    score_card: ScoreCard | None
    score: Annotated[Quantity | None, Field(description="The mean of the score card by its weights, from 0 to 10.")]
    tags: Tags
    stage_entered_at: Instant
    closed_at: Instant | None


def _score(card: Any) -> dict[str, Any]:
    """The weighted mean in millionths, rounded down; None without weights."""
    weights = sum(line["weight"] for line in card or ())
    total = sum(line["weight"] * line["score"] for line in card or ())
    return {"score": total * RATIO_SCALE // weights if weights else None}


OPPORTUNITIES = Resource(
    singular="opportunity",
    plural="opportunities",
    model=Opportunity,
    output=OpportunityView,
    history=True,
    create=OpportunityCreate,
    owner=Opportunity.owner_id,
    rows=(through("account_id", "accounts"),),
    once=frozenset({"pipeline_id", "stage_id"}),
    lifecycle=LIFECYCLE,
    actions=(MOVE, LIST_MOVES, ASSIGN_TERRITORY),
    builds=(
        Build(frozenset({"account_id"}), unsold),
        Build(frozenset({"account_id"}), place),
        Build(frozenset({"account_id", "lines"}), worth),
    ),
    parts={
        "latest_change": Parts("stage_changes", StageChange, "opportunity_id", LatestChange, journal=True),
        "lines": Parts("opportunity_lines", OpportunityLine, "opportunity_id", LineItem, tells=_TOLD_BY_LINES),
    },
    keys={"name": Opportunity.name_key},
    search=("name",),
    values={"tags": list, "competitors": list},
    derive={"score_card": _score},
    within={"account_id": "opportunities"},
    many={"contacts": ToMany("opportunity_contacts", "opportunity_id")},
    filters=(
        Opportunity.name,
        Opportunity.account_id,
        Opportunity.contact_id,
        Opportunity.pipeline_id,
        Opportunity.stage_id,
        Opportunity.status,
        Opportunity.amount,
        Opportunity.currency,
        Opportunity.probability,
        Opportunity.forecast_category,
        Opportunity.close_date,
        Opportunity.priced_on,
        Opportunity.next_step_on,
        Opportunity.competitors,
        Opportunity.source,
        Opportunity.lost_reason,
        Opportunity.lost_to,
        Opportunity.score,
        Opportunity.tags,
        Opportunity.stage_entered_at,
        Opportunity.closed_at,
        Opportunity.owner_id,
        Opportunity.team_id,
        Opportunity.territory_id,
        Opportunity.created_at,
        Opportunity.updated_at,
    ),
    sorts=(
        Opportunity.name,
        Opportunity.amount,
        Opportunity.close_date,
        Opportunity.stage_entered_at,
        Opportunity.created_at,
    ),
)
