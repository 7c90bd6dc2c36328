"""Legal holds: while one stands, its person is neither erased nor deleted by a retention policy."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Mapped

from crm_api.domains.privacy.person import SOMEBODY, SUBJECTS, AboutPerson, PersonInput, PersonOutput, about_person
from crm_api.kernel.joints import ERASED
from crm_api.kernel.record import Entity, sortable
from crm_api.kernel.resource import ALL, Resource
from crm_api.kernel.schema import Id, Line, Ref


class LegalHold(AboutPerson, Entity):
    """A reason to keep the data of a person, until it is deleted."""

    __tablename__ = "legal_holds"
    __table_args__ = (*about_person("legal_holds", SUBJECTS), *sortable("legal_holds", "created_at"))

    principal_id: Mapped[UUID | None]
    reason: Mapped[str]


class LegalHoldCreate(PersonInput):
    """A reason to keep the data of a person; to delete it lifts it."""

    id: Id | None = None
    principal_id: Annotated[Ref | None, Field(description="A user that it is about.")] = None
    reason: Annotated[Line, Field(description="Why, e.g. the file number of a lawsuit.")]


class LegalHoldView(PersonOutput):
    """A reason to keep the data of a person."""

    object: Literal["legal_hold"]
    principal_id: Id | None
    reason: Line


LEGAL_HOLDS = Resource(
    singular="legal_hold",
    plural="legal_holds",
    model=LegalHold,
    output=LegalHoldView,
    create=LegalHoldCreate,
    title="reason",
    builds=(SOMEBODY,),
    once=frozenset(SUBJECTS),
    operations=ALL,
    personal={"reason": ERASED},
    filters=(
        LegalHold.contact_id,
        LegalHold.lead_id,
        LegalHold.principal_id,
        LegalHold.created_by,
        LegalHold.created_at,
    ),
    sorts=(LegalHold.created_at,),
)
