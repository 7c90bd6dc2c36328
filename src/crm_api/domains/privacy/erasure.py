"""Erasures: the proof that the data of a person was erased, without any of it."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.privacy.person import PersonInput
from crm_api.kernel.problems import CATALOGUE, Kind
from crm_api.kernel.record import Entity, one_of, sortable, unique_while
from crm_api.kernel.resource import READS, Resource
from crm_api.kernel.schema import Code, Count, Id, Instant, Output, Ref, Wire

BASES = ("request", "consent_withdrawn", "objection", "unlawful", "legal_obligation", "no_longer_needed")
"""Why data is erased: the cases of GDPR, article 17 (1)."""
STATES = ("running", "blocked", "done")
ERASURE_BLOCKED = CATALOGUE["erasure_blocked"] = Kind("erasure_blocked", 409, "The data has to be kept")
Basis = Literal[BASES]  # type: ignore[valid-type]
Reference = Annotated[
    str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._/#-]*$", min_length=1, max_length=40, examples=["DSR-2026-17"])
]
Names = Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=200)]
_WHY = "Why, by GDPR article 17 (1); `request`: the person wants it."
_DIGEST = (
    "HMAC-SHA256, with a key of the installation, of what was erased: whoever has the data from elsewhere can have it "
    "checked that it was this."
)


class Erasure(Entity):
    """One erasure. `objects` are the ids of the records and edits that it reaches, by which the function goes."""

    __tablename__ = "erasures"
    __table_args__ = (
        one_of("basis", BASES),
        one_of("state", STATES),
        unique_while("uq_erasures_object_id", "object_id", state="running"),
        sa.Index("ix_erasures_object_id", "tenant_id", "object_id", "id"),
        *sortable("erasures", "created_at"),
    )

    object_type: Mapped[str]
    object_id: Mapped[UUID]
    basis: Mapped[str]
    reference: Mapped[str | None]
    state: Mapped[str]
    job_id: Mapped[UUID | None]
    policy_id: Mapped[UUID | None]
    objects: Mapped[list[Any]] = mapped_column(server_default="[]")
    kinds: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    counts: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    digest: Mapped[str | None]
    finished_at: Mapped[datetime | None] = mapped_column()
    obstacles: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))


class ErasureRequest(PersonInput):
    """Whose data is to be erased, and why."""

    principal_id: Annotated[Ref | None, Field(description="A user who is inactive or deleted.")] = None
    basis: Annotated[Basis, Field(description=_WHY)] = "request"
    reference: Annotated[Reference | None, Field(description="Where the matter is filed, e.g. a ticket.")] = None


class ErasureObstacle(Wire):
    """Why the data of a person has to be kept."""

    code: Literal["legal_hold", "open_documents", "still_active", "owned_records", "last_administrator"]
    detail: Annotated[str, Field(max_length=500)]
    resource: Annotated[str, Field(max_length=63)]
    count: Count
    ids: Annotated[list[Id], Field(max_length=20, description="The first of them.")]


class ErasurePreview(Wire):
    """What an erasure would do."""

    object: Literal["erasure_preview"]
    obstacles: Annotated[list[ErasureObstacle], Field(max_length=20, description="None: it may be done.")]
    records: Annotated[dict[str, Count], Field(description="Records that lose their personal fields, by resource.")]
    kept: Annotated[dict[str, Count], Field(description="Issued documents, which stay as they are, by resource.")]


class ErasureView(Output):
    """The proof of an erasure: who, when, why, and how much of what, but nothing that was erased."""

    object: Literal["erasure"]
    object_type: Annotated[Code, Field(description="`contact`, `lead` or `user`.")]
    object_id: Id
    basis: Basis
    reference: Reference | None
    state: Literal["running", "blocked", "done"]
    job_id: Annotated[Id | None, Field(description="The job that does it.")]
    policy_id: Annotated[Id | None, Field(description="The retention policy that asked for it.")]
    kinds: Annotated[dict[str, Names], Field(description="By resource, the fields that had something in them.")]
    counts: Annotated[dict[str, Count], Field(description="Rows that were changed, by where they are.")]
    digest: Annotated[str, Field(min_length=64, max_length=64, description=_DIGEST)] | None
    finished_at: Instant | None
    obstacles: Annotated[list[ErasureObstacle], Field(max_length=20, description="Why it was blocked.")] | None


ERASURES = Resource(
    singular="erasure",
    plural="erasures",
    model=Erasure,
    output=ErasureView,
    title="basis",
    operations=READS,
    further=("create",),
    notices=("created", "updated"),
    filters=(
        Erasure.object_type,
        Erasure.object_id,
        Erasure.basis,
        Erasure.reference,
        Erasure.state,
        Erasure.policy_id,
        Erasure.created_by,
        Erasure.created_at,
    ),
    sorts=(Erasure.created_at,),
)
