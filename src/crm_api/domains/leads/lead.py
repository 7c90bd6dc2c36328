"""Leads: people and companies that may become customers, and how likely that is."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.accounts.contact_points import (
    EmailList,
    PhoneInputList,
    PhoneList,
    addresses_of,
    numbers_of,
    stored_phones,
)
from crm_api.domains.leads.convert import ConvertRequest, convert, convertible
from crm_api.domains.leads.match_candidates import MATCH_CANDIDATES
from crm_api.domains.leads.qualification import DisqualifyRequest, disqualify, recycle
from crm_api.domains.territories.assign import BY_HAND
from crm_api.domains.territories.assignment import VOUCHED, Ruled, by_rules, ruled
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CustomValues
from crm_api.kernel.joints import ERASED
from crm_api.kernel.lifecycle import Lifecycle, edge
from crm_api.kernel.problems import INVALID, Fault, Problem
from crm_api.kernel.record import Entity, MoneyAmount, Owned, one_of, ownership, reference, sortable, sparse
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import (
    Count,
    Country,
    Currency,
    Id,
    Input,
    Instant,
    Language,
    Line,
    Money,
    Name,
    OwnedOutput,
    Paragraph,
    Ref,
    Tag,
    Url,
    Wire,
)

LIFECYCLE = Lifecycle(
    "status",
    "new",
    (
        edge("work", ("new",), "working", event="worked"),
        edge("qualify", ("working",), "qualified", event="qualified"),
        edge(
            "disqualify",
            ("new", "working", "qualified"),
            "disqualified",
            event="disqualified",
            run=disqualify,
            body=DisqualifyRequest,
        ),
        edge("recycle", ("disqualified",), "new", event="recycled", run=recycle),
        edge(
            "convert",
            ("qualified",),
            "converted",
            event="converted",
            run=convert,
            body=ConvertRequest,
            blocked=(convertible,),
        ),
    ),
)
PersonName = Annotated[str, Field(min_length=1, max_length=100)]
Score = Annotated[int, Field(ge=0, le=100, description="How likely business is.")]
Tags = Annotated[list[Tag], Field(max_length=50)]


class Utm(Wire):
    """The parameters of the address that the lead came by."""

    source: Name | None = None
    medium: Name | None = None
    campaign: Name | None = None
    term: Name | None = None
    content: Name | None = None


class Lead(Ruled, Owned, Entity):
    """Somebody that may become a customer."""

    __tablename__ = "leads"
    __table_args__ = (
        *ownership("leads"),
        *ruled("leads"),
        reference("converted_account_id", "accounts"),
        reference("converted_contact_id", "contacts"),
        reference("converted_opportunity_id", "opportunities"),
        one_of("status", LIFECYCLE.states),
        *sortable("leads", "name_key", "company_key", "score", "created_at"),
        sparse("leads", "converted_account_id"),
        sparse("leads", "converted_contact_id"),
        sparse("leads", "converted_opportunity_id"),
    )

    first_name: Mapped[str | None]
    last_name: Mapped[str | None]
    name_key: Mapped[str | None]
    company: Mapped[str | None]
    company_key: Mapped[str | None]
    title: Mapped[str | None]
    country: Mapped[str | None]
    website: Mapped[str | None]
    language: Mapped[str | None]
    source: Mapped[str | None]
    campaign: Mapped[str | None]
    utm: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    score: Mapped[int]
    estimate: Mapped[int | None] = mapped_column(MoneyAmount)
    currency: Mapped[str | None]
    description: Mapped[str | None]
    emails: Mapped[list[Any]]
    phones: Mapped[list[Any]]
    tags: Mapped[list[Any]]
    status: Mapped[str]
    disqualified_reason: Mapped[str | None]
    recycle_count: Mapped[int] = mapped_column(server_default="0")
    converted_at: Mapped[datetime | None]
    converted_account_id: Mapped[UUID | None]
    converted_contact_id: Mapped[UUID | None]
    converted_opportunity_id: Mapped[UUID | None]
    search_text: Mapped[str]


class LeadCreate(Input):
    """Somebody that may become a customer: a person, a company or both."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"last_name": "Zuse"}]})

    id: Id | None = None
    first_name: PersonName | None = None
    last_name: Annotated[PersonName | None, Field(description="Needed unless there is a company.")] = None
    company: Annotated[Name | None, Field(description="Needed unless there is a last name.")] = None
    title: Name | None = None
    country: Country | None = None
    website: Url | None = None
    language: Language | None = None
    source: Name | None = None
    campaign: Name | None = None
    utm: Utm | None = None
    score: Score = 0
    estimate: Annotated[Money | None, Field(description="What the business may be worth.")] = None
    currency: Currency | None = None
    description: Paragraph | None = None
    owner_id: Ref | None = None
    team_id: Ref | None = None
    emails: EmailList = []
    phones: PhoneInputList = []
    tags: Tags = []
    custom: CustomValues = {}


