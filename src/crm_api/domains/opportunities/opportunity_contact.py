"""Contacts of an opportunity: who decides, who influences, who uses."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Mapped

from crm_api.kernel.policy import through
from crm_api.kernel.record import Entity, one_of, reference, sortable, unique
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Input, Output, Ref

Role = Literal["decision_maker", "influencer", "user", "blocker", "other"]
Influence = Annotated[int, Field(ge=0, le=100)]


class OpportunityContact(Entity):
    """A contact's part in an opportunity."""

    __tablename__ = "opportunity_contacts"
    __table_args__ = (
        reference("opportunity_id", "opportunities"),
        reference("contact_id", "contacts"),
        one_of("role", ("decision_maker", "influencer", "user", "blocker", "other")),
        unique("uq_opportunity_contacts_opportunity_id", "opportunity_id", "contact_id"),
        *sortable("opportunity_contacts", "contact_id", "created_at"),
    )

    opportunity_id: Mapped[UUID]
    contact_id: Mapped[UUID]
    role: Mapped[str]
    influence: Mapped[int | None]


class OpportunityContactCreate(Input):
    """Gives a contact a part in an opportunity."""

    id: Id | None = None
    opportunity_id: Ref
    contact_id: Ref
    role: Role
    influence: Annotated[Influence | None, Field(description="In percent.")] = None


class OpportunityContactView(Output):
    """A contact's part in an opportunity."""

    object: Literal["opportunity_contact"]
    opportunity_id: Id
    contact_id: Id
    role: Role
    influence: Annotated[Influence | None, Field(description="In percent.")]


OPPORTUNITY_CONTACTS = Resource(
    singular="opportunity_contact",
    plural="opportunity_contacts",
    model=OpportunityContact,
    output=OpportunityContactView,
    title="role",
    create=OpportunityContactCreate,
    rows=(through("opportunity_id", "opportunities"),),
    once=frozenset({"opportunity_id"}),
    within={"opportunity_id": "contacts"},
    filters=(
        OpportunityContact.opportunity_id,
        OpportunityContact.contact_id,
        OpportunityContact.role,
        OpportunityContact.influence,
    ),
    sorts=(OpportunityContact.created_at,),
)
