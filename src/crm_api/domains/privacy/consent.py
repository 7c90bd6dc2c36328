"""The log of consents: what a person agreed to, or took back, on which basis, with the evidence. Only added to."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Mapped

from crm_api.domains.privacy.person import SOMEBODY, AboutPerson, PersonInput, PersonOutput, about_person
from crm_api.kernel.policy import through
from crm_api.kernel.record import Entity, one_of, reference, sortable, sparse
from crm_api.kernel.resource import READS, Resource
from crm_api.kernel.schema import Code, Id, Instant, Name, Paragraph, Ref

BASES = ("consent", "contract", "legal_obligation", "vital_interests", "public_task", "legitimate_interests")
"""The legal bases of GDPR, article 6 (1)."""
CHANNELS = ("email", "phone", "sms", "letter", "any")
Basis = Literal[BASES]  # type: ignore[valid-type]
Channel = Literal[CHANNELS]  # type: ignore[valid-type]
Status = Literal["granted", "withdrawn"]


class ConsentEntry(AboutPerson, Entity):
    """One thing that a person said. An erasure empties `evidence` and `source`; nothing else ever changes."""

    __tablename__ = "consents"
    __table_args__ = (
        *about_person("consents"),
        reference("file_id", "files"),
        one_of("basis", BASES),
        one_of("channel", CHANNELS),
        one_of("status", ("granted", "withdrawn")),
        *sortable("consents", "at", "created_at"),
        sparse("consents", "file_id"),
    )

    purpose: Mapped[str]
    basis: Mapped[str]
    channel: Mapped[str]
    status: Mapped[str]
    at: Mapped[datetime]
    evidence: Mapped[str | None]
    file_id: Mapped[UUID | None]
    source: Mapped[str | None]


class LoggedConsentCreate(PersonInput):
    """What the person said, about one purpose and one channel."""

    id: Id | None = None
    purpose: Annotated[Code, Field(description="What for, e.g. `newsletter`.", examples=["newsletter"])]
    basis: Annotated[Basis, Field(description="GDPR, article 6 (1).")] = "consent"
    channel: Channel = "any"
    status: Status
    at: Annotated[Instant, Field(description="When it was said.")]
    evidence: Annotated[Paragraph | None, Field(description="The words, or where they are kept.")] = None
    file_id: Annotated[Ref | None, Field(description="A file that shows it.")] = None
    source: Annotated[Name | None, Field(description="Where it came from, e.g. a form.")] = None


class LoggedConsentView(PersonOutput):
    """What the person said, about one purpose and one channel."""

    object: Literal["consent"]
    purpose: Code
    basis: Basis
    channel: Channel
    status: Status
    at: Instant
    evidence: Paragraph | None
    file_id: Id | None
    source: Name | None


CONSENTS = Resource(
    singular="consent",
    plural="consents",
    model=ConsentEntry,
    output=LoggedConsentView,
    create=LoggedConsentCreate,
    title="purpose",
    rows=(through("contact_id", "contacts"), through("lead_id", "leads")),
    builds=(SOMEBODY,),
    operations=READS | {"create"},
    notices=("updated",),
    within={"contact_id": "consents"},
    personal=dict.fromkeys(("evidence", "source")),
    filters=(
        ConsentEntry.contact_id,
        ConsentEntry.lead_id,
        ConsentEntry.purpose,
        ConsentEntry.basis,
        ConsentEntry.channel,
        ConsentEntry.status,
        ConsentEntry.at,
        ConsentEntry.created_by,
        ConsentEntry.created_at,
    ),
    sorts=(ConsentEntry.at, ConsentEntry.created_at),
)