class LeadView(OwnedOutput):
    """Somebody that may become a customer."""

    object: Literal["lead"]
    first_name: PersonName | None
    last_name: PersonName | None
    company: Name | None
    title: Name | None
    country: Country | None
    website: Url | None
    language: Language | None
    source: Name | None
    campaign: Name | None
    utm: Utm | None
    score: Score
    estimate: Money | None
    currency: Currency | None
    description: Paragraph | None
    emails: EmailList | None
    phones: PhoneList | None
    tags: Tags
    status: Literal["new", "working", "disqualified", "qualified", "converted"]
    territory_rule_id: Annotated[Id | None, Field(description="The rule that gave it its territory.")]
    territory_pinned: Annotated[bool, Field(description="Rules leave its territory alone: it was decided by hand.")]
    disqualified_reason: Annotated[Line | None, Field(description="Why, while it is disqualified.")]
    recycle_count: Annotated[Count, Field(description="How often it was taken up again.")]
    converted_at: Instant | None
    converted_account_id: Id | None
    converted_contact_id: Id | None
    converted_opportunity_id: Id | None


async def _named(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """422 for a lead that is nobody: neither a person nor a company."""
    del ctx, resource
    both = {**(before or {}), **values}
    if not both.get("last_name") and not both.get("company"):
        detail = "A lead has a last name, a company or both."
        names = (
            ("last_name", "company") if before is None else tuple(n for n in ("last_name", "company") if n in values)
        )
        raise Problem(INVALID, detail, [Fault("required", detail, pointer=f"/{name}") for name in names])


LEADS = Resource(
    singular="lead",
    plural="leads",
    model=Lead,
    output=LeadView,
    history=True,
    create=LeadCreate,
    title="company",
    owner=Lead.owner_id,
    lifecycle=LIFECYCLE,
    actions=(MATCH_CANDIDATES, *BY_HAND),
    builds=(by_rules("country", "currency"),),
    vouched=VOUCHED,
    keys={"last_name": Lead.name_key, "company": Lead.company_key},
    search=("company", "last_name", "first_name", "emails"),
    values={"emails": addresses_of, "phones": numbers_of, "tags": list},
    derive={"phones": stored_phones},
    notices=("erased",),
    personal={
        "last_name": ERASED,
        **dict.fromkeys(("first_name", "company", "title", "country", "website", "source", "campaign", "utm")),
        **dict.fromkeys(("description", "disqualified_reason")),
        **{name: [] for name in ("emails", "phones", "tags")},
    },
    checks=(Check(frozenset(), _named, cleared=frozenset({"last_name", "company"})),),
    filters=(
        Lead.first_name,
        Lead.last_name,
        Lead.company,
        Lead.title,
        Lead.status,
        Lead.country,
        Lead.language,
        Lead.source,
        Lead.campaign,
        Lead.score,
        Lead.estimate,
        Lead.currency,
        Lead.owner_id,
        Lead.team_id,
        Lead.territory_id,
        Lead.territory_rule_id,
        Lead.territory_pinned,
        Lead.emails,
        Lead.phones,
        Lead.tags,
        Lead.recycle_count,
        Lead.converted_at,
        Lead.converted_account_id,
        Lead.converted_contact_id,
        Lead.converted_opportunity_id,
        Lead.created_at,
        Lead.updated_at,
    ),
    sorts=(Lead.last_name, Lead.company, Lead.score, Lead.created_at),
)
