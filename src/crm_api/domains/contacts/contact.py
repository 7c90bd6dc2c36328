"""Contacts: people, their primary account, and further accounts by links."""

from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

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
from crm_api.domains.contacts.matching import CONTACT_DUPLICATES
from crm_api.domains.contacts.policy import THROUGH_LINKS
from crm_api.domains.duplicates.unmerge import MERGING, NOT_MERGED
from crm_api.domains.territories.assign import ASSIGN_TERRITORY
from crm_api.kernel.customs import CustomValues
from crm_api.kernel.joints import ERASED
from crm_api.kernel.policy import through
from crm_api.kernel.record import Entity, Owned, ownership, reference, sortable, sparse
from crm_api.kernel.resource import Check, Resource, ToMany
from crm_api.kernel.schema import Country, Id, Input, Instant, Language, Name, OwnedOutput, Paragraph, Ref, Tag, Wire
from crm_api.kernel.tree import acyclic

Tags = Annotated[list[Tag], Field(max_length=50)]


class Consent(Wire):
    """What the person agreed to, on which basis, with the evidence."""

    purpose: Annotated[str, Field(min_length=1, max_length=100)]
    basis: Literal["consent", "contract", "legitimate_interest", "legal_obligation"]
    channel: Literal["email", "phone", "sms", "letter", "any"] = "any"
    status: Literal["granted", "denied", "withdrawn"]
    evidence: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    at: Instant


class Contact(Owned, Entity):
    """A person."""

    __tablename__ = "contacts"
    __table_args__ = (
        *ownership("contacts"),
        reference("account_id", "accounts"),
        reference("reports_to_id", "contacts"),
        *sortable("contacts", "name_key", "created_at", "account_id"),
        sparse("contacts", "reports_to_id"),
    )

    first_name: Mapped[str | None]
    last_name: Mapped[str]
    name_key: Mapped[str]
    salutation: Mapped[str | None]
    title: Mapped[str | None]
    department: Mapped[str | None]
    account_id: Mapped[UUID | None]
    reports_to_id: Mapped[UUID | None]
    language: Mapped[str | None]
    birthday: Mapped[date | None] = mapped_column(sa.Date)
    do_not_contact: Mapped[bool] = mapped_column(server_default="false")
    source: Mapped[str | None]
    description: Mapped[str | None]
    country: Mapped[str | None]
    region: Mapped[str | None]
    city: Mapped[str | None]
    postal_code: Mapped[str | None]
    addresses: Mapped[list[Any]]
    emails: Mapped[list[Any]]
    phones: Mapped[list[Any]]
    tags: Mapped[list[Any]]
    consents: Mapped[list[Any]]
    search_text: Mapped[str]


class ContactCreate(Input):
    """A person; `account_id` is the primary account, further ones are linked by account_contacts."""

    id: Id | None = None
    first_name: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    last_name: Annotated[str, Field(min_length=1, max_length=100)]
    salutation: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    title: Name | None = None
    department: Name | None = None
    account_id: Ref | None = None
    reports_to_id: Ref | None = None
    language: Language | None = None
    birthday: date | None = None
    do_not_contact: bool = False
    source: Name | None = None
    description: Paragraph | None = None
    owner_id: Ref | None = None
    team_id: Ref | None = None
    addresses: AddressList = []
    emails: EmailList = []
    phones: PhoneInputList = []
    tags: Tags = []
    consents: Annotated[list[Consent], Field(max_length=100)] = []
    custom: CustomValues = {}


class ContactView(OwnedOutput):
    """A person."""

    object: Literal["contact"]
    first_name: Annotated[str, Field(max_length=100)] | None
    last_name: Annotated[str, Field(max_length=100)]
    salutation: Annotated[str, Field(max_length=40)] | None
    title: Name | None
    department: Name | None
    account_id: Id | None
    reports_to_id: Id | None
    language: Language | None
    birthday: date | None
    do_not_contact: bool
    source: Name | None
    description: Paragraph | None
    country: Country | None
    region: Annotated[str, Field(max_length=100)] | None
    city: Annotated[str, Field(max_length=100)] | None
    postal_code: Annotated[str, Field(max_length=20)] | None
    addresses: AddressList | None
    emails: EmailList | None
    phones: PhoneList | None
    tags: Tags
    consents: Annotated[list[Consent], Field(max_length=100)] | None


CONTACTS = Resource(
    singular="contact",
    plural="contacts",
    model=Contact,
    output=ContactView,
    history=True,
    create=ContactCreate,
    title="last_name",
    owner=Contact.owner_id,
    rows=(through("account_id", "accounts"), THROUGH_LINKS),
    keys={"last_name": Contact.name_key},
    search=("last_name", "first_name", "emails", "title"),
    values={"emails": addresses_of, "phones": numbers_of, "tags": list},
    derive={"addresses": primary_address, "phones": stored_phones},
    checks=(Check(frozenset({"reports_to_id"}), acyclic("reports_to_id")), NOT_MERGED),
    actions=(*MERGING, ASSIGN_TERRITORY),
    duplicates=CONTACT_DUPLICATES,
    many={"account_links": ToMany("account_contacts", "contact_id")},
    notices=("erased",),
    personal={
        "last_name": ERASED,
        **dict.fromkeys(("first_name", "salutation", "title", "department", "birthday", "source", "description")),
        **dict.fromkeys(("country", "region", "city", "postal_code")),
        **{name: [] for name in ("addresses", "emails", "phones", "tags", "consents")},
    },
    filters=(
        Contact.first_name,
        Contact.last_name,
        Contact.title,
        Contact.department,
        Contact.account_id,
        Contact.owner_id,
        Contact.team_id,
        Contact.territory_id,
        Contact.reports_to_id,
        Contact.language,
        Contact.birthday,
        Contact.do_not_contact,
        Contact.source,
        Contact.country,
        Contact.city,
        Contact.postal_code,
        Contact.emails,
        Contact.phones,
        Contact.tags,
        Contact.created_at,
        Contact.updated_at,
    ),
    sorts=(Contact.last_name, Contact.created_at),
)
