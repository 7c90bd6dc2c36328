"""Verb: give a person a link by which they set their password; shown once, good once, for minutes or some days."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api import settings as process
from crm_api.domains.identity.api_key import live_keys
from crm_api.domains.identity.delegation import for_good
from crm_api.domains.identity.role import act_as
from crm_api.domains.identity.tickets import Ticket
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.ledger import NOW
from crm_api.kernel.problems import CONFLICT, Problem, forbidden
from crm_api.kernel.record import Record, reference, table_of
from crm_api.kernel.repository import record
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Count, Instant, Wire

RESET_MINUTES = 30
"""How long a link is good that a person asks for."""


class PasswordLink(Record):
    """A link by which a person sets a password, once. No resource: it is read by who holds the link alone."""

    __tablename__ = "password_links"
    __table_args__ = (
        reference("principal_id", "principals"),
        sa.Index("ix_password_links_principal_id", "tenant_id", "principal_id"),
        sa.Index("ix_password_links_expires_at", "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    principal_id: Mapped[UUID]
    secret_hash: Mapped[bytes]
    created_at: Mapped[datetime]
    created_by: Mapped[UUID | None]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    revokes_keys: Mapped[bool] = mapped_column(server_default="false")
    mailed_to: Mapped[str | None]


class Invite(Wire):
    """How long the link is good, and what the new password ends."""

    minutes: Annotated[int, Field(ge=5, le=4320)] = RESET_MINUTES
    revoke_keys: Annotated[bool, Field(description="Whether the new password ends the user's API keys, too.")] = False


class PasswordLinkView(Wire):
    """The link. It is not shown again; a replayed reply leaves it out."""

    object: Literal["password_link"]
    link: Annotated[
        str | None,
        Field(max_length=500, description="To hand over by a way of your own; a path, unless CRM_PUBLIC_URL is set."),
    ] = None
    expires_at: Instant
    live_keys: Annotated[Count, Field(description="API keys of the user that are good now.")]


_LINKS = table_of(PasswordLink)
_COLUMNS = ("id", "principal_id", "secret_hash", "created_by", "expires_at", "revokes_keys", "mailed_to")
_INSERT = Statement(
    sa.insert(_LINKS).values(
        tenant_id=TENANT,
        created_at=NOW,
        **{name: sa.bindparam(name, type_=_LINKS.c[name].type) for name in _COLUMNS},
    )
)


async def new_link(
    ctx: Context, principal_id: UUID, minutes: int, *, revokes_keys: bool = False, mailed_to: str | None = None
) -> tuple[str, datetime]:
    """The address of a new link, and until when it is good; `mailed_to` is where it goes, and is shown to nobody else.

    Whoever uses such a link has shown that the e-mail address is theirs.
    """
    ticket, end = Ticket(ctx.principal.tenant_id, new_id()), ctx.now + timedelta(minutes=minutes)
    values = {"id": ticket.id, "principal_id": principal_id, "secret_hash": ticket.hash, "expires_at": end}
    values |= {"created_by": ctx.principal.id, "revokes_keys": revokes_keys, "mailed_to": mailed_to, "now": ctx.now}
    await ctx.fetch(_INSERT, values)
    return f"{process.load_settings().public_url or ''}/reset?token={ticket.text}", end


async def may_become(ctx: Context, principal_id: UUID) -> None:
    """403 unless whoever has the caller's credential may as well be the person: with all roles, scopes and for good."""
    for_good(ctx)
    if ctx.principal.scopes is not None:
        raise forbidden("credential without scopes")
    await act_as(ctx, principal_id)


async def invite(ctx: Context, resource: Resource, row: Any, body: Invite) -> dict[str, Any]:
    """Makes the link. The password that the person has goes on being good until they use it.

    Raises:
        Problem: 409 for an inactive person; 403 when the person may do more than the caller, or the caller's credential
            is bounded: whoever has the link can become the person.
    """
    if not row["is_active"]:
        raise Problem(CONFLICT, "The user is inactive.")
    id_ = UUID(str(row["id"]))
    await may_become(ctx, id_)
    link, end = await new_link(ctx, id_, body.minutes, revokes_keys=body.revoke_keys)
    await record(ctx, resource, row["id"], "invite", "invited", after={"expires_at": end.isoformat()})
    keys = len(await live_keys(ctx, id_))
    return {"object": "password_link", "link": link, "expires_at": end, "live_keys": keys}


INVITE = Action(
    "invite",
    "Give the user a link to set a password, shown once",
    invite,
    event="invited",
    body=Invite,
    reply=PasswordLinkView,
    status=201,
    private=frozenset({"link"}),
)
