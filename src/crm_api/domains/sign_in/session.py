"""Sessions: a person signed in with a browser. Seen by themselves and by administrators, who may end them."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped

from crm_api.kernel.context import Context
from crm_api.kernel.joints import ERASED
from crm_api.kernel.problems import CONFLICT, Problem
from crm_api.kernel.record import Entity, reference, sortable
from crm_api.kernel.resource import READS, Action, Resource
from crm_api.kernel.schema import Id, Instant, Output


class Session(Entity):
    """A person signed in with a browser."""

    __tablename__ = "sessions"
    __table_args__ = (
        reference("principal_id", "principals"),
        *sortable("sessions", "principal_id", "created_at"),
        sa.Index("ix_sessions_expires_at", "expires_at"),
    )

    principal_id: Mapped[UUID]
    secret_hash: Mapped[bytes]
    methods: Mapped[list[Any]]
    address: Mapped[str]
    user_agent: Mapped[str]
    last_seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class SessionView(Output):
    """A person signed in with a browser."""

    object: Literal["session"]
    principal_id: Id
    methods: Annotated[
        list[Annotated[str, Field(max_length=20)]],
        Field(max_length=10, description="How they signed in (RFC 8176): `pwd`, `otp`; `ext` by another provider."),
    ]
    address: Annotated[str, Field(max_length=64, description="Where they signed in from.")]
    user_agent: Annotated[str, Field(max_length=200)]
    last_seen_at: Annotated[Instant, Field(description="Exact to a minute.")]
    expires_at: Annotated[Instant, Field(description="The latest end; it ends earlier when it is not used.")]
    revoked_at: Instant | None


async def revoke(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Ends a session, on every process with its next request."""
    del resource, body
    if row["revoked_at"] is not None:
        raise Problem(CONFLICT, "The session is ended already.")
    return {"revoked_at": ctx.now}


SESSIONS = Resource(
    singular="session",
    plural="sessions",
    model=Session,
    output=SessionView,
    title="user_agent",
    owner=Session.principal_id,
    filters=(Session.principal_id, Session.revoked_at),
    sorts=(Session.created_at,),
    operations=READS,
    notices=("started",),
    personal={"address": ERASED, "user_agent": ERASED},
    actions=(Action("revoke", "End the session", revoke, event="revoked"),),
)
