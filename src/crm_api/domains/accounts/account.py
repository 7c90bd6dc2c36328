"""Accounts: the companies and people one does business with."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.accounts.block import BLOCK, UNBLOCK
from crm_api.domains.accounts.contact_points import (
    AddressList,
    EmailList,
    PhoneInputList,
    PhoneList,
    addresses_of,
    numbers_of,
    primary_address,
    stored_phones,
)
from crm_api.domains.accounts.matching import ACCOUNT_DUPLICATES
from crm_api.domains.accounts.policy import IN_ACCOUNT_TEAM
from crm_api.domains.accounts.profile_history import PROFILE_HISTORY
from crm_api.domains.duplicates.unmerge import MERGING, NOT_MERGED
from crm_api.domains.territories.assign import BY_HAND
from crm_api.domains.territories.assignment import VOUCHED, Ruled, by_rules, ruled
from crm_api.kernel.customs import CustomValues
from crm_api.kernel.lifecycle import Lifecycle, edge
from crm_api.kernel.record import Entity, MoneyAmount, Owned, one_of, ownership, reference, sortable, sparse, unique
from crm_api.kernel.resource import Check, Resource, ToMany
from crm_api.kernel.schema import (
    Count,
    Country,
    Currency,
    Id,
    Input,
    Line,
    Money,
    Name,
    OwnedOutput,
    Paragraph,
    Ref,
    Tag,
    Url,
)
from crm_api.kernel.tree import acyclic

LIFECYCLE = Lifecycle(
    "status",
    "prospect",
    (
        edge("activate", ("prospect", "at_risk", "inactive"), "active", event="activated"),
        edge("mark_at_risk", ("active",), "at_risk", event="marked_at_risk"),
        edge("deactivate", ("prospect", "active", "at_risk"), "inactive", event="deactivated"),
    ),
)
Kind = Literal["customer", "prospect", "partner", "supplier", "reseller", "competitor"]
Level = Literal["low", "medium", "high"]
Tags = Annotated[list[Tag], Field(max_length=50)]


class Account(Ruled, Owned, Entity):
    """A company or person one does business with."""

    __tablename__ = "accounts"
    __table_args__ = (
        *ownership("accounts"),
        *ruled("accounts"),
        reference("parent_id", "accounts"),
        reference("price_book_id", "price_books"),
        reference("tax_profile_id", "tax_profiles"),
        one_of("status", LIFECYCLE.states),
        unique("uq_accounts_tax_id", "tax_id"),
        *sortable("accounts", "name_key", "created_at", "annual_revenue"),
        sparse("accounts", "parent_id"),
        sparse("accounts", "industry"),
        sparse("accounts", "price_book_id"),
        sparse("accounts", "tax_profile_id"),
    )

    name: Mapped[str]
    name_key: Mapped[str]
    legal_name: Mapped[str | None]
    tax_id: Mapped[str | None]
    type: Mapped[str]
    status: Mapped[str]
    is_blocked: Mapped[bool] = mapped_column(server_default="false")
    blocked_reason: Mapped[str | None]
    industry: Mapped[str | None]
    website: Mapped[str | None]
    domain: Mapped[str | None]
    employees: Mapped[int | None]
    annual_revenue: Mapped[int | None] = mapped_column(MoneyAmount)
    currency: Mapped[str | None]
    credit_limit: Mapped[int | None] = mapped_column(MoneyAmount)
    payment_terms: Mapped[str | None]
    price_book_id: Mapped[UUID | None]
    tax_profile_id: Mapped[UUID | None]
    source: Mapped[str | None]
    tier: Mapped[str | None]
    risk: Mapped[str | None]
    description: Mapped[str | None]
    parent_id: Mapped[UUID | None]
    country: Mapped[str | None]
    region: Mapped[str | None]
    city: Mapped[str | None]
    postal_code: Mapped[str | None]
    addresses: Mapped[list[Any]]
    emails: Mapped[list[Any]]
    phones: Mapped[list[Any]]
    tags: Mapped[list[Any]]
    interests: Mapped[list[Any]]
    habits: Mapped[list[Any]] = mapped_column(server_default="[]")
    search_text: Mapped[str]


class AccountCreate(Input):
    """A company or person one does business with."""

    id: Id | None = None
    name: Name
    legal_name: Name | None = None
    tax_id: Annotated[str, Field(min_length=2, max_length=40)] | None = None
    type: Kind = "prospect"
    industry: Name | None = None
    website: Url | None = None
    employees: Count | None = None
    annual_revenue: Money | None = None
    currency: Currency | None = None
    credit_limit: Money | None = None
    payment_terms: Name | None = None
    price_book_id: Annotated[Ref | None, Field(description="Where its prices are looked for first.")] = None
    tax_profile_id: Annotated[Ref | None, Field(description="How it is taxed; the default profile, unless told.")] = (
        None
    )
    source: Name | None = None
    tier: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    risk: Level | None = None
    description: Paragraph | None = None
    parent_id: Annotated[Ref | None, Field(description="The account this one belongs to.")] = None
    owner_id: Ref | None = None
    team_id: Ref | None = None
    addresses: AddressList = []
    emails: EmailList = []
    phones: PhoneInputList = []
    tags: Tags = []
    interests: Tags = []
    custom: CustomValues = {}
    habits: Annotated[Tags, Field(description="How it buys, e.g. `orders in spring`.")] = []


class AccountView(OwnedOutput):
    """A company or person one does business with."""

    object: Literal["account"]
    name: Name
    legal_name: Name | None
    tax_id: Annotated[str, Field(min_length=2, max_length=40)] | None
    type: Kind
    status: Literal["prospect", "active", "at_risk", "inactive"]
    is_blocked: bool
    blocked_reason: Line | None
    territory_rule_id: Annotated[Id | None, Field(description="The rule that gave it its territory.")]
    territory_pinned: Annotated[bool, Field(description="Rules leave its territory alone: it was decided by hand.")]
    industry: Name | None
    website: Url | None
    domain: Annotated[str, Field(max_length=253, description="From the website.")] | None
    employees: Count | None
    annual_revenue: Money | None
    currency: Currency | None
    credit_limit: Money | None
    payment_terms: Name | None
    price_book_id: Id | None
    tax_profile_id: Id | None
    source: Name | None
    tier: Annotated[str, Field(min_length=1, max_length=40)] | None
    risk: Level | None
    description: Paragraph | None
    parent_id: Id | None
    country: Annotated[
        Country | None, Field(description="Of the primary address, as are region, city and postal code.")
    ]
    region: Annotated[str, Field(max_length=100)] | None
    city: Annotated[str, Field(max_length=100)] | None
    postal_code: Annotated[str, Field(max_length=20)] | None
    addresses: AddressList | None
    emails: EmailList | None
    phones: PhoneList | None
    tags: Tags
    interests: Tags
    habits: Tags


def _domain(website: Any) -> dict[str, Any]:
    host = urlsplit(website).hostname if website else None
    return {"domain": host.removeprefix("www.") if host else None}


ACCOUNTS = Resource(
    singular="account",
    plural="accounts",
    model=Account,
    output=AccountView,
    history=True,
    create=AccountCreate,
    owner=Account.owner_id,
    rows=(IN_ACCOUNT_TEAM,),
    lifecycle=LIFECYCLE,
    actions=(BLOCK, UNBLOCK, PROFILE_HISTORY, *MERGING, *BY_HAND),
    builds=(by_rules("addresses", "industry", "employees", "annual_revenue", "currency"),),
    vouched=VOUCHED,
    keys={"name": Account.name_key},
    search=("name", "legal_name", "domain", "tax_id", "emails"),
    values={"emails": addresses_of, "phones": numbers_of, "tags": list, "interests": list, "habits": list},
    derive={"addresses": primary_address, "website": _domain, "phones": stored_phones},
    checks=(Check(frozenset({"parent_id"}), acyclic("parent_id")), NOT_MERGED),
    duplicates=ACCOUNT_DUPLICATES,
    many={
        "children": ToMany("accounts", "parent_id"),
        "contacts": ToMany("contacts", "account_id"),
        "opportunities": ToMany("opportunities", "account_id"),
        "quotes": ToMany("quotes", "account_id"),
        "orders": ToMany("orders", "account_id"),
    },
    filters=(
        Account.name,
        Account.type,
        Account.status,
        Account.is_blocked,
        Account.industry,
        Account.domain,
        Account.tax_id,
        Account.country,
        Account.region,
        Account.city,
        Account.postal_code,
        Account.owner_id,
        Account.team_id,
        Account.territory_id,
        Account.territory_rule_id,
        Account.territory_pinned,
        Account.parent_id,
        Account.tier,
        Account.risk,
        Account.source,
        Account.price_book_id,
        Account.tax_profile_id,
        Account.currency,
        Account.annual_revenue,
        Account.credit_limit,
        Account.employees,
        Account.emails,
        Account.phones,
        Account.tags,
        Account.interests,
        Account.habits,
        Account.created_at,
        Account.updated_at,
    ),
    sorts=(Account.name, Account.created_at, Account.annual_revenue),
)
